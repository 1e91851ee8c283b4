package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"hydragate/identity"
)

type mergeAnswer struct {
	CustomerID string    `json:"customer_id" format:"uuid" doc:"Who was merged, and is not found any more."`
	Identities int       `json:"identities" doc:"How many moved, with their conversations."`
	Into       string    `json:"into" format:"uuid" doc:"Who they are now."`
	MergedAt   time.Time `json:"merged_at"`
	UndoUntil  time.Time `json:"undo_until"`
}

type mergeOut struct{ Body mergeAnswer }

func (a *API) mergeCustomer(ctx context.Context, in *struct {
	CustomerPath
	Body struct {
		Into string `json:"into" format:"uuid" doc:"The customer who stays, with its own fields: nothing is filled in from the other one."`
	}
}) (*mergeOut, error) {
	key := callerOf(ctx)
	if in.Body.Into == in.CustomerID {
		return nil, invalid(valueError("a customer cannot be merged into itself", "body", "into"))
	}
	if key.InstanceID != "" {
		return nil, onlyItsInstance()
	}
	m, err := a.Store.MergeCustomer(ctx, key.TenantID, in.CustomerID, in.Body.Into, key.May("identities:grant"), key.Actor())
	switch {
	case errors.Is(err, identity.ErrNeedsGrant):
		return nil, missingScope("identities:grant")
	case err != nil:
		return nil, about("Customer", err)
	}
	return &mergeOut{mergeAnswer{CustomerID: m.CustomerID, Identities: m.Identities, Into: m.Into, MergedAt: m.At.UTC(), UndoUntil: m.UndoUntil().UTC()}}, nil
}

func (a *API) undoMerge(ctx context.Context, in *CustomerPath) (*customerOut, error) {
	key := callerOf(ctx)
	if key.InstanceID != "" {
		return nil, onlyItsInstance()
	}
	c, err := a.Store.UndoMerge(ctx, key.TenantID, in.CustomerID, key.May("identities:grant"), key.Actor())
	switch {
	case errors.Is(err, identity.ErrNeedsGrant):
		return nil, missingScope("identities:grant")
	case errors.Is(err, identity.ErrReclaimed):
		return nil, refuse(http.StatusConflict, "Another customer has the email or id of this one now")
	case errors.Is(err, identity.ErrNotFound):
		return nil, notFound("Merge")
	case err != nil:
		return nil, err
	}
	return &customerOut{toCustomer(c)}, nil
}

// customer gives the customer that a path names.
func (p CustomerPath) customer() string { return p.CustomerID }

// orSurvivor is do for operations on a customer: of one that was merged it says who it
// is now. The answer is 404 all the same: nobody acts on another customer than named.
func orSurvivor[I, O any](a *API, f func(context.Context, *I) (*O, error)) handler {
	return do(func(ctx context.Context, in *I) (*O, error) {
		out, err := f(ctx, in)
		if err == nil {
			return out, nil
		}
		if p := asProblem(err); p != nil && p.status == http.StatusNotFound {
			err = a.survivorOf(ctx, any(in).(interface{ customer() string }).customer(), err)
		}
		return nil, err
	})
}

// survivorOf puts in place of err, about a customer who is not found, who they are now.
func (a *API) survivorOf(ctx context.Context, customer string, err error) error {
	into, serr := a.Store.Survivor(ctx, callerOf(ctx).TenantID, customer)
	switch {
	case serr == nil:
		return refuse(http.StatusNotFound, "Customer was merged into "+into)
	case errors.Is(serr, identity.ErrNotFound):
		return err
	}
	return serr
}
