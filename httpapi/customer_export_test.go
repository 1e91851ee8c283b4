package httpapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"hydragate/gateway"
	"hydragate/identity"
)

func TestExportCustomer(t *testing.T) {
	w := newHarness(t)
	w.addEvents(1003, nil)
	w.store.data.conversations = []gateway.CustomerConversation{{ID: unknownID, InstanceID: w.instance, Channel: "telegram", ExternalID: "12345"}, {ID: unknownID, InstanceID: w.otherInstance, Channel: "telegram", ExternalID: "12345"}}
	for i := range int64(1001) {
		w.store.data.received = append(w.store.data.received, gateway.ReceivedMessage{Seq: i + 1, ID: unknownID, Kind: "media", Text: "<hello>", ReceivedAt: w.clock, Attachments: []gateway.ReceivedFile{{Kind: "image", Name: "a.jpg", Size: 7}}})
	}
	w.store.data.sent = []gateway.SentMessage{{Seq: 1, ID: unknownID, Text: "hi", Cause: "agent", Status: "sent", CreatedAt: w.clock}}
	w.store.data.owners = []identity.Ownership{{IdentityID: w.tenantIdentity, Channel: "telegram", ExternalID: "12345", CustomerID: w.customer, Since: w.clock}}
	read := func(headers ...string) (e exportResponse) {
		t.Helper()
		got := w.request("GET", "/v1/customers/"+w.customer+"/export", "", headers...)
		if err := json.Unmarshal([]byte(got.body), &e); err != nil || got.status != 200 || got.header.Get("Content-Disposition") != `attachment; filename="customer-`+w.customer+`.json"` {
			t.Fatalf("%d %v %v", got.status, err, got.header)
		}
		return e
	}
	e := read()
	if len(e.Withheld) != 0 || e.Customer.ID != w.customer || len(e.Identities) != 3 || len(e.History) != 1 || len(e.Conversations) != 2 || len(e.Audit) != 1003 || !e.ExportedAt.Equal(w.clock) {
		t.Errorf("%d identities, %d owned, %d conversations, %d events", len(e.Identities), len(e.History), len(e.Conversations), len(e.Audit))
	}
	if c := e.Conversations[0]; len(c.Received) != 1001 || len(c.Sent) != 1 || c.Received[7].Text != "<hello>" || *c.Received[7].Attachments[0].Filename != "a.jpg" || c.Received[7].SentAt != nil {
		t.Errorf("%d received, %d sent", len(c.Received), len(c.Sent))
	}
	if e := read(bearer(w.newInstanceKey("customers:read", "identities:read", "messages:read"))); len(e.Identities) != 2 || len(e.Conversations) != 1 || e.Conversations[0].InstanceID != w.instance {
		t.Errorf("a limited key gets %d identities and %d conversations", len(e.Identities), len(e.Conversations))
	}
	for scope, withheld := range map[string]string{
		"identities:read": "[conversations audit]", "messages:read": "[identities history audit]", "audit:read": "[identities history conversations]", "keys:read": "[identities history conversations audit]",
	} {
		e := read(bearer(w.newKey(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"customers:read", scope}})))
		given := map[string]int{"identities": len(e.Identities), "history": len(e.History), "conversations": len(e.Conversations), "audit": len(e.Audit)}
		for part, n := range given {
			if slices.Contains(e.Withheld, part) != (n == 0) {
				t.Errorf("with %s: %d of %s", scope, n, part)
			}
		}
		if fmt.Sprint(e.Withheld) != withheld || e.Customer.ID != w.customer {
			t.Errorf("with %s there are withheld: %v; want %s", scope, e.Withheld, withheld)
		}
	}
	w.expect(w.request("GET", "/v1/customers/"+w.customer+"/export", "", bearer(w.foreignToken)), 404, `{"detail":"Customer not found"}`)
}
