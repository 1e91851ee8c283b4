package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hydragate/gateway"
	"hydragate/identity"
)

// TestCustomerConversations tests that an export has neither the messages of others in a group, nor
// messages from an address while it belonged to someone else.
func TestCustomerConversations(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		p := newTracedCustomer(f)
		conversations, err := f.CustomerConversations(t.Context(),
			gateway.CustomerConversationQuery{TenantID: f.tenant, CustomerID: p.customer})
		if err != nil {
			t.Fatal(err)
		}
		var received, sent []string
		for _, c := range conversations {
			for after := int64(0); ; {
				ms, err := f.ReceivedMessages(t.Context(), c, after, 1)
				if err != nil {
					t.Fatal(err)
				}
				if len(ms) == 0 {
					break
				}
				after = ms[0].Seq
				received = append(received, ms[0].Text)
				if len(ms[0].Attachments) != 1 ||
					ms[0].Attachments[0] != (gateway.ReceivedFile{Kind: "image", Name: "canary.jpg"}) {
					t.Errorf("attachments = %+v", ms[0].Attachments)
				}
			}
			replies, err := f.SentMessages(t.Context(), c, 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range replies {
				sent = append(sent, m.Text)
			}
		}
		// The SMS address belongs to the customer in one instance only, the Slack address no longer.
		if len(conversations) != 3 || len(received) != 4 || len(sent) != 2 {
			t.Errorf("%d conversations, received %q, sent %q", len(conversations), received, sent)
		}
		if all := fmt.Sprint(received); strings.Contains(all, "someone else") || strings.Contains(all, "canarycode") ||
			strings.Contains(all, "elsewhere") || strings.Contains(all, "unlinking") {
			t.Errorf("received messages = %q", received)
		}
		if elsewhere, err := f.CustomerConversations(t.Context(),
			gateway.CustomerConversationQuery{TenantID: f.tenant, CustomerID: p.customer, InstanceID: newID()}); err != nil ||
			len(elsewhere) != 0 {
			t.Errorf("CustomerConversations(other instance) = %v, %v, want none", elsewhere, err)
		}
		if _, err := f.CustomerConversations(t.Context(),
			gateway.CustomerConversationQuery{TenantID: newTenant(t, f.Store), CustomerID: p.customer}); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("CustomerConversations(other tenant) = %v, want ErrNotFound", err)
		}
	})
}
