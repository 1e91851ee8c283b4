package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// KeyStore stores API keys. Its methods return identity.ErrNotFound for unknown keys.
type KeyStore interface {
	// CreateAPIKey stores a key whose token has the given hash.
	CreateAPIKey(ctx context.Context, k identity.APIKey, hash string, by identity.Actor) (identity.APIKey, error)
	ListAPIKeys(ctx context.Context, tenant, after string, limit int) ([]identity.APIKey, error)
	// RotateAPIKey replaces a key by a copy, which it returns.
	RotateAPIKey(ctx context.Context, r identity.KeyRotation, by identity.Actor) (identity.APIKey, error)
	RevokeAPIKey(ctx context.Context, tenant, id string, by identity.Actor) error
}

const tokenPrefix = "hg_live_"

// A scope is a permission of an API key.
type scope string

// Schema implements huma.SchemaProvider. It lists all scopes.
func (scope) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, name := range identity.Scopes {
		s.Enum = append(s.Enum, name)
	}
	return s
}

type keyResponse struct {
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at"`
	Hint       string     `json:"hint"`
	ID         string     `json:"id" format:"uuid"`
	InstanceID *string    `json:"instance_id" format:"uuid"`
	LastUsedAt *time.Time `json:"last_used_at"`
	Name       string     `json:"name"`
	RateLimit  int        `json:"rate_limit_per_second"`
	RevokedAt  *time.Time `json:"revoked_at"`
	Scopes     []string   `json:"scopes" nullable:"false"`
}

// A createdKey is the response with the token of a new key, which is not shown again.
type createdKey struct {
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at"`
	Hint       string     `json:"hint"`
	ID         string     `json:"id" format:"uuid"`
	InstanceID *string    `json:"instance_id" format:"uuid"`
	Key        string     `json:"key"`
	LastUsedAt *time.Time `json:"last_used_at"`
	Name       string     `json:"name"`
	RateLimit  int        `json:"rate_limit_per_second"`
	RevokedAt  *time.Time `json:"revoked_at"`
	Scopes     []string   `json:"scopes" nullable:"false"`
}

type createdKeyOut struct{ Body createdKey }

func toKey(k identity.APIKey) keyResponse {
	return keyResponse{
		CreatedAt:  k.CreatedAt.UTC(),
		ExpiresAt:  operation.NullableTime(k.ExpiresAt),
		Hint:       k.Hint,
		ID:         k.ID,
		InstanceID: operation.NullableString(k.InstanceID),
		LastUsedAt: operation.NullableTime(k.LastUsedAt),
		Name:       k.Name,
		RateLimit:  cmp.Or(k.RateLimit, identity.DefaultRateLimit),
		RevokedAt:  operation.NullableTime(k.RevokedAt),
		Scopes:     append([]string{}, k.Scopes...),
	}
}

func toCreatedKey(k identity.APIKey, token string) *createdKeyOut {
	v := toKey(k)
	return &createdKeyOut{createdKey{
		CreatedAt: v.CreatedAt, ExpiresAt: v.ExpiresAt, Hint: v.Hint, ID: v.ID, InstanceID: v.InstanceID, Key: token,
		LastUsedAt: v.LastUsedAt, Name: v.Name, RateLimit: v.RateLimit, RevokedAt: v.RevokedAt, Scopes: v.Scopes,
	}}
}

type newKey struct {
	Name       string                      `json:"name" minLength:"1" maxLength:"255"`
	Role       fastapi.Optional[string]    `json:"role,omitempty" enum:"admin,staff,viewer"`
	Scopes     []scope                     `json:"scopes,omitempty" nullable:"false" minItems:"1" maxItems:"64"`
	RateLimit  fastapi.Optional[int]       `json:"rate_limit_per_second,omitempty" minimum:"1" maximum:"10000"`
	InstanceID fastapi.Optional[string]    `json:"instance_id,omitempty" format:"uuid"`
	ExpiresAt  fastapi.Optional[time.Time] `json:"expires_at,omitempty" format:"date-time"`
}

func (a *API) createKey(ctx context.Context, in *struct{ Body newKey }) (*createdKeyOut, error) {
	caller, b := operation.CallerOf(ctx), in.Body
	instance, err := a.keyInstance(ctx, caller, b.InstanceID.Value)
	if err != nil {
		return nil, err
	}
	scopes, err := b.scopes(instance)
	if err != nil {
		return nil, err
	}
	if e := b.ExpiresAt; e.IsSet && !e.IsNull && !e.Value.After(a.Now()) {
		return nil, fastapi.ValidationProblem(fastapi.ValueError("the time must be in the future", "body", "expires_at"))
	}
	if err := checkGrant(caller, scopes, instance, b.ExpiresAt.Value); err != nil {
		return nil, err
	}
	rateLimit, err := grantedRate(caller, b.RateLimit.Value)
	if err != nil {
		return nil, err
	}
	token := identity.NewToken(tokenPrefix)
	k, err := a.Stores.Keys.CreateAPIKey(ctx, identity.APIKey{
		ID:         resourceID(ctx),
		TenantID:   caller.TenantID,
		Name:       b.Name,
		Hint:       tokenHint(token),
		Scopes:     scopes,
		InstanceID: instance,
		ExpiresAt:  b.ExpiresAt.Value.UTC(),
		RateLimit:  rateLimit,
	}, identity.HashToken(token), caller.Actor())
	return toCreatedKey(k, token), err
}

// scopes returns the scopes of a new key: those that the body lists, or those of its role. A key of
// one instance cannot have the scope channels:write, so that it is left out of those of a role.
func (b newKey) scopes(instance string) ([]string, error) {
	switch {
	case b.Role.Value != "" && b.Scopes != nil:
		return nil, fastapi.ValidationProblem(fastapi.ValueError("send either role or scopes, not both", "body", "role"))
	case b.Role.Value == "" && b.Scopes == nil:
		return nil, fastapi.ValidationProblem(fastapi.MissingField("body", "scopes"))
	case b.Role.Value == "":
		return uniqueScopes(b.Scopes), nil
	}
	return slices.DeleteFunc(identity.RoleScopes(b.Role.Value), func(s string) bool {
		return s == "channels:write" && instance != ""
	}), nil
}

// grantedRate returns the rate limit of a new key. If the caller has a limit of its own, that of the
// new key cannot be higher; if none is requested, it is not.
func grantedRate(caller identity.APIKey, requested int) (int, error) {
	switch {
	case caller.RateLimit == 0:
		return requested, nil
	case requested > caller.RateLimit:
		return 0, fastapi.NewProblem(http.StatusForbidden, "A key cannot create keys with a higher rate limit")
	case requested == 0 && caller.RateLimit < identity.DefaultRateLimit:
		return caller.RateLimit, nil
	}
	return requested, nil
}

// keyInstance returns the instance that a new key is limited to, or "". It returns a problem if the
// instance does not exist.
func (a *API) keyInstance(ctx context.Context, caller identity.APIKey, requested string) (string, error) {
	instance, err := operation.ResolveInstance(caller, requested)
	if err != nil || instance == "" {
		return "", err
	}
	_, err = a.Stores.Instances.Instance(ctx, caller.TenantID, instance)
	return instance, operation.NameNotFound("Instance", err)
}

// checkGrant returns a problem if a new key would have more scopes or a longer lifetime than the
// caller.
func checkGrant(caller identity.APIKey, scopes []string, instance string, expires time.Time) error {
	if instance != "" {
		if i := slices.Index(scopes, "channels:write"); i >= 0 {
			return fastapi.ValidationProblem(fastapi.ValueError(
				"a key limited to one instance cannot have the scope channels:write", "body", "scopes", i,
			))
		}
	}
	if outlives(expires, caller) {
		return fastapi.NewProblem(http.StatusForbidden, "A key cannot create keys that outlive it")
	}
	return checkScopes(caller, scopes)
}

// checkRotate returns a problem if the new token would have more scopes or a longer lifetime than
// the caller.
func checkRotate(caller, old identity.APIKey) error {
	if old.ID != caller.ID && outlives(old.ExpiresAt, caller) {
		return fastapi.NewProblem(http.StatusForbidden, "A key cannot rotate keys that outlive it")
	}
	return checkScopes(caller, old.Scopes)
}

// outlives reports whether a key with the given expiry expires later than k. A zero time is no
// expiry.
func outlives(expires time.Time, k identity.APIKey) bool {
	return !k.ExpiresAt.IsZero() && (expires.IsZero() || expires.After(k.ExpiresAt))
}

func checkScopes(caller identity.APIKey, scopes []string) error {
	for _, s := range scopes {
		if !caller.HasScope(s) {
			return operation.MissingScope(s)
		}
	}
	return nil
}

func uniqueScopes(scopes []scope) []string {
	var names []string
	for _, s := range scopes {
		if !slices.Contains(names, string(s)) {
			names = append(names, string(s))
		}
	}
	return names
}

func tokenHint(token string) string { return token[len(token)-4:] }

func (a *API) listKeys(ctx context.Context, in *operation.PageQuery) (*operation.PageOut[keyResponse], error) {
	caller := operation.CallerOf(ctx)
	return operation.FetchPage(*in, func(after string, limit int) ([]identity.APIKey, error) {
		return a.listVisibleKeys(ctx, caller, after, limit)
	}, func(k identity.APIKey) string { return k.ID }, toKey)
}

// listVisibleKeys returns the keys of the tenant or, if the caller is limited to an instance, of
// that instance.
func (a *API) listVisibleKeys(
	ctx context.Context, caller identity.APIKey, after string, limit int,
) ([]identity.APIKey, error) {
	var visible []identity.APIKey
	for {
		keys, err := a.Stores.Keys.ListAPIKeys(ctx, caller.TenantID, after, limit)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			if caller.InstanceID == "" || k.InstanceID == caller.InstanceID {
				visible = append(visible, k)
			}
		}
		if len(visible) >= limit || len(keys) < limit {
			return visible[:min(len(visible), limit)], nil
		}
		after = keys[len(keys)-1].ID
	}
}

// KeyPath is the path parameter of an API key.
type KeyPath struct {
	KeyID string `path:"key_id" format:"uuid" doc:"ID of the API key."`
}

// findKey returns a key that the caller can see, or a problem.
func (a *API) findKey(ctx context.Context, caller identity.APIKey, id string) (identity.APIKey, error) {
	keys, err := a.Stores.Keys.ListAPIKeys(ctx, caller.TenantID, operation.PreviousID(id), 1)
	if err != nil {
		return identity.APIKey{}, err
	}
	if len(keys) == 0 || keys[0].ID != id || caller.InstanceID != "" && keys[0].InstanceID != caller.InstanceID {
		return identity.APIKey{}, fastapi.NotFound("API key")
	}
	return keys[0], nil
}

type rotation struct {
	OverlapSeconds fastapi.Optional[int] `json:"overlap_seconds,omitempty" minimum:"0" maximum:"604800"`
}

// defaultGracePeriod is the time for which a replaced key or secret remains valid by default.
const defaultGracePeriod = 24 * time.Hour

func (a *API) rotateKey(ctx context.Context, in *struct {
	KeyPath
	Body *rotation
},
) (*createdKeyOut, error) {
	caller := operation.CallerOf(ctx)
	old, err := a.findKey(ctx, caller, in.KeyID)
	if err != nil {
		return nil, err
	}
	if !old.IsLive(a.Now()) {
		return nil, fastapi.NewProblem(http.StatusConflict, "API key is revoked or expired")
	}
	if err := checkRotate(caller, old); err != nil {
		return nil, err
	}
	token := identity.NewToken(tokenPrefix)
	k, err := a.Stores.Keys.RotateAPIKey(ctx, identity.KeyRotation{
		TenantID: caller.TenantID, KeyID: in.KeyID, NewID: resourceID(ctx), Hint: tokenHint(token),
		Hash: identity.HashToken(token), OldUntil: a.oldKeyExpiry(old, in.Body),
	}, caller.Actor())
	a.keys.Reset()
	return toCreatedKey(k, token), operation.NameNotFound("API key", err)
}

// oldKeyExpiry returns the expiry of a rotated key: the end of the grace period, but not later than
// before the rotation.
func (a *API) oldKeyExpiry(old identity.APIKey, r *rotation) time.Time {
	gracePeriod := defaultGracePeriod
	if r != nil && r.OverlapSeconds.IsSet {
		gracePeriod = time.Duration(r.OverlapSeconds.Value) * time.Second
	}
	until := a.Now().Add(gracePeriod).UTC()
	if !old.ExpiresAt.IsZero() && old.ExpiresAt.Before(until) {
		return old.ExpiresAt
	}
	return until
}

func (a *API) revokeKey(ctx context.Context, in *KeyPath) (*operation.NoBody, error) {
	caller := operation.CallerOf(ctx)
	old, err := a.findKey(ctx, caller, in.KeyID)
	if err == nil {
		err = checkScopes(caller, old.Scopes) // a key cannot revoke keys with more scopes
	}
	if err != nil {
		return nil, err
	}
	err = a.Stores.Keys.RevokeAPIKey(ctx, caller.TenantID, in.KeyID, caller.Actor())
	a.keys.Reset()
	return nil, operation.NameNotFound("API key", err)
}
