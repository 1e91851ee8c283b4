package store

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/store/keyring"
)

// TestEndpoints_MovedCredentialsRejected moves encrypted values between rows, columns and tenants with
// SQL statements. Reading them must fail.
func TestEndpoints_MovedCredentialsRejected(t *testing.T) {
	forEachKeyFixture(t, func(t *testing.T, f *fixture, _ string) {
		mine := mustSaveEndpoint(t, f.Store, gateway.EndpointState{Endpoint: endpoint(f.tenant, f.instance)}, timeZero)
		theirs := endpoint(newTenant(t, f.Store), "")
		theirs.InstanceID = newInstance(t, f.Store, theirs.TenantID).ID
		other := mustSaveEndpoint(t, f.Store, gateway.EndpointState{Endpoint: theirs}, timeZero)
		sibling := endpoint(f.tenant, newInstance(t, f.Store, f.tenant).ID)
		second := mustSaveEndpoint(t, f.Store, gateway.EndpointState{Endpoint: sibling}, timeZero)
		credentials := func(id string) string {
			return queryText(t, f.Store, `select credentials from endpoints where id = $1`, id)
		}
		own := credentials(mine.ID)
		for name, value := range map[string]string{
			"value of another row": credentials(second.ID), "value of another tenant": credentials(other.ID),
			"changed value":           own[:len(own)-3] + "AAA",
			"empty value":             "",
			"value of another column": queryText(t, f.Store, `select webhook_secret from instances where id = $1`, f.instance),
		} {
			mustExec(t, f.Store, `update endpoints set credentials = $1 where id = $2`, value, mine.ID)
			ep, err := f.WebhookEndpoint(t.Context(), f.instance, adapters.SMS)
			if !errors.Is(err, keyring.ErrDecrypt) || ep.Credentials != nil {
				t.Errorf("WebhookEndpoint() with %s = %v, want ErrDecrypt", name, err)
			}
			if state, err := f.EndpointState(t.Context(), f.tenant, f.instance, adapters.SMS); err != nil ||
				state.Status != gateway.EndpointError || state.ErrorMessage != credentialsUnreadable || state.Err == nil {
				t.Errorf("EndpointState() with %s: %v %q, %v", name, state.Status, state.ErrorMessage, err)
			}
		}
		mustExec(t, f.Store, `update instances set webhook_secret = $1 where id = $2`, own, f.instance)
		if secrets, err := f.SigningSecrets(t.Context(), f.tenant, f.instance); !errors.Is(err, keyring.ErrDecrypt) ||
			secrets != nil {
			t.Errorf("SigningSecrets() with credentials of an endpoint = %v, want ErrDecrypt", err)
		}
		mustExec(t, f.Store, `update endpoints set credentials = $1 where id = $2`, own, mine.ID)
		if _, err := f.WebhookEndpoint(t.Context(), f.instance, adapters.SMS); err != nil {
			t.Errorf("WebhookEndpoint() with the original value = %v", err)
		}
	})
}

func TestSaveEndpoint_CredentialsEncrypted(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		s, ep := f.Store, endpoint(f.tenant, f.instance)
		state := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
		saved := queryText(t, s, `select credentials from endpoints where id = $1`, state.ID)
		if strings.Contains(saved, "token") || strings.Contains(saved, "AC1") || strings.Contains(saved, "redacted") {
			t.Error("the credentials are not encrypted")
		}
		other := newInstance(t, s, ep.TenantID)
		ep.InstanceID = other.ID
		moved := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
		mustExec(t, s, `update endpoints set credentials = $2 where id = $1`, moved.ID, saved)
		got, err := s.EndpointState(t.Context(), ep.TenantID, other.ID, ep.Channel)
		if err != nil || got.Status != gateway.EndpointError || len(got.Credentials) != 0 || got.ErrorMessage == "" {
			t.Errorf("EndpointState() with credentials of another row: %v, %d credentials, %v, want an error without any",
				got.Status,
				len(got.Credentials), err)
		}
	})
}

func TestSaveEndpoint_PreviousCredentials(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		s, ep := f.Store, endpoint(f.tenant, f.instance)
		mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
		rotated := ep
		rotated.Credentials = adapters.Credentials{adapters.AccountSID: "AC1", adapters.AuthToken: "token two"}
		for range 2 {
			if got := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: rotated},
				timeZero).Current(adapters.AuthToken); fmt.Sprint(got) != "[token two token one]" {
				t.Errorf("valid credentials = %v, want both", got)
			}
		}
		byWebhook, err := s.WebhookEndpoint(t.Context(), ep.InstanceID, ep.Channel)
		if err != nil || len(byWebhook.Current(adapters.AuthToken)) != 2 {
			t.Errorf(
				"WebhookEndpoint() has %d valid credentials, %v, want both",
				len(byWebhook.Current(adapters.AuthToken)),
				err,
			)
		}
		valid := func() string {
			t.Helper()
			byWebhook, err := s.WebhookEndpoint(t.Context(), ep.InstanceID, ep.Channel)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(byWebhook.Current(adapters.AuthToken))
		}
		left := func() string {
			return queryText(
				t,
				s,
				`select coalesce(cast(round(`+s.dialect.SecondsUntil(
					"old_until",
				)+`) as text), 'unknown') from endpoints where instance_id = $1`,
				ep.InstanceID,
			)
		}
		// Staff set the secret at Twilio, so the grace period starts when the endpoint is saved.
		if !strings.HasPrefix(left(), "86400") {
			t.Errorf("grace period after saving ends in %s s, want a day", left())
		}
		state, err := s.EndpointState(t.Context(), ep.TenantID, ep.InstanceID, ep.Channel)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.SetEndpointStatus(t.Context(), state, s.now().Add(time.Minute)); err != nil ||
			!strings.HasPrefix(left(), "86") {
			t.Errorf("grace period during retries ends in %s s, %v, want a day", left(), err)
		}
		if _, err := s.SetEndpointStatus(t.Context(), state, timeZero); err != nil || !strings.HasPrefix(left(), "86") ||
			valid() != "[token two token one]" {
			t.Errorf("after set-up %s are valid for %s s, %v", valid(), left(), err)
		}
		// Saving the same endpoint does not restart the grace period.
		mustExec(t, s, `update endpoints set old_until = `+s.dialect.NowPlus(60)+` where instance_id = $1`, ep.InstanceID)
		mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: rotated}, timeZero)
		if !strings.HasPrefix(left(), "60") && !strings.HasPrefix(left(), "59") {
			t.Errorf("grace period after saving again ends in %s s, want 60", left())
		}
		mustExec(t, s, `update endpoints set old_until = `+s.dialect.NowPlus(-1)+` where instance_id = $1`, ep.InstanceID)
		if valid() != "[token two]" {
			t.Errorf("valid after the grace period = %s", valid())
		}
		// A zero grace period ends all previous credentials immediately.
		third := ep
		third.Credentials = adapters.Credentials{adapters.AccountSID: "AC1", adapters.AuthToken: "token three"}
		var none time.Duration
		mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: third, GracePeriod: &none}, timeZero)
		if valid() != "[token three]" {
			t.Errorf("valid without a grace period = %s", valid())
		}
	})
}

func TestSaveEndpoint_OtherAccount(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		s, ep := f.Store, endpoint(f.tenant, f.instance)
		for name, change := range map[string]func(*adapters.Endpoint){
			"account": func(ep *adapters.Endpoint) { ep.Credentials[adapters.AccountSID] = "AC2" },
			"number":  func(ep *adapters.Endpoint) { ep.Address = "+61400111333" },
		} {
			mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: ep}, timeZero)
			other := ep
			other.Credentials = maps.Clone(ep.Credentials)
			other.Credentials[adapters.AuthToken] = "token two"
			change(&other)
			if got := mustSaveEndpoint(t, s, gateway.EndpointState{Endpoint: other},
				timeZero).Current(adapters.AuthToken); fmt.Sprint(got) != "[token two]" {
				t.Errorf("valid for another %s = %v, want only the new one", name, got)
			}
		}
	})
}
