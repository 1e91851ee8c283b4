package claims

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestVerifiedReply_NamesCustomer checks that the reply to a redeemed code or invite names the customer
// by the first and the last letter of the name, so that a person to whom the code of someone else was
// read notices it, and that it contains no more of the customer.
func TestVerifiedReply_NamesCustomer(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		for _, tt := range []struct {
			customer identity.Customer
			want     string
		}{
			{identity.Customer{FirstName: "Steve", LastName: "Miller"}, "You are now verified as S…e."},
			{identity.Customer{CompanyName: "Acme"}, "You are now verified as A…e."},
			{identity.Customer{FirstName: "S"}, "You are now verified as S…."},
			{identity.Customer{FirstName: "李小龙"}, "You are now verified as 李…龙."},
			{identity.Customer{FirstName: "🎉"}, "You are now verified."},
			{identity.Customer{FirstName: "steve@example.com"}, "You are now verified."},
			{identity.Customer{Email: "steve@example.com"}, "You are now verified."},
		} {
			want := tt.want + " This chat is linked to your account."
			tt.customer.TenantID = harness.TestTenantID
			c, err := h.Store.CreateCustomer(t.Context(), tt.customer, identity.System)
			if err != nil {
				t.Fatal(err)
			}
			for name, key := range map[string]string{"code": claimAs(t, h, c.ID), "invite": openInviteOf(t, h, c.ID)} {
				if got, _, _ := strings.Cut(h.Replies(key), "\n"); got != want { // notifications of other accounts follow
					t.Errorf("%+v: reply to a redeemed %s = %q, want %q", tt.customer, name, got, want)
				}
			}
		}
	})
}

// claimAs redeems a code for a new identity of a customer. It returns the key of the message.
func claimAs(t *testing.T, h *harness.ClaimFixture, customer string) (key string) {
	t.Helper()
	external := h.NewExternalID()
	i, err := h.Store.Link(t.Context(), identity.Identity{
		TenantID: harness.TestTenantID, CustomerID: customer, Channel: "telegram", ExternalID: external,
	}, identity.System)
	if err != nil {
		t.Fatal(err)
	}
	code := h.IssueCode(harness.LinkedIdentity{CustomerID: customer, IdentityID: i.ID, ExternalID: external})
	key = h.SendText(external, external, "/claim "+code)
	h.ProcessMessages()
	return key
}

// openInviteOf redeems an invite of a customer from a new account. It returns the key of the message.
func openInviteOf(t *testing.T, h *harness.ClaimFixture, customer string) (key string) {
	t.Helper()
	_, code, err := h.Claims.IssueInvite(t.Context(), claim.Invite{
		TenantID: harness.TestTenantID, InstanceID: h.InstanceID, Channel: "telegram", CustomerID: customer,
	}, identity.Actor("key:"+uuid.NewString()))
	if err != nil {
		t.Fatal(err)
	}
	sender := h.NewExternalID()
	key = h.SendText(sender, sender, "/start claim_"+code)
	h.ProcessMessages()
	return key
}
