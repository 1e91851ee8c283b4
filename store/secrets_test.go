package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hydragate/gateway"
	"hydragate/identity"
)

// TestRotateInstanceSecret_Webhook tests that a previous secret is valid until its grace period, by
// the clock of the database, ends or staff revoke it.
func TestRotateInstanceSecret_Webhook(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		rotate := func(kind gateway.SecretKind, secret string, overlap time.Duration) time.Time {
			t.Helper()
			until, err := f.RotateInstanceSecret(t.Context(), gateway.SecretRotation{
				TenantID: f.tenant, InstanceID: f.instance, Kind: kind, Secret: secret, GracePeriod: overlap,
			}, "key:k")
			if err != nil {
				t.Fatal(err)
			}
			return until
		}
		signing := func() string {
			t.Helper()
			secrets, err := f.SigningSecrets(t.Context(), f.tenant, f.instance)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Join(secrets, " ")
		}
		first := signing()
		if until := rotate(gateway.WebhookSecret, "whsec_two", time.Hour); time.Until(until) < 59*time.Minute ||
			signing() != "whsec_two "+first {
			t.Errorf("signing secrets = %s until %v", signing(), until)
		}
		// A second rotation after a lost response keeps the secret that the application knows.
		rotate(gateway.WebhookSecret, "whsec_three", time.Hour)
		if signing() != "whsec_three whsec_two "+first {
			t.Errorf("signing secrets after the second rotation = %s", signing())
		}
		f.insertMessages(f.arrival("1", "k1", "hello"))
		l := f.lease(gateway.InboxQueue, "test")[0]
		f.apply(gateway.Commit{Lease: l, Release: true, Deliveries: []gateway.Delivery{{
			ID: newID(), TenantID: f.tenant, ConversationID: l.ConversationID, InstanceID: f.instance,
			MessageID: f.pending(l)[0].ID, Type: "message.received",
		}}})
		es, err := f.PendingEvents(t.Context(), f.lease(gateway.DeliveryQueue, "test")[0])
		if err != nil || len(es) != 1 || es[0].Err != nil || strings.Join(es[0].Secrets, " ") != signing() {
			t.Fatalf("PendingEvents() = %v, %v, want one event with the signing secrets", es, err)
		}
		mustExec(t, f.Store,
			`update retired_secrets set until = `+f.dialect.NowPlus(-1)+` where until = (select min(until)
				from retired_secrets)`)
		if signing() != "whsec_three whsec_two" {
			t.Errorf("signing secrets after the grace period = %s", signing())
		}
		rotate(gateway.WebhookSecret, "whsec_four", 0)
		if signing() != "whsec_four" {
			t.Errorf("signing secrets without a grace period = %s", signing())
		}
		for n := range 2 * maxPreviousSecrets {
			rotate(gateway.WebhookSecret, fmt.Sprint("whsec_", n), time.Hour)
		}
		if got := len(strings.Fields(signing())); got != maxPreviousSecrets+1 {
			t.Errorf("%d signing secrets, want %d", got, maxPreviousSecrets+1)
		}
		for range 2 {
			if err := f.RevokePreviousSecrets(t.Context(), f.tenant, f.instance, gateway.WebhookSecret, "key:k"); err != nil {
				t.Error(err)
			}
		}
		if signing() != "whsec_7" {
			t.Errorf("signing secrets after revocation = %s", signing())
		}
		var kinds []string
		for _, e := range auditLog(t, f.Store, f.tenant) {
			if strings.Contains(e.Kind, "secret") {
				kinds = append(kinds, strings.TrimPrefix(e.Kind, "instance.webhook_secret_")+e.Detail["overlap_seconds"])
			}
			if strings.Contains(fmt.Sprint(e), "whsec_") {
				t.Errorf("event contains a secret: %v", e)
			}
		}
		if got := strings.Join(kinds, " "); got != "rotated3600 rotated3600 rotated0"+strings.Repeat(" rotated3600",
			2*maxPreviousSecrets)+" ended" {
			t.Errorf("events = %s", got)
		}
	})
}

func TestRotateInstanceSecret_AgentKey(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		i := newInstance(t, f.Store, f.tenant)
		valid := func(key string) bool {
			t.Helper()
			hash := identity.HashToken(key)
			found, err := f.InstancesByAgentKeys(t.Context(), []string{identity.HashToken("unknown"), hash})
			got, ok := found[hash]
			if err != nil || ok && (got.ID != i.ID || len(found) != 1) {
				t.Errorf("InstancesByAgentKeys() = %v, %v, want instance %s", found, err, i.ID)
			}
			return ok
		}
		rotate := func(key string, overlap time.Duration) {
			t.Helper()
			if _, err := f.RotateInstanceSecret(t.Context(), gateway.SecretRotation{
				TenantID: f.tenant, InstanceID: i.ID, Kind: gateway.AgentSecretKey, Secret: key, GracePeriod: overlap,
			}, "key:k"); err != nil {
				t.Fatal(err)
			}
		}
		rotate("ask_one", 0)
		rotate("ask_two", time.Hour)
		if !valid("ask_one") || !valid("ask_two") || valid("ask_three") {
			t.Error("during the grace period both keys must be valid, and no other")
		}
		mustExec(t, f.Store, `update retired_secrets set until = `+f.dialect.NowPlus(-1))
		if valid("ask_one") || !valid("ask_two") {
			t.Error("the previous key is valid after the grace period")
		}
		rotate("ask_three", time.Hour)
		if err := f.RevokePreviousSecrets(t.Context(), f.tenant, i.ID, gateway.WebhookSecret, "key:k"); err != nil ||
			!valid("ask_two") {
			t.Errorf("revoking webhook secrets revoked the agent key: %v", err)
		}
		if err := f.RevokePreviousSecrets(t.Context(), f.tenant, i.ID, gateway.AgentSecretKey, "key:k"); err != nil ||
			valid("ask_two") || !valid("ask_three") {
			t.Errorf("the previous key is valid after revocation: %v", err)
		}
		if n, err := f.Purge(t.Context()); err != nil || n != 0 {
			t.Errorf("Purge() = %d, %v, want 0", n, err)
		}
		foreign := newTenant(t, f.Store)
		if _, err := f.RotateInstanceSecret(t.Context(), gateway.SecretRotation{
			TenantID: foreign, InstanceID: i.ID, Kind: gateway.AgentSecretKey, Secret: "ask_x", GracePeriod: time.Hour,
		}, "key:k"); !errors.Is(err, gateway.ErrNoInstance) {
			t.Errorf("RotateInstanceSecret() by another tenant = %v, want ErrNoInstance", err)
		}
		if err := f.RevokePreviousSecrets(t.Context(), foreign, i.ID, gateway.AgentSecretKey, "key:k"); !errors.Is(err,
			gateway.ErrNoInstance) {
			t.Errorf("RevokePreviousSecrets() by another tenant = %v, want ErrNoInstance", err)
		}
	})
}
