package httpapi

import (
	"context"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// TenantStore stores the settings of tenants.
type TenantStore interface {
	TenantSettings(ctx context.Context, tenant string) (identity.TenantSettings, error)
	EditTenant(
		ctx context.Context, tenant string, e identity.TenantEdit, by identity.Actor,
	) (identity.TenantSettings, error)
}

type tenantResponse struct {
	OwnerConfirmation bool `json:"owner_confirmation" doc:"Whether a claim for a customer with a verified owner waits up to 10 minutes until that owner agrees in a chat of their own."`
	UnknownSenderDays int  `json:"unknown_sender_days" doc:"Number of days without a message after which an unknown sender is deleted."`
}

type tenantOut struct{ Body tenantResponse }

func toTenant(t identity.TenantSettings) *tenantOut {
	return &tenantOut{tenantResponse{OwnerConfirmation: t.OwnerConfirmation, UnknownSenderDays: t.UnknownSenderDays}}
}

func (a *API) getTenant(ctx context.Context, _ *struct{}) (*tenantOut, error) {
	key := operation.CallerOf(ctx)
	if key.InstanceID != "" {
		return nil, operation.KeyLimitedProblem()
	}
	t, err := a.Stores.Tenants.TenantSettings(ctx, key.TenantID)
	return toTenant(t), err
}

type tenantEdit struct {
	OwnerConfirmation fastapi.Optional[bool] `json:"owner_confirmation,omitempty" doc:"Whether a claim for a customer with a verified owner waits up to 10 minutes until that owner agrees in a chat of their own. Null: false."`
	UnknownSenderDays fastapi.Optional[int]  `json:"unknown_sender_days,omitempty" minimum:"1" maximum:"3650" doc:"Number of days without a message after which an unknown sender is deleted. Null: 90."`
}

func (a *API) editTenant(ctx context.Context, in *struct{ Body tenantEdit }) (*tenantOut, error) {
	key, b := operation.CallerOf(ctx), in.Body
	if key.InstanceID != "" {
		return nil, operation.KeyLimitedProblem()
	}
	days := b.UnknownSenderDays.Edit()
	if days != nil && *days == 0 {
		*days = identity.DefaultUnknownSenderDays
	}
	t, err := a.Stores.Tenants.EditTenant(ctx, key.TenantID, identity.TenantEdit{
		OwnerConfirmation: b.OwnerConfirmation.Edit(), UnknownSenderDays: days,
	}, key.Actor())
	return toTenant(t), err
}
