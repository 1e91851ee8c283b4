package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hydragate/gateway"
	"hydragate/identity"
)

// TestCustomerConversations gives a customer what is theirs: not what others wrote in a group,
// nor what came from an account where another speaks.
func TestCustomerConversations(t *testing.T) {
	runTenantTests(t, map[string]func(*testing.T, *tenantFixture){"": func(t *testing.T, f *tenantFixture) {
		p := newTracedCustomer(f)
		talks, err := f.CustomerConversations(t.Context(), f.tenant, p.customer, "")
		if err != nil {
			t.Fatal(err)
		}
		var said, sent []string
		for _, talk := range talks {
			for after := int64(0); ; {
				ms, err := f.ReceivedMessages(t.Context(), talk, after, 1)
				if err != nil {
					t.Fatal(err)
				}
				if len(ms) == 0 {
					break
				}
				after = ms[0].Seq
				said = append(said, ms[0].Text)
				if len(ms[0].Attachments) != 1 ||
					ms[0].Attachments[0] != (gateway.ReceivedFile{Kind: "image", Name: "canary.jpg"}) {
					t.Errorf("attachments %+v", ms[0].Attachments)
				}
			}
			replies, err := f.SentMessages(t.Context(), talk, 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range replies {
				sent = append(sent, m.Text)
			}
		}
		// The sms account is the customer's in one instance only, and slack's no more.
		if len(talks) != 3 || len(said) != 4 || len(sent) != 2 {
			t.Errorf("%d conversations; said %q, sent %q", len(talks), said, sent)
		}
		if all := fmt.Sprint(said); strings.Contains(all, "somebody else") || strings.Contains(all, "canarycode") ||
			strings.Contains(all, "elsewhere") || strings.Contains(all, "unlinking") {
			t.Errorf("said %q", said)
		}
		if elsewhere, err := f.CustomerConversations(t.Context(), f.tenant, p.customer, newID()); err != nil ||
			len(elsewhere) != 0 {
			t.Errorf("in another instance %v, %v", elsewhere, err)
		}
		if _, err := f.CustomerConversations(t.Context(), newTenant(t, f.Store), p.customer, ""); !errors.Is(err,
			identity.ErrNotFound) {
			t.Errorf("for another tenant: %v", err)
		}
	}})
}
