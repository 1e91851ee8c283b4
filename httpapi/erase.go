package httpapi

import (
	"context"

	"hydragate/claim"
)

// A Forgetter forgets what proves the claim codes of identities that are gone.
type Forgetter interface {
	Drop(ctx context.Context, s claim.Subject) error
}

func (a *API) deleteCustomer(ctx context.Context, in *struct {
	CustomerPath
	Erase bool `query:"erase" default:"false" doc:"Also removes personal data from every table and queue: messages both ways, deliveries, dead letters, and who was merged into the customer. What wrote from its accounts as an unknown sender counts, and so do accounts that it once had and nobody else has. The audit log keeps pseudonyms and a receipt. A customer that was deleted before can be erased still; what is erased is not found any more (404)."`
}) (*none, error) {
	key := callerOf(ctx)
	if key.InstanceID != "" {
		return nil, onlyItsInstance()
	}
	remove := a.Store.DeleteCustomer
	if in.Erase {
		remove = a.Store.EraseCustomer
	}
	void, err := remove(ctx, key.TenantID, in.CustomerID, key.Actor())
	if err != nil {
		return nil, about("Customer", err)
	}
	a.forget(ctx, void)
	return nil, nil
}

// forget drops proofs of codes. The database refuses the codes already, and proofs
// expire by themselves: what cannot be dropped now is logged and left to that.
func (a *API) forget(ctx context.Context, void []claim.Subject) {
	if a.Forgetter == nil {
		return
	}
	for _, s := range void {
		if err := a.Forgetter.Drop(ctx, s); err != nil {
			a.Log.WarnContext(ctx, "proofs of deleted identities not dropped", "request_id", recordOf(ctx).id, "err", err)
			return
		}
	}
}
