package adapters

import (
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"
)

// An Endpoint is one instance's seat on a channel: a bot, a phone number, a
// workspace app.
type Endpoint struct {
	ID         string
	TenantID   string
	InstanceID string
	Channel    Channel
	Mode       Mode
	Address    string // bot id, E.164 number, Slack team id
	WebhookURL string // public URL of the main hook, from configuration; hooks of the same endpoint hang below it
	Settings   map[string]string
	Credentials
	GraceRemaining time.Duration // how long a replaced credential is good still, from when the endpoint was read
}

// A Mode says how messages arrive.
type Mode string

// The modes of an endpoint.
const (
	Webhook Mode = "webhook"
	Polling Mode = "polling"
	Socket  Mode = "socket"
)

// Keys of Endpoint.Settings: facts the provider told at set-up, none of them secret.
const (
	BotUsername = "bot_username" // Telegram, without "@"
	BotUserID   = "bot_user_id"  // Slack
	BotID       = "bot_id"       // Slack
	AppID       = "app_id"       // Slack
	TeamName    = "team_name"    // Slack
	NumberSID   = "number_sid"   // Twilio
	Warning     = "warning"      // what set-up could not do, for staff to read
)

// PreviousSuffix ends the key of a credential that was replaced. The provider may still sign
// requests with it during the grace period.
const PreviousSuffix = "_old"

// Keys of Credentials.
const (
	BotToken      = "bot_token"      // Telegram, Slack
	WebhookSecret = "webhook_secret" // Telegram, ours
	AccountSID    = "account_sid"    // Twilio
	AuthToken     = "auth_token"     // Twilio
	SigningSecret = "signing_secret" // Slack
	AppToken      = "app_token"      // Slack
)

// Credentials are the secrets of an endpoint, by the names above. They cannot be
// printed by accident: every formatter shows "[redacted]".
type Credentials map[string]string

const redacted = "[redacted]"

func (Credentials) String() string { return redacted }

func (Credentials) GoString() string { return redacted }

// LogValue keeps the credentials out of structured logs.
func (Credentials) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON keeps the credentials out of every document.
func (Credentials) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Format keeps the credentials out of every fmt verb.
func (Credentials) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// Current gives the values of key that are good now: the newest first, then the
// one before it. It is empty when no key is set, and then nothing may pass.
func (c Credentials) Current(key string) []string {
	var keys []string
	for _, k := range []string{key, key + PreviousSuffix} {
		if c[k] != "" {
			keys = append(keys, c[k])
		}
	}
	return keys
}

// WithoutPrevious gives the credentials without those that were replaced.
func (c Credentials) WithoutPrevious() Credentials {
	newest := maps.Clone(c)
	maps.DeleteFunc(newest, func(key, _ string) bool { return strings.HasSuffix(key, PreviousSuffix) })
	return newest
}
