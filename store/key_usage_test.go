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

func (h fixture) keyUsageOf(key string) KeyUsage {
	h.t.Helper()
	usages, err := h.KeyUsage(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	if i := slices.IndexFunc(usages, func(u KeyUsage) bool { return u.Key == key }); i >= 0 {
		return usages[i]
	}
	return KeyUsage{Key: key}
}

// TestActiveKeyUsage tests that values of processed messages and sent replies are not counted.
func TestActiveKeyUsage(t *testing.T) {
	forEachEngineWithKey(t, func(t *testing.T, h fixture, k1 string) {
		h.fillSealedColumns(3)
		mustExec(t, h.Store,
			`update messages set state = 'done' where cast(id as text) = (select min(cast(id as text)) from messages)`)
		mustExec(t, h.Store,
			`update outbox set status = 'sent' where cast(id as text) = (select min(cast(id as text)) from outbox)`)
		active, err := h.withKeys(keyring.GenerateKey("k2")).ActiveKeyUsage(t.Context())
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
	forEachEngineWithKey(t, func(t *testing.T, h fixture, k1 string) {
		customer, id := h.createCustomerIdentity("12345")
		_, expires, err := h.IssueCode(t.Context(), identity.Key{TenantID: tenant, CustomerID: customer, IdentityID: id},
			"key:k")
		if err != nil {
			t.Fatal(err)
		}
		k2 := keyring.GenerateKey("k2")
		both := h.withKeys(k2, k1)
		both.reencryptAll()
		if got := both.keyUsageOf("k1"); got.Codes != 1 || got.IsUnused() ||
			!got.CodesUntil.Equal(expires.Add(claim.CodeGracePeriod)) {
			t.Errorf("KeyUsage = %+v, want one code until %v", got, expires.Add(claim.CodeGracePeriod))
		}
		a := claim.Attempt{
			TenantID: tenant, InstanceID: h.instance, Channel: "telegram", SenderID: "12345", IdentityID: id,
			MessageID: newID(), ReceivedAt: h.now(),
		}
		if _, err := both.CodeState(t.Context(), a); err != nil {
			t.Errorf("CodeState() with both keys = %v", err)
		}
		if _, err := h.withKeys(k2).CodeState(t.Context(), a); !errors.Is(err, gateway.ErrNoMasterKey) {
			t.Errorf("CodeState() without the key = %v, want ErrNoMasterKey", err)
		}
		mustExec(t, h.Store,
			`update identities set claim_expires_at = `+h.dialect.NowPlus(-int(claim.CodeGracePeriod/time.Second)-1)+`
				where id = $1`, id)
		if got := both.keyUsageOf("k1"); !got.IsUnused() {
			t.Errorf("KeyUsage after the grace period = %+v, want unused", got)
		}
		if st, err := h.withKeys(k2).CodeState(t.Context(), a); err != nil || st.Status == claim.NoCode {
			t.Errorf("CodeState() after the grace period = %v, %v", st.Status, err)
		}
	})
}

// TestKeyUsage_Invites tests the same for invites.
func TestKeyUsage_Invites(t *testing.T) {
	forEachEngineWithKey(t, func(t *testing.T, h fixture, k1 string) {
		customer, _ := h.createCustomerIdentity("12345")
		i, err := h.IssueInvite(t.Context(), claim.Invite{
			TenantID: tenant, InstanceID: h.instance, Channel: "telegram",
			CustomerID: customer,
		}, "WDJBMJBCDFGH", "key:k")
		if err != nil {
			t.Fatal(err)
		}
		k2 := keyring.GenerateKey("k2")
		both := h.withKeys(k2, k1)
		both.reencryptAll()
		if got := both.keyUsageOf("k1"); got.Codes != 1 || got.IsUnused() ||
			!got.CodesUntil.Equal(i.ExpiresAt.Add(claim.CodeGracePeriod)) {
			t.Errorf("KeyUsage = %+v, want one invite until %v", got, i.ExpiresAt.Add(claim.CodeGracePeriod))
		}
		attempt := claim.Attempt{
			TenantID: tenant, InstanceID: h.instance, Channel: "telegram", Code: "WDJBMJBCDFGH",
			ReceivedAt: h.now(),
		}
		for name, want := range map[string]bool{"with both keys": true, "without its key": false} {
			f := both
			if !want {
				f = h.withKeys(k2)
			}
			if known, err := f.InviteExists(t.Context(), attempt); err != nil || known != want {
				t.Errorf("InviteExists() %s = %v, %v, want %v", name, known, err, want)
			}
		}
		if err := h.RevokeInvite(t.Context(), claim.InviteKey{TenantID: tenant, CustomerID: customer, InviteID: i.ID},
			"key:k"); err != nil ||
			!both.keyUsageOf("k1").IsUnused() {
			t.Errorf("KeyUsage after revoking the invite = %+v, %v, want unused", both.keyUsageOf("k1"), err)
		}
	})
}
