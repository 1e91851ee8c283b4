package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// MergeStore merges customers.
type MergeStore interface {
	// MergeCustomer moves the identities of one customer to another and hides the first one.
	// Without MayGrant, it returns identity.ErrGrantRequired if a verified identity or one with the
	// owner role would move. It returns identity.ErrNotFound if either customer does not exist.
	MergeCustomer(ctx context.Context, m identity.MergeRequest, by identity.Actor) (identity.Merge, error)
	// UndoMerge restores a merged customer and those of its identities that still belong to the
	// other one. It returns identity.ErrNotFound, identity.ErrIdentifierReused, and
	// identity.ErrGrantRequired under the condition of MergeCustomer.
	UndoMerge(ctx context.Context, tenant, id string, mayGrant bool, by identity.Actor) (identity.Customer, error)
	// MergedInto returns the ID of the customer that a merged customer is now part of, or
	// identity.ErrNotFound.
	MergedInto(ctx context.Context, tenant, id string) (string, error)
}

type mergeResponse struct {
	CustomerID string    `json:"customer_id" format:"uuid" doc:"Customer that was merged and no longer exists."`
	Identities int       `json:"identities" doc:"Number of identities that moved, with their conversations."`
	Into       string    `json:"into" format:"uuid" doc:"Customer that now owns the identities."`
	MergedAt   time.Time `json:"merged_at" doc:"When the customers were merged."`
	UndoUntil  time.Time `json:"undo_until" doc:"Until when the merge can be undone."`
}

type mergeOut struct{ Body mergeResponse }

func (a *API) mergeCustomer(ctx context.Context, in *struct {
	CustomerPath
	Body struct {
		Into string `json:"into" format:"uuid"`
	}
},
) (*mergeOut, error) {
	key := operation.CallerOf(ctx)
	if in.Body.Into == in.CustomerID {
		return nil, fastapi.ValidationProblem(fastapi.ValueError(
			"a customer cannot be merged into itself", "body", "into",
		))
	}
	if key.InstanceID != "" {
		return nil, operation.KeyLimitedProblem()
	}
	m, err := a.Stores.Merges.MergeCustomer(ctx, identity.MergeRequest{
		TenantID: key.TenantID, CustomerID: in.CustomerID, TargetID: in.Body.Into,
		MayGrant: key.HasScope("identities:grant"),
	}, key.Actor())
	switch {
	case errors.Is(err, identity.ErrGrantRequired):
		return nil, operation.MissingScope("identities:grant")
	case err != nil:
		return nil, operation.NameNotFound("Customer", err)
	}
	return &mergeOut{
		mergeResponse{
			CustomerID: m.CustomerID, Identities: m.IdentityCount, Into: m.TargetID, MergedAt: m.At.UTC(),
			UndoUntil: m.UndoUntil().UTC(),
		},
	}, nil
}

func (a *API) undoMerge(ctx context.Context, in *CustomerPath) (*customerOut, error) {
	key := operation.CallerOf(ctx)
	if key.InstanceID != "" {
		return nil, operation.KeyLimitedProblem()
	}
	c, err := a.Stores.Merges.UndoMerge(ctx, key.TenantID, in.CustomerID, key.HasScope("identities:grant"), key.Actor())
	switch {
	case errors.Is(err, identity.ErrGrantRequired):
		return nil, operation.MissingScope("identities:grant")
	case errors.Is(err, identity.ErrIdentifierReused):
		return nil, fastapi.NewProblem(http.StatusConflict, "Another customer now has the email or id of this customer")
	case errors.Is(err, identity.ErrNotFound):
		return nil, fastapi.NotFound("Merge")
	case err != nil:
		return nil, err
	}
	return &customerOut{toCustomer(c)}, nil
}

// customer returns the ID in the path. handleCustomer requires it.
func (p CustomerPath) customer() string { return p.CustomerID }

// handleCustomer is operation.Handle for operations on a customer. For a customer that was merged,
// the 404 response contains the ID of the merged customer. The operation is not applied to that
// customer.
func handleCustomer[I, O any, P interface {
	*I
	customer() string
}](a *API, f func(context.Context, *I) (*O, error)) operation.Handler {
	return operation.Handle(func(ctx context.Context, in *I) (*O, error) {
		out, err := f(ctx, in)
		if err == nil {
			return out, nil
		}
		if p := operation.DomainProblem(err); p != nil && p.Status == http.StatusNotFound {
			err = a.explainMerge(ctx, P(in).customer(), err)
		}
		return nil, err
	})
}

// explainMerge returns a problem with the ID of the customer that a customer was merged into. If it
// was not merged, it returns err.
func (a *API) explainMerge(ctx context.Context, customer string, err error) error {
	into, mergeErr := a.Stores.Merges.MergedInto(ctx, operation.CallerOf(ctx).TenantID, customer)
	switch {
	case mergeErr == nil:
		return fastapi.NewProblem(http.StatusNotFound, "Customer was merged into "+into)
	case errors.Is(mergeErr, identity.ErrNotFound):
		return err
	}
	return mergeErr
}
