package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// InstanceStore stores instances. Its methods return gateway.ErrNoInstance for an unknown instance.
type InstanceStore interface {
	CreateInstance(
		ctx context.Context, i gateway.Instance, s gateway.InstanceSecrets, by identity.Actor,
	) (gateway.Instance, error)
	Instance(ctx context.Context, tenant, id string) (gateway.Instance, error)
	EditInstance(
		ctx context.Context, tenant, id string, e gateway.InstanceEdit, by identity.Actor,
	) (gateway.Instance, error)
	ListInstances(ctx context.Context, tenant, after string, limit int) ([]gateway.Instance, error)
	// DefaultRegion returns the country of phone numbers without a country code of an instance. If
	// instance is empty, it is the one that all instances of the tenant have.
	DefaultRegion(ctx context.Context, tenant, instance string) (string, error)
	// DeleteInstance removes an instance with its endpoints, conversations and the identities
	// limited to it.
	DeleteInstance(ctx context.Context, tenant, id string, by identity.Actor) error
}

type instanceResponse struct {
	AgentDisabledAt *time.Time    `json:"agent_disabled_at"`
	AgentURL        *string       `json:"agent_url"`
	CreatedAt       time.Time     `json:"created_at"`
	CustomerMaxAge  *int          `json:"customer_max_age_days"`
	DefaultRegion   *string       `json:"default_region"`
	Events          []eventType   `json:"events" nullable:"false"`
	ID              string        `json:"id" format:"uuid"`
	Name            string        `json:"name"`
	OwnerChannels   []channelName `json:"owner_channels" nullable:"false"`
	OwnerMaxAge     *int          `json:"owner_max_age_days"`
	SilenceMax      *int          `json:"silence_max_days"`
	SMSInvites      bool          `json:"sms_invites"`
	UnknownSenders  string        `json:"unknown_senders" enum:"forward,reply,drop"`
	UpdatedAt       time.Time     `json:"updated_at"`
	WelcomeText     *string       `json:"welcome_text"`
}

// A createdInstance is the response with the secrets of a new instance, which are not shown again.
type createdInstance struct {
	AgentDisabledAt *time.Time    `json:"agent_disabled_at"`
	AgentSecretKey  *string       `json:"agent_secret_key"`
	AgentURL        *string       `json:"agent_url"`
	CreatedAt       time.Time     `json:"created_at"`
	CustomerMaxAge  *int          `json:"customer_max_age_days"`
	DefaultRegion   *string       `json:"default_region"`
	Events          []eventType   `json:"events" nullable:"false"`
	ID              string        `json:"id" format:"uuid"`
	Name            string        `json:"name"`
	OwnerChannels   []channelName `json:"owner_channels" nullable:"false"`
	OwnerMaxAge     *int          `json:"owner_max_age_days"`
	SilenceMax      *int          `json:"silence_max_days"`
	SMSInvites      bool          `json:"sms_invites"`
	UnknownSenders  string        `json:"unknown_senders" enum:"forward,reply,drop"`
	UpdatedAt       time.Time     `json:"updated_at"`
	WebhookSecret   string        `json:"webhook_secret"`
	WelcomeText     *string       `json:"welcome_text"`
}

func toInstance(i gateway.Instance) instanceResponse {
	return instanceResponse{
		AgentDisabledAt: operation.NullableTime(i.AgentDisabledAt),
		AgentURL:        operation.NullableString(i.AgentURL),
		CreatedAt:       i.CreatedAt.UTC(),
		Events:          eventTypeNames(i),
		ID:              i.ID,
		Name:            i.Name,
		CustomerMaxAge:  nullableDays(i.VerificationPolicy.CustomerDays),
		OwnerMaxAge:     nullableDays(i.VerificationPolicy.OwnerDays),
		SilenceMax:      nullableDays(i.VerificationPolicy.InactivityDays),
		UnknownSenders:  string(i.UnknownSenders),
		UpdatedAt:       i.UpdatedAt.UTC(),
		WelcomeText:     operation.NullableString(i.WelcomeText),
		DefaultRegion:   operation.NullableString(i.DefaultRegion),
		SMSInvites:      i.SMSInvites,
		OwnerChannels:   ownerChannelNames(i.OwnerChannels),
	}
}

// A channelName is the name of a channel that has an adapter.
type channelName string

// Schema implements huma.SchemaProvider. It lists all channels.
func (channelName) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, c := range adapters.Channels() {
		s.Enum = append(s.Enum, string(c))
	}
	return s
}

// ownerChannelNames returns the channels on which a claim grants owner. The default is all.
func ownerChannelNames(channels *[]adapters.Channel) []channelName {
	names := []channelName{}
	for _, c := range adapters.Channels() {
		if channels == nil || slices.Contains(*channels, c) {
			names = append(names, channelName(c))
		}
	}
	return names
}

// ownerChannels returns the named channels, in the order of adapters.Channels. Null is the
// default, nil.
func ownerChannels(names []channelName) *[]adapters.Channel {
	if names == nil {
		return nil
	}
	channels := []adapters.Channel{}
	for _, c := range adapters.Channels() {
		if slices.Contains(names, channelName(c)) {
			channels = append(channels, c)
		}
	}
	return &channels
}

// An eventType is the name of a type of events.
type eventType string

// Schema implements huma.SchemaProvider. It lists all types.
func (eventType) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, t := range gateway.AllEventTypes() {
		s.Enum = append(s.Enum, string(t))
	}
	return s
}

// eventTypeNames returns the types of events that the application of an instance receives.
func eventTypeNames(i gateway.Instance) []eventType {
	names := []eventType{}
	for _, t := range gateway.AllEventTypes() {
		if i.Receives(t) {
			names = append(names, eventType(t))
		}
	}
	return names
}

// eventTypes returns the named types, in the order of gateway.AllEventTypes. Null is the default, nil.
func eventTypes(names []eventType) *[]gateway.EventType {
	if names == nil {
		return nil
	}
	types := []gateway.EventType{}
	for _, t := range gateway.AllEventTypes() {
		if slices.Contains(names, eventType(t)) {
			types = append(types, t)
		}
	}
	return &types
}

func nullableDays(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

// agentSecretKey returns the agent secret key as a response to the caller shows it. It is null for a
// caller without the scopes that the conversation-user API would grant the holder of the key.
func agentSecretKey(caller identity.APIKey, secret string) *string {
	if !caller.HasScope("customers:read") || !caller.HasScope("customers:write") {
		return nil
	}
	return &secret
}

func toCreatedInstance(i gateway.Instance, s gateway.InstanceSecrets, caller identity.APIKey) createdInstance {
	v := toInstance(i)
	return createdInstance{
		AgentDisabledAt: v.AgentDisabledAt,
		AgentSecretKey:  agentSecretKey(caller, s.AgentSecretKey),
		AgentURL:        v.AgentURL,
		CreatedAt:       v.CreatedAt,
		Events:          v.Events,
		ID:              v.ID,
		Name:            v.Name,
		CustomerMaxAge:  v.CustomerMaxAge,
		OwnerMaxAge:     v.OwnerMaxAge,
		SilenceMax:      v.SilenceMax,
		UnknownSenders:  v.UnknownSenders,
		UpdatedAt:       v.UpdatedAt,
		WebhookSecret:   s.WebhookSecret,
		WelcomeText:     v.WelcomeText,
		DefaultRegion:   v.DefaultRegion,
		SMSInvites:      v.SMSInvites,
		OwnerChannels:   v.OwnerChannels,
	}
}

// InstancePath is the path parameter of an instance.
type InstancePath struct {
	InstanceID string `path:"instance_id" format:"uuid" doc:"ID of the instance."`
}

type instanceOut struct{ Body instanceResponse }

type newInstance struct {
	Name           string                          `json:"name" minLength:"1" maxLength:"255"`
	AgentURL       fastapi.Optional[string]        `json:"agent_url,omitempty" minLength:"1" maxLength:"2048" format:"uri"`
	UnknownSenders fastapi.Optional[string]        `json:"unknown_senders,omitempty" enum:"forward,reply,drop"`
	WelcomeText    fastapi.Optional[string]        `json:"welcome_text,omitempty" maxLength:"4096"`
	DefaultRegion  fastapi.Optional[string]        `json:"default_region,omitempty" format:"region"`
	Events         fastapi.Optional[[]eventType]   `json:"events,omitempty" maxItems:"32"`
	OwnerChannels  fastapi.Optional[[]channelName] `json:"owner_channels,omitempty" maxItems:"16"`
	OwnerMaxAge    fastapi.Optional[int]           `json:"owner_max_age_days,omitempty" minimum:"1" maximum:"3650"`
	CustomerMaxAge fastapi.Optional[int]           `json:"customer_max_age_days,omitempty" minimum:"1" maximum:"3650"`
	SilenceMax     fastapi.Optional[int]           `json:"silence_max_days,omitempty" minimum:"1" maximum:"3650"`
	SMSInvites     fastapi.Optional[bool]          `json:"sms_invites,omitempty"`
}

func (a *API) createInstance(
	ctx context.Context, in *struct{ Body newInstance },
) (*struct{ Body createdInstance }, error) {
	key, b := operation.CallerOf(ctx), in.Body
	if key.InstanceID != "" {
		return nil, operation.KeyLimitedProblem()
	}
	secrets := newInstanceSecrets()
	i, err := a.Stores.Instances.CreateInstance(ctx, gateway.Instance{
		ID:             resourceID(ctx),
		TenantID:       key.TenantID,
		Name:           b.Name,
		AgentURL:       b.AgentURL.Value,
		UnknownSenders: unknownSendersPolicy(b.UnknownSenders.Value),
		WelcomeText:    b.WelcomeText.Value,
		DefaultRegion:  b.DefaultRegion.Value,
		VerificationPolicy: identity.VerificationPolicy{
			OwnerDays: b.OwnerMaxAge.Value, CustomerDays: b.CustomerMaxAge.Value, InactivityDays: b.SilenceMax.Value,
		},
		SMSInvites:    b.SMSInvites.Value,
		OwnerChannels: ownerChannels(b.OwnerChannels.Value),
		Events:        eventTypes(b.Events.Value),
	}, secrets, key.Actor())
	return &struct{ Body createdInstance }{toCreatedInstance(i, secrets, key)}, err
}

func newInstanceSecrets() gateway.InstanceSecrets {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return gateway.InstanceSecrets{
		AgentSecretKey: identity.NewToken("ask_"),
		WebhookSecret:  "whsec_" + base64.StdEncoding.EncodeToString(b[:]),
	}
}

// unknownSendersPolicy returns the named policy. The default is to forward messages.
func unknownSendersPolicy(name string) gateway.UnknownSenderPolicy {
	if name == "" {
		return gateway.ForwardUnknown
	}
	return gateway.UnknownSenderPolicy(name)
}

func (a *API) listInstances(
	ctx context.Context, in *operation.PageQuery,
) (*operation.PageOut[instanceResponse], error) {
	key := operation.CallerOf(ctx)
	return operation.FetchPage(*in, func(after string, limit int) ([]gateway.Instance, error) {
		if key.InstanceID == "" {
			return a.Stores.Instances.ListInstances(ctx, key.TenantID, after, limit)
		}
		return a.ownInstance(ctx, key, after)
	}, func(i gateway.Instance) string { return i.ID }, toInstance)
}

// ownInstance returns the list of instances for a key that is limited to one.
func (a *API) ownInstance(ctx context.Context, key identity.APIKey, after string) ([]gateway.Instance, error) {
	if after >= key.InstanceID {
		return nil, nil
	}
	i, err := a.Stores.Instances.Instance(ctx, key.TenantID, key.InstanceID)
	return []gateway.Instance{i}, operation.NameNotFound("Instance", err)
}

func (a *API) getInstance(ctx context.Context, in *InstancePath) (*instanceOut, error) {
	i, err := a.Stores.Instances.Instance(ctx, operation.CallerOf(ctx).TenantID, in.InstanceID)
	return &instanceOut{toInstance(i)}, operation.NameNotFound("Instance", err)
}

type instanceEdit struct {
	Name           fastapi.Optional[string]        `json:"name,omitempty" nullable:"false" minLength:"1" maxLength:"255"`
	AgentURL       fastapi.Optional[string]        `json:"agent_url,omitempty" minLength:"1" maxLength:"2048" format:"uri"`
	UnknownSenders fastapi.Optional[string]        `json:"unknown_senders,omitempty" enum:"forward,reply,drop"`
	WelcomeText    fastapi.Optional[string]        `json:"welcome_text,omitempty" maxLength:"4096"`
	DefaultRegion  fastapi.Optional[string]        `json:"default_region,omitempty" format:"region"`
	Events         fastapi.Optional[[]eventType]   `json:"events,omitempty" maxItems:"32"`
	OwnerChannels  fastapi.Optional[[]channelName] `json:"owner_channels,omitempty" maxItems:"16"`
	OwnerMaxAge    fastapi.Optional[int]           `json:"owner_max_age_days,omitempty" minimum:"1" maximum:"3650"`
	CustomerMaxAge fastapi.Optional[int]           `json:"customer_max_age_days,omitempty" minimum:"1" maximum:"3650"`
	SilenceMax     fastapi.Optional[int]           `json:"silence_max_days,omitempty" minimum:"1" maximum:"3650"`
	SMSInvites     fastapi.Optional[bool]          `json:"sms_invites,omitempty"`
}

func (a *API) editInstance(ctx context.Context, in *struct {
	InstancePath
	Body instanceEdit
},
) (*instanceOut, error) {
	key, b := operation.CallerOf(ctx), in.Body
	e := gateway.InstanceEdit{
		Name:           b.Name.Edit(),
		AgentURL:       b.AgentURL.Edit(),
		WelcomeText:    b.WelcomeText.Edit(),
		DefaultRegion:  b.DefaultRegion.Edit(),
		OwnerDays:      b.OwnerMaxAge.Edit(),
		CustomerDays:   b.CustomerMaxAge.Edit(),
		InactivityDays: b.SilenceMax.Edit(),
		SMSInvites:     b.SMSInvites.Edit(),
	}
	if b.OwnerChannels.IsSet {
		e.OwnerChannels = &gateway.OwnerChannelsEdit{Channels: ownerChannels(b.OwnerChannels.Value)}
	}
	if b.Events.IsSet {
		e.Events = &gateway.EventsEdit{Types: eventTypes(b.Events.Value)}
	}
	if b.UnknownSenders.IsSet {
		p := unknownSendersPolicy(b.UnknownSenders.Value)
		e.UnknownSenders = &p
	}
	i, err := a.Stores.Instances.EditInstance(ctx, key.TenantID, in.InstanceID, e, key.Actor())
	return &instanceOut{toInstance(i)}, operation.NameNotFound("Instance", err)
}

func (a *API) deleteInstance(ctx context.Context, in *InstancePath) (*operation.NoBody, error) {
	key := operation.CallerOf(ctx)
	if err := a.removeChannels(ctx, key, in.InstanceID); err != nil {
		return nil, operation.NameNotFound("Instance", err)
	}
	err := a.Stores.Instances.DeleteInstance(ctx, key.TenantID, in.InstanceID, key.Actor())
	a.keys.Reset() // the keys of the instance were deleted
	return nil, operation.NameNotFound("Instance", err)
}

// removeChannels removes the endpoints of an instance, also at the providers.
func (a *API) removeChannels(ctx context.Context, key identity.APIKey, instance string) error {
	states, err := a.Endpoints.EndpointStates(ctx, key.TenantID, instance)
	if err != nil {
		return err
	}
	for _, s := range states {
		if err := a.Endpoints.Remove(
			ctx, key.TenantID, instance, s.Channel, key.Actor(),
		); err != nil && !errors.Is(err, gateway.ErrNoEndpoint) {
			return err
		}
	}
	return nil
}
