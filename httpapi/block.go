package httpapi

import (
	"context"
	"time"
)

type blockAnswer struct {
	Blocked    bool       `json:"blocked"`
	BlockedAt  *time.Time `json:"blocked_at"`
	IdentityID string     `json:"identity_id" format:"uuid"`
}

type blockOut struct{ Body blockAnswer }

// blockSender has the messages of an unknown sender dropped. Who is linked to a
// customer is heard again.
func (a *API) blockSender(ctx context.Context, in *SenderPath) (*blockOut, error) {
	key := callerOf(ctx)
	since, err := a.Store.Refuse(ctx, key.TenantID, key.InstanceID, in.IdentityID, key.Actor())
	if err != nil {
		return nil, about("Identity", err)
	}
	return &blockOut{blockAnswer{Blocked: true, BlockedAt: timeOrNull(since), IdentityID: in.IdentityID}}, nil
}

func (a *API) unblockSender(ctx context.Context, in *SenderPath) (*blockOut, error) {
	key := callerOf(ctx)
	if err := a.Store.Admit(ctx, key.TenantID, key.InstanceID, in.IdentityID, key.Actor()); err != nil {
		return nil, about("Identity", err)
	}
	return &blockOut{blockAnswer{IdentityID: in.IdentityID}}, nil
}
