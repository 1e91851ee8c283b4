package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store/keyring"
)

func (f *fixture) keyUsageOf(key string) KeyUsage {
	f.t.Helper()
	usages, err := f.KeyUsage(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	if i := slices.IndexFunc(usages, func(u KeyUsage) bool { return u.Key == key }); i >= 0 {
		return usages[i]
	}
	return KeyUsage{Key: key}
}

// TestActiveKeyUsage tests that values of processed messages and sent replies are not counted.
func TestActiveKeyUsage(t *testing.T) {
	forEachKeyFixture(t, func(t *testing.T, f *fixture, k1 string) {
		f.fillSealedColumns(3)
		mustExec(t, f.Store,
			`update messages set state = 'done' where cast(id as text) = (select min(cast(id as text)) from messages)`)
		mustExec(t, f.Store,
			`update outbox set status = 'sent' where cast(id as text) = (select min(cast(id as text)) from outbox)`)
		active, err := f.withKeys(keyring.GenerateKey("k2")).ActiveKeyUsage(t.Context())
		want := []KeyUsage{
			{Key: "k2", Available: true, Primary: true, Sealed: map[string]int{}},
			{Key: "k1", Sealed: map[string]int{
				"endpoints.credentials": 1, "instances.webhook_secret": 1,
				"retired_secrets.sealed": 1, "messages.sealed": 2, "outbox.place": 2,
			}},
		}
		if err != nil || fmt.Sprint(active) != fmt.Sprint(want) {
			t.Errorf("ActiveKeyUsage() = %+v, %v, want %+v", active, err, want)
		}
	})
}

// TestKeyUsage_ClaimCodes tests that a key is in use until the codes hashed with it have expired.
func TestKeyUsage_ClaimCodes(t *testing.T) {
	forEachKeyFixture(t, func(t *testing.T, f *fixture, k1 string) {
		customer, id := f.createCustomerIdentity("12345")
		_, expires, err := f.IssueCode(t.Context(), identity.Key{TenantID: f.tenant, CustomerID: customer, IdentityID: id},
			"key:k")
		if err != nil {
			t.Fatal(err)
		}
		k2 := keyring.GenerateKey("k2")
		both := f.withKeys(k2, k1)
		both.reencryptAll()
		if got := both.keyUsageOf("k1"); got.Codes != 1 || got.IsUnused() ||
			!got.CodesUntil.Equal(expires.Add(claim.CodeGracePeriod)) {
			t.Errorf("KeyUsage = %+v, want one code until %v", got, expires.Add(claim.CodeGracePeriod))
		}
		a := claim.Attempt{
			TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", SenderID: "12345", IdentityID: id,
			MessageID: newID(), ReceivedAt: f.now(),
		}
		if _, err := both.CodeState(t.Context(), a); err != nil {
			t.Errorf("CodeState() with both keys = %v", err)
		}
		if _, err := f.withKeys(k2).CodeState(t.Context(), a); !errors.Is(err, gateway.ErrNoMasterKey) {
			t.Errorf("CodeState() without the key = %v, want ErrNoMasterKey", err)
		}
		mustExec(t, f.Store,
			`update identities set claim_expires_at = `+f.dialect.NowPlus(-int(claim.CodeGracePeriod/time.Second)-1)+`
				where id = $1`, id)
		if got := both.keyUsageOf("k1"); !got.IsUnused() {
			t.Errorf("KeyUsage after the grace period = %+v, want unused", got)
		}
		if st, err := f.withKeys(k2).CodeState(t.Context(), a); err != nil || st.Status == claim.NoCode {
			t.Errorf("CodeState() after the grace period = %v, %v", st.Status, err)
		}
	})
}

// TestKeyUsage_Invites tests the same for invites.
func TestKeyUsage_Invites(t *testing.T) {
	forEachKeyFixture(t, func(t *testing.T, f *fixture, k1 string) {
		customer, _ := f.createCustomerIdentity("12345")
		i, err := f.IssueInvite(t.Context(), claim.Invite{
			TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram",
			CustomerID: customer,
		}, "WDJBMJBCDFGH", "key:k")
		if err != nil {
			t.Fatal(err)
		}
		k2 := keyring.GenerateKey("k2")
		both := f.withKeys(k2, k1)
		both.reencryptAll()
		if got := both.keyUsageOf("k1"); got.Codes != 1 || got.IsUnused() ||
			!got.CodesUntil.Equal(i.ExpiresAt.Add(claim.CodeGracePeriod)) {
			t.Errorf("KeyUsage = %+v, want one invite until %v", got, i.ExpiresAt.Add(claim.CodeGracePeriod))
		}
		attempt := claim.Attempt{
			TenantID: f.tenant, InstanceID: f.instance, Channel: "telegram", Code: "WDJBMJBCDFGH",
			MessageID: newID(), ReceivedAt: f.now(),
		}
		for name, want := range map[string]bool{"with both keys": true, "without its key": false} {
			with := both
			if !want {
				with = f.withKeys(k2)
			}
			st, err := with.ExposureState(t.Context(), attempt, []string{attempt.Code})
			if known := len(st.Invites) == 1; err != nil || known != want {
				t.Errorf("ExposureState() %s = %v, %v, want the invite: %v", name, st, err, want)
			}
		}
		if err := f.RevokeInvite(t.Context(), claim.InviteKey{TenantID: f.tenant, CustomerID: customer, InviteID: i.ID},
			"key:k"); err != nil ||
			!both.keyUsageOf("k1").IsUnused() {
			t.Errorf("KeyUsage after revoking the invite = %+v, %v, want unused", both.keyUsageOf("k1"), err)
		}
	})
}
