//go:build unix

package harness

import (
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// Entities are one of each kind of entity that a path can name, all of one tenant.
type Entities struct {
	TenantID, InstanceID, AgentKey                    string
	CustomerID, SecondCustomerID, mergedCustomerID    string
	IdentityID, tenantWideIdentityID, UnknownSenderID string // of the instance; of all instances; without a customer
	externalID, unknownExternalID                     string // of IdentityID and UnknownSenderID
	APIKeyID                                          string // has only the scope keys:write
	inviteID                                          string // of the customer to the instance
}

// CreateEntities creates new entities of a tenant.
func (h *APIFixture) CreateEntities(tenant string) Entities {
	h.T.Helper()
	ctx, th := h.T.Context(), Entities{TenantID: tenant, AgentKey: identity.NewToken("ask_")}
	i, err := h.Store.CreateInstance(
		ctx,
		gateway.Instance{TenantID: tenant, Name: "Support"},
		gateway.InstanceSecrets{AgentSecretKey: th.AgentKey, WebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
		identity.System,
	)
	h.Must(err)
	th.InstanceID = i.ID
	customer := func() string {
		c, err := h.Store.CreateCustomer(
			ctx,
			identity.Customer{TenantID: tenant, Email: h.UniqueDigits() + "@example.com", FirstName: "Steve"},
			identity.System,
		)
		h.Must(err)
		return c.ID
	}
	th.CustomerID, th.SecondCustomerID, th.mergedCustomerID = customer(), customer(), customer()
	_, err = h.Store.MergeCustomer(
		ctx,
		identity.MergeRequest{
			TenantID:   tenant,
			CustomerID: th.mergedCustomerID,
			TargetID:   th.SecondCustomerID,
			MayGrant:   true,
		},
		identity.System,
	)
	h.Must(err)
	link := func(instance, external string) string {
		i, err := h.Store.Link(
			ctx,
			identity.Identity{
				TenantID:   tenant,
				CustomerID: th.CustomerID,
				InstanceID: instance,
				Channel:    "telegram",
				ExternalID: external,
			},
			identity.System,
		)
		h.Must(err)
		return i.ID
	}
	th.externalID = h.UniqueDigits()
	th.IdentityID, th.tenantWideIdentityID = link(th.InstanceID, th.externalID), link("", h.UniqueDigits())
	c, err := h.Store.CreateContactIdentity(
		ctx,
		identity.ContactIdentity{
			Identity: identity.Identity{
				TenantID:   tenant,
				InstanceID: th.InstanceID,
				Channel:    "telegram",
				ExternalID: h.UniqueDigits(),
			},
		},
		identity.System,
	)
	h.Must(err)
	th.UnknownSenderID, th.unknownExternalID = c.ID, c.ExternalID
	invite, _, err := (&claim.Service{Store: h.Store}).IssueInvite(
		ctx,
		claim.Invite{TenantID: tenant, CustomerID: th.CustomerID, InstanceID: th.InstanceID, Channel: "telegram"},
		identity.Actor("key:"+h.UniqueDigits()),
	)
	h.Must(err)
	th.inviteID = invite.ID
	h.openInvite(th, tenant)
	th.APIKeyID = h.CreateKey(
		identity.APIKey{TenantID: tenant, Name: "spare", Scopes: []string{"keys:write"}, InstanceID: th.InstanceID},
	).ID
	return th
}

// openInvite makes the invite of th one that an unknown sender has opened and that staff must confirm.
func (h *APIFixture) openInvite(th Entities, tenant string) {
	h.T.Helper()
	external := h.UniqueDigits()
	opener, err := h.Store.CreateContactIdentity(
		h.T.Context(),
		identity.ContactIdentity{
			Identity: identity.Identity{TenantID: tenant, InstanceID: th.InstanceID, Channel: "telegram", ExternalID: external},
		},
		identity.System,
	)
	h.Must(err)
	conversation := gateway.ConversationID(th.InstanceID, "telegram", external)
	h.Exec(`insert into conversations (id, tenant_id, instance_id, channel, place_id, is_group, created_at)
		select $1, tenant_id, instance_id, channel, $2, false, created_at from invites where id = $3`,
		conversation, external, th.inviteID)
	h.Exec(
		`update invites set confirm = true, opened_msg = $1, opened_at = created_at, opener_id = $2, conversation_id = $3
		where id = $4`,
		RandomID(),
		opener.ID,
		conversation,
		th.inviteID,
	)
}
