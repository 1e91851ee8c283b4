package httpapi

import (
	"slices"
	"testing"
)

func TestTenant(t *testing.T) {
	h := newHarness(t)
	const path = "/v1/tenant"
	h.expect(h.request("GET", path, ""), 200, `{"owner_confirmation":false,"unknown_sender_days":90}`)
	for _, tt := range []struct{ body, want string }{
		{`{"owner_confirmation":true}`, `{"owner_confirmation":true,"unknown_sender_days":90}`},
		{`{"unknown_sender_days":7}`, `{"owner_confirmation":true,"unknown_sender_days":7}`},
		{`{}`, `{"owner_confirmation":true,"unknown_sender_days":7}`},
		{`{"owner_confirmation":null,"unknown_sender_days":null}`, `{"owner_confirmation":false,"unknown_sender_days":90}`},
	} {
		h.expect(h.request("PATCH", path, tt.body), 200, tt.want)
		h.expect(h.request("GET", path, ""), 200, tt.want)
	}
	for _, body := range []string{
		`{"unknown_sender_days":0}`, `{"unknown_sender_days":3651}`, `{"owner_confirmation":"maybe"}`, `{"name":"x"}`,
	} {
		h.expect(h.request("PATCH", path, body), 422, "")
	}
	const limited = `{"detail":"This API key is limited to one instance"}`
	key := bearer(h.newInstanceKey("instances:write"))
	h.expect(h.request("GET", path, "", key), 403, limited)
	h.expect(h.request("PATCH", path, `{"owner_confirmation":false}`, key), 403, limited)
}

func TestInstance_OwnerChannels(t *testing.T) {
	h := newHarness(t)
	path := "/v1/instances/" + h.instance
	for _, tt := range []struct {
		body string
		want []any
	}{
		{`{}`, []any{"telegram", "sms", "slack", "whatsapp"}},
		{`{"owner_channels":["slack","telegram","slack"]}`, []any{"telegram", "slack"}},
		{`{"name":"Support"}`, []any{"telegram", "slack"}},
		{`{"owner_channels":[]}`, []any{}},
		{`{"owner_channels":null}`, []any{"telegram", "sms", "slack", "whatsapp"}},
	} {
		got := h.request("PATCH", path, tt.body)
		h.expect(got, 200, "")
		if list := got.fields(t)["owner_channels"]; !equalLists(list, tt.want) {
			t.Errorf("owner_channels after %s = %v, want %v", tt.body, list, tt.want)
		}
	}
	h.expect(h.request("PATCH", path, `{"owner_channels":["email"]}`), 422, `{"detail":[{"type":"enum",
		"loc":["body","owner_channels",0],"msg":"Input should be 'telegram', 'sms', 'slack' or 'whatsapp'",
		"ctx":{"expected":"'telegram', 'sms', 'slack' or 'whatsapp'"}}]}`)
	h.expect(h.request("PATCH", path, `{"owner_channels":"slack"}`), 422, "")
	created := h.request("POST", "/v1/instances", `{"name":"Sales","owner_channels":["slack"]}`).fields(t)
	if !equalLists(created["owner_channels"], []any{"slack"}) {
		t.Errorf("owner_channels of a new instance = %v, want [slack]", created["owner_channels"])
	}
}

func equalLists(got any, want []any) bool {
	list, ok := got.([]any)
	return ok && slices.Equal(list, want)
}

func TestInstance_Events(t *testing.T) {
	h := newHarness(t)
	path := "/v1/instances/" + h.request("POST", "/v1/instances", `{"name":"Support"}`).fields(t)["id"].(string)
	defaults := []any{"message.received", "identity.verified"}
	for _, tt := range []struct {
		body string
		want []any
	}{
		{`{"name":"Sales"}`, defaults},
		{`{"events":["identity.opted_out","message.received","message.received"]}`, []any{
			"message.received", "identity.opted_out",
		}},
		{`{"name":"Support"}`, []any{"message.received", "identity.opted_out"}},
		{`{"events":[]}`, []any{}},
		{`{"events":null}`, defaults},
	} {
		if got := h.request("PATCH", path, tt.body); !equalLists(got.fields(t)["events"], tt.want) {
			t.Errorf("events after %s = %v, want %v", tt.body, got.body, tt.want)
		}
	}
	h.expect(h.request("PATCH", path, `{"events":["message.received","message.sent"]}`), 422, `{"detail":[{"type":"enum",
		"loc":["body","events",1],
		"msg":"Input should be 'message.received', 'identity.verified', 'identity.opted_out' or 'identity.opted_in'",
		"ctx":{"expected":"'message.received', 'identity.verified', 'identity.opted_out' or 'identity.opted_in'"}}]}`)
	h.expect(h.request("PATCH", path, `{"events":"message.received"}`), 422, "")
	created := h.request("POST", "/v1/instances", `{"name":"Sales","events":["identity.opted_in"]}`).fields(t)
	if !equalLists(created["events"], []any{"identity.opted_in"}) {
		t.Errorf("events = %v", created["events"])
	}
}
