package httpapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

func TestExportCustomer(t *testing.T) {
	h := newHarness(t)
	h.addEvents(1003, nil)
	h.store.Conversations = []gateway.CustomerConversation{
		{ID: unknownID, InstanceID: h.instance, Channel: "telegram", ExternalID: "12345"},
		{ID: unknownID, InstanceID: h.otherInstance, Channel: "telegram", ExternalID: "12345"},
	}
	for i := range int64(1001) {
		h.store.Received = append(h.store.Received, gateway.ReceivedMessage{
			Seq: i + 1, ID: unknownID, Kind: "media", Text: "<hello>", ReceivedAt: h.clock,
			Attachments: []gateway.ReceivedFile{{Kind: "image", Name: "a.jpg", Size: 7}},
			Content:     []adapters.Content{{Kind: adapters.Location, Latitude: 48.1, Title: "Town hall"}},
		})
	}
	h.store.Sent = []gateway.SentMessage{
		{Seq: 1, ID: unknownID, Text: "hi", Cause: "agent", Status: "sent", CreatedAt: h.clock},
	}
	h.store.Owners = []identity.Ownership{
		{
			IdentityID: h.tenantIdentity, Channel: "telegram", ExternalID: "12345", CustomerID: h.customer,
			Since: h.clock,
		},
	}
	read := func(headers ...string) (e exportResponse) {
		t.Helper()
		got := h.request("GET", "/v1/customers/"+h.customer+"/export", "", headers...)
		if err := json.Unmarshal([]byte(got.body), &e); err != nil || got.status != 200 ||
			got.header.Get("Content-Disposition") != `attachment; filename="customer-`+h.customer+`.json"` {
			t.Fatalf("export = %d, %v, header %v", got.status, err, got.header)
		}
		return e
	}
	e := read()
	if len(e.Withheld) != 0 || e.Customer.ID != h.customer || len(e.Identities) != 3 || len(e.History) != 1 ||
		len(e.Conversations) != 2 ||
		len(e.Audit) != 1003 ||
		!e.ExportedAt.Equal(h.clock) {
		t.Errorf(
			"export has %d identities, %d owners, %d conversations, %d events", len(e.Identities), len(e.History),
			len(e.Conversations), len(e.Audit),
		)
	}
	if c := e.Conversations[0]; len(c.Received) != 1001 || len(c.Sent) != 1 || c.Received[7].Text != "<hello>" ||
		*c.Received[7].Attachments[0].Filename != "a.jpg" || *c.Received[7].Content[0].Latitude != 48.1 ||
		c.Received[7].Content[0].Title != "Town hall" || c.Received[7].StartPayload != nil ||
		c.Received[7].SentAt != nil {
		t.Errorf("conversation has %d received and %d sent messages", len(c.Received), len(c.Sent))
	}
	if e := read(bearer(h.newInstanceKey(
		"customers:read", "identities:read", "messages:read",
	))); len(e.Identities) != 2 || len(e.Conversations) != 1 || e.Conversations[0].InstanceID != h.instance {
		t.Errorf(
			"a key limited to an instance gets %d identities and %d conversations", len(e.Identities),
			len(e.Conversations),
		)
	}
	for scope, withheld := range map[string]string{
		"identities:read": "[conversations audit]",
		"messages:read":   "[identities history audit]",
		"audit:read":      "[identities history conversations]",
		"keys:read":       "[identities history conversations audit]",
	} {
		e := read(bearer(h.newKey(identity.APIKey{
			TenantID: identity.DefaultTenant, Scopes: []string{"customers:read", scope},
		})))
		sizes := map[string]int{
			"identities": len(e.Identities), "history": len(e.History), "conversations": len(e.Conversations),
			"audit": len(e.Audit),
		}
		for part, n := range sizes {
			if slices.Contains(e.Withheld, part) != (n == 0) {
				t.Errorf("scope %s: %d rows in %s", scope, n, part)
			}
		}
		if fmt.Sprint(e.Withheld) != withheld || e.Customer.ID != h.customer {
			t.Errorf("scope %s: withheld = %v, want %s", scope, e.Withheld, withheld)
		}
	}
	h.expect(
		h.request("GET", "/v1/customers/"+h.customer+"/export", "", bearer(h.foreignToken)),
		404,
		`{"detail":"Customer not found"}`,
	)
}
