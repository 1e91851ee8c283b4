package endpoints

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

func TestConfigure(t *testing.T) {
	p := &fakeProvider{channel: adapters.Telegram}
	m, s := newManager(p)
	p.connect = func(_ context.Context, ep adapters.Endpoint) error {
		row := s.row("i")
		if row.ID == "" || s.row("i").due.IsZero() {
			t.Errorf("connected before the endpoint was stored and due for a retry: %+v", row)
		}
		if row.Credentials[adapters.WebhookSecret] != ep.Credentials[adapters.WebhookSecret] {
			t.Error("connected with another webhook secret than is stored")
		}
		return nil
	}
	creds := maps.Clone(tokenCredentials)
	state := mustConfigure(t, m, creds)
	if state.Status != gateway.EndpointActive || state.Mode != adapters.Webhook ||
		state.Address != "bot 7" || state.Settings[adapters.BotUsername] != "acme_bot" {
		t.Fatalf("Configure() = %+v, want an active endpoint as reported by the provider", state.Endpoint)
	}
	const want = "https://gate.example.com/hooks/telegram/i"
	if state.WebhookURL != want || p.lastEndpoint().WebhookURL != want {
		t.Errorf("webhook URL = %q, provider has %q, want %q", state.WebhookURL, p.lastEndpoint().WebhookURL, want)
	}
	secret := state.Credentials[adapters.WebhookSecret]
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(secret) {
		t.Errorf("webhook secret has %d characters, want 43 that Telegram allows", len(secret))
	}
	if len(creds) != 1 {
		t.Error("Configure modified the credentials of the caller")
	}
	if row := s.row("i"); row.Status != gateway.EndpointActive || !s.row("i").due.IsZero() {
		t.Errorf("stored status = %v, due at %v, want active and not due", row.Status, s.row("i").due)
	}
}

func TestConfigure_Again(t *testing.T) {
	p := &fakeProvider{channel: adapters.Telegram}
	m, _ := newManager(p)
	secret := func(s gateway.EndpointState) string { return s.Credentials[adapters.WebhookSecret] }
	first := mustConfigure(t, m, tokenCredentials)
	second := mustConfigure(t, m, tokenCredentials)
	if second.ID != first.ID || secret(second) == secret(first) {
		t.Errorf("second Configure() has ID %q, want %q and a new webhook secret", second.ID, first.ID)
	}
	if p.lastEndpoint().Credentials[adapters.WebhookSecret] != secret(second) {
		t.Error("the provider does not have the new webhook secret")
	}
	other := mustConfigure(t, m, adapters.Credentials{adapters.BotToken: "8:token"})
	if secret(other) == secret(first) {
		t.Error("another bot has the webhook secret of the first")
	}
	if got, want := p.callLog(), "check connect check connect check connect"; got != want {
		t.Errorf("provider calls = %q, want %q", got, want)
	}
}

func TestConfigure_Refused(t *testing.T) {
	for _, reason := range []adapters.Reason{adapters.BadSecret, adapters.Refused} {
		p := &fakeProvider{channel: adapters.Slack, check: failWith(reason)}
		m, s := newManager(p)
		_, err := configure(t, m, tokenCredentials)
		se, ok := errors.AsType[*adapters.SetupError](err)
		if !ok || se.Reason != reason || se.Field != adapters.BotToken {
			t.Errorf("%s: Configure() = %v, want the error of the provider", reason, err)
		}
		if s.saved != 0 || p.callLog() != "check" {
			t.Errorf("%s: saved %d rows, provider calls %q, want 0, %q", reason, s.saved, p.callLog(), "check")
		}
	}
}

func TestConfigure_RefusedAtConnect(t *testing.T) {
	p := &fakeProvider{channel: adapters.Telegram, connect: failWith(adapters.Refused)}
	m, s := newManager(p)
	state, err := configure(t, m, tokenCredentials)
	if _, ok := errors.AsType[*adapters.SetupError](err); !ok || state.Status != gateway.EndpointError {
		t.Errorf("Configure() = %v, %v, want status error and the error of the provider", state.Status, err)
	}
	row := s.row("i")
	if row.Status != gateway.EndpointError || row.ErrorMessage != "The provider reports refused." ||
		!s.row("i").due.IsZero() {
		t.Errorf("stored %v %q, due at %v, want an error without a retry", row.Status, row.ErrorMessage, s.row("i").due)
	}
}

func TestConfigure_NotFound(t *testing.T) {
	p := &fakeProvider{channel: adapters.Telegram}
	m, s := newManager(p)
	unknown := newConfig("gone", adapters.Telegram, tokenCredentials)
	if _, err := m.Configure(t.Context(), unknown); !errors.Is(err, gateway.ErrNoInstance) {
		t.Errorf("Configure(unknown instance) = %v, want ErrNoInstance", err)
	}
	unsupported := newConfig("i", adapters.SMS, tokenCredentials)
	if _, err := m.Configure(t.Context(), unsupported); !errors.Is(err, gateway.ErrNoEndpoint) {
		t.Errorf("Configure(channel without adapter) = %v, want ErrNoEndpoint", err)
	}
	if p.callLog() != "" {
		t.Errorf("provider calls = %q, want none", p.callLog())
	}
	s.err = errors.New("database unavailable")
	if _, err := configure(t, m, tokenCredentials); !errors.Is(err, s.err) || p.callLog() != "check" {
		t.Errorf("Configure() = %v, provider calls %q, want %v and no webhook", err, p.callLog(), s.err)
	}
}

func TestConfigure_Canceled(t *testing.T) {
	p := &fakeProvider{channel: adapters.Telegram}
	m, s := newManager(p)
	ctx, cancel := context.WithCancel(t.Context())
	p.connect = func(ctx context.Context, _ adapters.Endpoint) error { cancel(); return ctx.Err() }
	_, err := m.Configure(ctx, newConfig("i", adapters.Telegram, tokenCredentials))
	if err != nil || s.row("i").Status != gateway.EndpointActive {
		t.Errorf("canceled after the endpoint was stored: %v, status %v, want the set-up completed", err, s.row("i").Status)
	}
	p.check = hang
	_, err = m.Configure(ctx, newConfig("j", adapters.Telegram, tokenCredentials))
	if !errors.Is(err, context.Canceled) || s.row("j").ID != "" {
		t.Errorf("canceled before the endpoint was stored: %v, want context.Canceled and nothing stored", err)
	}
}

// TestConfigure_Concurrent checks that the provider ends up with the configuration that was stored
// last.
func TestConfigure_Concurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakeProvider{channel: adapters.Telegram}
		m, s := newManager(p)
		first := true
		p.connect = func(context.Context, adapters.Endpoint) error {
			if first {
				first = false
				mustConfigure(t, m, adapters.Credentials{adapters.BotToken: "8:token"})
			}
			return nil
		}
		state := mustConfigure(t, m, tokenCredentials)
		if state.Credentials[adapters.BotToken] != "8:token" || state.WebhookURL == "" {
			t.Error("the overtaken Configure does not return the endpoint that is stored")
		}
		stop := runManager(t, m)
		<-time.After(time.Minute)
		if p.lastEndpoint().Credentials[adapters.BotToken] != "8:token" || s.row("i").Status != gateway.EndpointActive {
			t.Error("the provider does not have the configuration that was stored last")
		}
		stop()
	})
}

func TestConfigure_RemovedDuringSetup(t *testing.T) {
	p := &fakeProvider{channel: adapters.Telegram}
	m, s := newManager(p)
	p.connect = func(ctx context.Context, _ adapters.Endpoint) error {
		return s.RemoveEndpoint(ctx, "t", "i", adapters.Telegram, identity.System)
	}
	if _, err := configure(t, m, tokenCredentials); !errors.Is(err, gateway.ErrNoEndpoint) {
		t.Errorf("Configure() = %v, want ErrNoEndpoint", err)
	}
	if got, want := p.callLog(), "check connect disconnect"; got != want {
		t.Errorf("provider calls = %q, want %q", got, want)
	}
}

func TestConfigure_NoSecretLeaks(t *testing.T) {
	var log bytes.Buffer
	for _, result := range []providerFunc{nil, failWith(adapters.Unreachable), failWith(adapters.Refused)} {
		p := &fakeProvider{channel: adapters.Telegram, connect: result, disconnect: result}
		m, _ := newManager(p)
		m.Log = slog.New(slog.NewTextHandler(&log, nil))
		state, err := configure(t, m, tokenCredentials)
		if err := m.Remove(t.Context(), "t", "i", adapters.Telegram, "key:k"); err != nil {
			t.Fatalf("Remove() = %v, want nil", err)
		}
		output := fmt.Sprintf("%v %+v %#v %v %s", state, state, state, err, log.String())
		secret := p.lastEndpoint().Credentials[adapters.WebhookSecret]
		if strings.Contains(output, tokenCredentials[adapters.BotToken]) || strings.Contains(output, secret) {
			t.Error("a secret is printed or logged")
		}
	}
	if n := strings.Count(log.String(), "set up endpoint"); n != 3 {
		t.Errorf("%d log lines for three set-ups, want 3:\n%s", n, log.String())
	}
}
