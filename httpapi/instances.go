package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"time"

	"hydragate/gateway"
	"hydragate/identity"
)

type instanceAnswer struct {
	AgentDisabledAt *time.Time `json:"agent_disabled_at" doc:"When the agent answered 410. A new agent_url ends it."`
	AgentURL        *string    `json:"agent_url"`
	CreatedAt       time.Time  `json:"created_at"`
	CustomerMaxAge  *int       `json:"customer_max_age_days"`
	ID              string     `json:"id" format:"uuid"`
	Name            string     `json:"name"`
	OwnerMaxAge     *int       `json:"owner_max_age_days"`
	SilenceMax      *int       `json:"silence_max_days"`
	SMSInvites      bool       `json:"sms_invites"`
	UnknownSenders  string     `json:"unknown_senders" enum:"forward,reply,drop"`
	UpdatedAt       time.Time  `json:"updated_at"`
	WelcomeText     *string    `json:"welcome_text"`
}

// A new instance is shown with its secrets, once.
type createdInstance struct {
	AgentDisabledAt *time.Time `json:"agent_disabled_at"`
	AgentSecretKey  string     `json:"agent_secret_key" doc:"Names the instance to the conversation-user API. Shown once."`
	AgentURL        *string    `json:"agent_url"`
	CreatedAt       time.Time  `json:"created_at"`
	CustomerMaxAge  *int       `json:"customer_max_age_days"`
	ID              string     `json:"id" format:"uuid"`
	Name            string     `json:"name"`
	OwnerMaxAge     *int       `json:"owner_max_age_days"`
	SilenceMax      *int       `json:"silence_max_days"`
	SMSInvites      bool       `json:"sms_invites"`
	UnknownSenders  string     `json:"unknown_senders" enum:"forward,reply,drop"`
	UpdatedAt       time.Time  `json:"updated_at"`
	WebhookSecret   string     `json:"webhook_secret" doc:"Signs events, by the Standard Webhooks specification. Shown once."`
	WelcomeText     *string    `json:"welcome_text"`
}

func toInstance(i gateway.Instance) instanceAnswer {
	return instanceAnswer{
		AgentDisabledAt: timeOrNull(i.AgentDisabledAt), AgentURL: orNull(i.AgentURL), CreatedAt: i.CreatedAt.UTC(), ID: i.ID, Name: i.Name,
		CustomerMaxAge: daysOrNull(i.Freshness.CustomerDays), OwnerMaxAge: daysOrNull(i.Freshness.OwnerDays), SilenceMax: daysOrNull(i.Freshness.SilenceDays),
		UnknownSenders: string(i.UnknownSenders), UpdatedAt: i.UpdatedAt.UTC(), WelcomeText: orNull(i.WelcomeText), SMSInvites: i.SMSInvites,
	}
}

func daysOrNull(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

func toNewInstance(i gateway.Instance, s gateway.InstanceSecrets) createdInstance {
	v := toInstance(i)
	return createdInstance{
		AgentDisabledAt: v.AgentDisabledAt, AgentSecretKey: s.AgentSecretKey, AgentURL: v.AgentURL, CreatedAt: v.CreatedAt, ID: v.ID, Name: v.Name,
		CustomerMaxAge: v.CustomerMaxAge, OwnerMaxAge: v.OwnerMaxAge, SilenceMax: v.SilenceMax,
		UnknownSenders: v.UnknownSenders, UpdatedAt: v.UpdatedAt, WebhookSecret: s.WebhookSecret, WelcomeText: v.WelcomeText, SMSInvites: v.SMSInvites,
	}
}

// InstancePath names the instance a call is about.
type InstancePath struct {
	InstanceID string `path:"instance_id" format:"uuid"`
}

type instanceOut struct{ Body instanceAnswer }

type newInstance struct {
	Name           string      `json:"name" minLength:"1" maxLength:"255"`
	AgentURL       Opt[string] `json:"agent_url,omitempty" minLength:"1" maxLength:"2048" format:"uri" doc:"Where messages are posted to. Null: nobody is called."`
	UnknownSenders Opt[string] `json:"unknown_senders,omitempty" enum:"forward,reply,drop" doc:"What becomes of messages of people whom nobody knows. Default: forward."`
	WelcomeText    Opt[string] `json:"welcome_text,omitempty" maxLength:"4096" doc:"The answer to /start. Null: a text of the gateway's own."`
	OwnerMaxAge    Opt[int]    `json:"owner_max_age_days,omitempty" minimum:"1" maximum:"3650" doc:"After so many days the verification of an owner counts as a customer's. Null: never."`
	CustomerMaxAge Opt[int]    `json:"customer_max_age_days,omitempty" minimum:"1" maximum:"3650" doc:"After so many days a verification does not count until the account is claimed again. Null: never."`
	SilenceMax     Opt[int]    `json:"silence_max_days,omitempty" minimum:"1" maximum:"3650" doc:"After so many days without a message the next one is no customer's until the account is claimed again: the number may have changed hands. Null: never."`
	SMSInvites     Opt[bool]   `json:"sms_invites,omitempty" doc:"Whether staff may invite by SMS and WhatsApp, where a sender's number is as good as the carrier's word. False ends the invites that are live there. Default: false."`
}

func (a *API) createInstance(ctx context.Context, in *struct{ Body newInstance }) (*struct{ Body createdInstance }, error) {
	key, b := callerOf(ctx), in.Body
	if key.InstanceID != "" {
		return nil, onlyItsInstance()
	}
	secrets := newInstanceSecrets()
	i, err := a.Store.CreateInstance(ctx, gateway.Instance{
		ID: idFor(ctx), TenantID: key.TenantID, Name: b.Name, AgentURL: b.AgentURL.Value, UnknownSenders: policy(b.UnknownSenders.Value), WelcomeText: b.WelcomeText.Value,
		Freshness:  identity.Freshness{OwnerDays: b.OwnerMaxAge.Value, CustomerDays: b.CustomerMaxAge.Value, SilenceDays: b.SilenceMax.Value},
		SMSInvites: b.SMSInvites.Value,
	}, secrets, key.Actor())
	return &struct{ Body createdInstance }{toNewInstance(i, secrets)}, err
}

func newInstanceSecrets() gateway.InstanceSecrets {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return gateway.InstanceSecrets{
		AgentSecretKey: identity.NewToken("ask_"),
		WebhookSecret:  "whsec_" + base64.StdEncoding.EncodeToString(b[:]),
	}
}

// policy gives the policy named; none named is to hand messages on.
func policy(name string) gateway.UnknownSenders {
	if name == "" {
		return gateway.Forward
	}
	return gateway.UnknownSenders(name)
}

func (a *API) listInstances(ctx context.Context, in *PageOf) (*paged[instanceAnswer], error) {
	key := callerOf(ctx)
	return pageFrom(*in, func(after string, limit int) ([]gateway.Instance, error) {
		if key.InstanceID == "" {
			return a.Store.ListInstances(ctx, key.TenantID, after, limit)
		}
		return a.onlyInstance(ctx, key, after)
	}, func(i gateway.Instance) string { return i.ID }, toInstance)
}

// onlyInstance is the list of instances for a key that is limited to one.
func (a *API) onlyInstance(ctx context.Context, key identity.APIKey, after string) ([]gateway.Instance, error) {
	if after >= key.InstanceID {
		return nil, nil
	}
	i, err := a.Store.Instance(ctx, key.TenantID, key.InstanceID)
	return []gateway.Instance{i}, about("Instance", err)
}

func (a *API) getInstance(ctx context.Context, in *InstancePath) (*instanceOut, error) {
	i, err := a.Store.Instance(ctx, callerOf(ctx).TenantID, in.InstanceID)
	return &instanceOut{toInstance(i)}, about("Instance", err)
}

type instanceEdit struct {
	Name           Opt[string] `json:"name,omitempty" nullable:"false" minLength:"1" maxLength:"255"`
	AgentURL       Opt[string] `json:"agent_url,omitempty" minLength:"1" maxLength:"2048" format:"uri"`
	UnknownSenders Opt[string] `json:"unknown_senders,omitempty" enum:"forward,reply,drop"`
	WelcomeText    Opt[string] `json:"welcome_text,omitempty" maxLength:"4096"`
	OwnerMaxAge    Opt[int]    `json:"owner_max_age_days,omitempty" minimum:"1" maximum:"3650" doc:"After so many days the verification of an owner counts as a customer's. Null: never."`
	CustomerMaxAge Opt[int]    `json:"customer_max_age_days,omitempty" minimum:"1" maximum:"3650" doc:"After so many days a verification does not count until the account is claimed again. Null: never."`
	SilenceMax     Opt[int]    `json:"silence_max_days,omitempty" minimum:"1" maximum:"3650" doc:"After so many days without a message the next one is no customer's until the account is claimed again: the number may have changed hands. Null: never."`
	SMSInvites     Opt[bool]   `json:"sms_invites,omitempty" doc:"Whether staff may invite by SMS and WhatsApp, where a sender's number is as good as the carrier's word. False ends the invites that are live there. Default: false."`
}

func (a *API) editInstance(ctx context.Context, in *struct {
	InstancePath
	Body instanceEdit
}) (*instanceOut, error) {
	key, b := callerOf(ctx), in.Body
	e := gateway.InstanceEdit{Name: b.Name.Edit(), AgentURL: b.AgentURL.Edit(), WelcomeText: b.WelcomeText.Edit(),
		OwnerDays: b.OwnerMaxAge.Edit(), CustomerDays: b.CustomerMaxAge.Edit(), SilenceDays: b.SilenceMax.Edit(), SMSInvites: b.SMSInvites.Edit()}
	if b.UnknownSenders.Given {
		p := policy(b.UnknownSenders.Value)
		e.UnknownSenders = &p
	}
	i, err := a.Store.EditInstance(ctx, key.TenantID, in.InstanceID, e, key.Actor())
	return &instanceOut{toInstance(i)}, about("Instance", err)
}

func (a *API) deleteInstance(ctx context.Context, in *InstancePath) (*none, error) {
	key := callerOf(ctx)
	if err := a.removeChannels(ctx, key, in.InstanceID); err != nil {
		return nil, about("Instance", err)
	}
	err := a.Store.DeleteInstance(ctx, key.TenantID, in.InstanceID, key.Actor())
	a.keys.forget() // those of the instance went with it
	return nil, about("Instance", err)
}

// removeChannels tells the providers of an instance that nobody listens any more.
func (a *API) removeChannels(ctx context.Context, key identity.APIKey, instance string) error {
	seats, err := a.Channels.Seats(ctx, key.TenantID, instance)
	if err != nil {
		return err
	}
	for _, s := range seats {
		if err := a.Channels.Remove(ctx, key.TenantID, instance, s.Channel, key.Actor()); err != nil && !errors.Is(err, gateway.ErrNoEndpoint) {
			return err
		}
	}
	return nil
}
