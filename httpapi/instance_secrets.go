package httpapi

import (
	"context"
	"time"

	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// SecretStore stores the secrets of instances. Its methods return gateway.ErrNoInstance for an
// unknown instance.
type SecretStore interface {
	// RotateInstanceSecret replaces a secret. The previous one remains valid for the grace period;
	// the returned time is its end. A grace period of zero revokes all previous secrets
	// immediately, and the time is zero.
	RotateInstanceSecret(ctx context.Context, r gateway.SecretRotation, by identity.Actor) (until time.Time, err error)
	// RevokePreviousSecrets ends the grace periods of all previous secrets.
	RevokePreviousSecrets(ctx context.Context, tenant, id string, kind gateway.SecretKind, by identity.Actor) error
}

// An overlap is the request body with the grace period of the replaced secret.
type overlap struct {
	OverlapSeconds fastapi.Optional[int] `json:"overlap_seconds,omitempty" nullable:"false" minimum:"0" maximum:"604800"`
}

func (o *overlap) duration() time.Duration {
	if o == nil || !o.OverlapSeconds.IsSet {
		return defaultGracePeriod
	}
	return time.Duration(o.OverlapSeconds.Value) * time.Second
}

type rotateIn struct {
	InstancePath
	Body *overlap
}

type newWebhookSecret struct {
	InstanceID    string     `json:"instance_id" format:"uuid"`
	OldGoodUntil  *time.Time `json:"old_good_until"`
	WebhookSecret string     `json:"webhook_secret"`
}

// rotateWebhookSecret replaces the secret that signs the events of an instance.
func (a *API) rotateWebhookSecret(ctx context.Context, in *rotateIn) (*struct{ Body newWebhookSecret }, error) {
	secret := newInstanceSecrets().WebhookSecret
	until, err := a.rotateSecret(ctx, in, gateway.WebhookSecret, secret)
	return &struct{ Body newWebhookSecret }{
		newWebhookSecret{InstanceID: in.InstanceID, OldGoodUntil: operation.NullableTime(until), WebhookSecret: secret},
	}, err
}

type newAgentSecretKey struct {
	AgentSecretKey *string    `json:"agent_secret_key"`
	InstanceID     string     `json:"instance_id" format:"uuid"`
	OldGoodUntil   *time.Time `json:"old_good_until"`
}

// rotateAgentSecretKey replaces the key of an instance for the conversation-user API. If the caller
// may not have the new key, no one has it until the next rotation.
func (a *API) rotateAgentSecretKey(ctx context.Context, in *rotateIn) (*struct{ Body newAgentSecretKey }, error) {
	secret := newInstanceSecrets().AgentSecretKey
	until, err := a.rotateSecret(ctx, in, gateway.AgentSecretKey, secret)
	return &struct{ Body newAgentSecretKey }{
		newAgentSecretKey{
			AgentSecretKey: agentSecretKey(operation.CallerOf(ctx), secret), InstanceID: in.InstanceID,
			OldGoodUntil: operation.NullableTime(until),
		},
	}, err
}

func (a *API) rotateSecret(
	ctx context.Context, in *rotateIn, kind gateway.SecretKind, secret string,
) (time.Time, error) {
	key := operation.CallerOf(ctx)
	until, err := a.Stores.Secrets.RotateInstanceSecret(ctx, gateway.SecretRotation{
		TenantID: key.TenantID, InstanceID: in.InstanceID, Kind: kind, Secret: secret, GracePeriod: in.Body.duration(),
	}, key.Actor())
	return until, operation.NameNotFound("Instance", err)
}

// endWebhookSecrets revokes the replaced secrets before the end of their grace period.
func (a *API) endWebhookSecrets(ctx context.Context, in *InstancePath) (*operation.NoBody, error) {
	return a.endSecrets(ctx, in, gateway.WebhookSecret)
}

// endAgentSecretKeys revokes the replaced keys before the end of their grace period.
func (a *API) endAgentSecretKeys(ctx context.Context, in *InstancePath) (*operation.NoBody, error) {
	return a.endSecrets(ctx, in, gateway.AgentSecretKey)
}

func (a *API) endSecrets(ctx context.Context, in *InstancePath, kind gateway.SecretKind) (*operation.NoBody, error) {
	key := operation.CallerOf(ctx)
	return nil, operation.NameNotFound(
		"Instance", a.Stores.Secrets.RevokePreviousSecrets(ctx, key.TenantID, in.InstanceID, kind, key.Actor()),
	)
}
