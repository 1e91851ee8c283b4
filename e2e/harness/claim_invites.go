//go:build unix

package harness

import (
	"fmt"

	"github.com/google/uuid"

	"hydragate/claim"
	"hydragate/identity"
)

// CreateInvite creates an invite of a new customer to the instance. It returns the invite and its code.
func (h *ClaimFixture) CreateInvite(role string) (claim.Invite, string) {
	h.T.Helper()
	c, err := h.Store.CreateCustomer(
		h.T.Context(),
		identity.Customer{TenantID: TestTenantID, FirstName: "Steve"},
		identity.System,
	)
	if err != nil {
		h.T.Fatal(err)
	}
	i, code, err := h.Claims.IssueInvite(
		h.T.Context(),
		claim.Invite{
			TenantID:     TestTenantID,
			InstanceID:   h.InstanceID,
			Channel:      string(h.Channel),
			CustomerID:   c.ID,
			RoleOverride: role,
		},
		identity.Actor("key:"+uuid.NewString()),
	)
	if err != nil {
		h.T.Fatal(err)
	}
	return i, code
}

// RedemptionCounts returns the number of verified identities of an invite's customer, and of
// redemptions in the audit log.
func (h *ClaimFixture) RedemptionCounts(i claim.Invite) (identities, events int) {
	h.T.Helper()
	h.Scan(
		`select count(*) from identities where customer_id = $1 and verified_at is not null`,
		[]any{i.CustomerID},
		&identities,
	)
	h.Scan(
		`select count(*) from audit_events where customer_id = $1 and kind = 'invite.redeemed'`,
		[]any{i.CustomerID},
		&events,
	)
	return identities, events
}

// AgedQuery inserts into query the time that was a duration ago.
func (h *ClaimFixture) AgedQuery(query, ago string) string {
	if h.IsPostgres() {
		return fmt.Sprintf(query, "now() - interval '"+ago+"'")
	}
	return fmt.Sprintf(query, "strftime('%Y-%m-%d %H:%M:%f+00:00', 'now', '-"+ago+"')")
}

// DropCode deletes the current code of an identity from the code store.
func (h *ClaimFixture) DropCode(p LinkedIdentity) {
	h.T.Helper()
	var gen int64
	h.Scan(`select claim_gen from identities where id = $1`, []any{p.IdentityID}, &gen)
	target := claim.Target{TenantID: TestTenantID, InstanceID: h.InstanceID, IdentityID: p.IdentityID, Gen: gen}
	if err := h.Claims.Codes.Drop(h.T.Context(), target); err != nil {
		h.T.Fatal(err)
	}
}
