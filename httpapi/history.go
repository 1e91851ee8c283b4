package httpapi

import (
	"context"
	"time"

	"hydragate/identity"
)

type ownerAnswer struct {
	CustomerID string     `json:"customer_id" format:"uuid" doc:"May be deleted or merged since."`
	Erased     bool       `json:"erased"`
	IdentityID string     `json:"identity_id" format:"uuid" doc:"An address that is linked again gets a new identity."`
	InstanceID *string    `json:"instance_id" format:"uuid"`
	Since      time.Time  `json:"since"`
	Until      *time.Time `json:"until" doc:"null: to this day."`
}

func toOwner(o identity.Ownership) ownerAnswer {
	return ownerAnswer{
		CustomerID: o.CustomerID, Erased: !o.ErasedAt.IsZero(), IdentityID: o.IdentityID, InstanceID: orNull(o.InstanceID), Since: o.Since.UTC(), Until: timeOrNull(o.Until),
	}
}

type historyAnswer struct {
	Channel    string        `json:"channel"`
	ExternalID string        `json:"external_id" doc:"A pseudonym when the customer was erased."`
	IdentityID string        `json:"identity_id" format:"uuid"`
	Owners     []ownerAnswer `json:"owners" nullable:"false" doc:"Who owned the address, in any instance, oldest first."`
}

type historyOut struct{ Body historyAnswer }

// SenderPath names an identity, whoever it belongs to.
type SenderPath struct {
	IdentityID string `path:"identity_id" format:"uuid"`
}

func (a *API) identityHistory(ctx context.Context, in *SenderPath) (*historyOut, error) {
	key := callerOf(ctx)
	at, err := a.Store.AddressOf(ctx, key.TenantID, in.IdentityID)
	if err != nil || !reads(key, identity.Identity{InstanceID: at.InstanceID}) {
		return nil, about("Identity", orNotFound(err))
	}
	spans, err := a.Store.History(ctx, at)
	if err != nil {
		return nil, err
	}
	out := historyAnswer{Channel: at.Channel, ExternalID: at.ExternalID, IdentityID: in.IdentityID, Owners: []ownerAnswer{}}
	for _, o := range spans {
		if reads(key, identity.Identity{InstanceID: o.InstanceID}) {
			out.Owners = append(out.Owners, toOwner(o))
		}
	}
	return &historyOut{out}, nil
}

func orNotFound(err error) error {
	if err == nil {
		return identity.ErrNotFound
	}
	return err
}
