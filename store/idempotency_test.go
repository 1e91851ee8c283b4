package store

import (
	"strings"
	"sync"
	"testing"

	"hydragate/gateway"
	"hydragate/identity"
)

func newIdempotencyKey(t *testing.T, s *Store) gateway.IdempotencyKey {
	t.Helper()
	return gateway.IdempotencyKey{TenantID: newTenant(t, s), Principal: newID(), Key: "k", Fingerprint: "f"}
}

func reserveKey(t *testing.T, s *Store, k gateway.IdempotencyKey, wantFound bool) gateway.StoredResponse {
	t.Helper()
	a, found, err := s.ReserveIdempotencyKey(t.Context(), k)
	if err != nil || found != wantFound {
		t.Errorf("ReserveIdempotencyKey() found = %v, %v, want %v", found, err, wantFound)
	}
	return a
}

func saveResponse(t *testing.T, s *Store, k gateway.IdempotencyKey, body string) {
	t.Helper()
	if err := s.SaveResponse(t.Context(), k, gateway.StoredResponse{
		Fingerprint: k.Fingerprint, Status: 201,
		Body: []byte(body),
	}); err != nil {
		t.Fatal(err)
	}
}

func TestIdempotencyKey_ResponseReplayed(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		k := newIdempotencyKey(t, s)
		reserveKey(t, s, k, false)
		if a := reserveKey(t, s, k, true); a.Status != 0 || a.Fingerprint != "f" || a.Body != nil {
			t.Errorf("response in progress = %+v", a)
		}
		saveResponse(t, s, k, `{"id":1}`)
		saveResponse(t, s, k, `{"id":2}`)
		other := k
		other.Fingerprint = "g"
		for _, k := range []gateway.IdempotencyKey{k, other} {
			if a := reserveKey(t, s, k, true); a.Status != 201 || string(a.Body) != `{"id":1}` || a.Fingerprint != "f" {
				t.Errorf("response = %+v, want the first one with its fingerprint", a)
			}
		}
		if err := s.ReleaseIdempotencyKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		reserveKey(t, s, k, true)
	})
}

func TestIdempotencyKey_ResponseEncrypted(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		k := newIdempotencyKey(t, s)
		reserveKey(t, s, k, false)
		saveResponse(t, s, k, `{"secret":"hg_live_once"}`)
		if stored := queryText(t, s, `select answer from idempotency_keys where tenant_id = $1`,
			k.TenantID); strings.Contains(stored, "hg_live") {
			t.Error("the response is not encrypted")
		}
		mustExec(t, s, `update idempotency_keys set principal = 'other' where tenant_id = $1`, k.TenantID)
		k.Principal = "other"
		if a, found, err := s.ReserveIdempotencyKey(t.Context(), k); err == nil || found || a.Body != nil {
			t.Errorf("ReserveIdempotencyKey() with a moved response = %v, %v, want an error", found, err)
		}
	})
}

func TestIdempotencyKey_Released(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		k := newIdempotencyKey(t, s)
		reserveKey(t, s, k, false)
		if err := s.ReleaseIdempotencyKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		reserveKey(t, s, k, false)
	})
}

func TestIdempotencyKey_ConcurrentCalls(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		k := newIdempotencyKey(t, s)
		first := make([]bool, 32)
		var wg sync.WaitGroup
		for n := range first {
			wg.Go(func() {
				_, found, err := s.ReserveIdempotencyKey(t.Context(), k)
				if err != nil {
					t.Error(err)
				}
				first[n] = !found && err == nil
			})
		}
		wg.Wait()
		n := 0
		for _, f := range first {
			if f {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d of %d concurrent calls reserved the key, want 1", n, len(first))
		}
	})
}

func TestIdempotencyKey_CrashedCall(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		k := newIdempotencyKey(t, s)
		reserveKey(t, s, k, false)
		mustExec(t, s, `update idempotency_keys set created_at = `+s.dialect.NowPlus(-50)+` where tenant_id = $1`, k.TenantID)
		reserveKey(t, s, k, true)
		mustExec(t, s, `update idempotency_keys set created_at = `+s.dialect.NowPlus(-70)+` where tenant_id = $1`, k.TenantID)
		other := k
		other.Fingerprint = "g"
		reserveKey(t, s, other, true)
		reserveKey(t, s, k, false)
		reserveKey(t, s, k, true)
		saveResponse(t, s, k, `{}`)
		mustExec(t, s, `update idempotency_keys set created_at = `+s.dialect.NowPlus(-70)+` where tenant_id = $1`, k.TenantID)
		reserveKey(t, s, k, true)
	})
}

func TestIdempotencyKey_Expired(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		k := newIdempotencyKey(t, s)
		reserveKey(t, s, k, false)
		saveResponse(t, s, k, `{}`)
		mustExec(t, s, `update idempotency_keys set created_at = `+s.dialect.NowPlus(-24*60*60-10)+` where tenant_id = $1`,
			k.TenantID)
		k.Fingerprint = "g"
		reserveKey(t, s, k, false)
		if a := reserveKey(t, s, k, true); a.Status != 0 || a.Fingerprint != "g" || a.Body != nil {
			t.Errorf("response = %+v, want a new reservation", a)
		}
	})
}

func TestIdempotencyKey_PerCaller(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		k := newIdempotencyKey(t, s)
		reserveKey(t, s, k, false)
		for _, other := range []gateway.IdempotencyKey{
			{TenantID: identity.DefaultTenant, Principal: k.Principal, Key: k.Key, Fingerprint: k.Fingerprint},
			{TenantID: k.TenantID, Principal: newID(), Key: k.Key, Fingerprint: k.Fingerprint},
			{TenantID: k.TenantID, Principal: k.Principal, Key: "other", Fingerprint: k.Fingerprint},
		} {
			reserveKey(t, s, other, false)
		}
	})
}

// TestReserveIdempotencyKey_ResourceID tests that the ID of the resource stays the same after a failure
// and a crash, until the key expires after a day.
func TestReserveIdempotencyKey_ResourceID(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		k := newIdempotencyKey(t, s)
		first := reserveKey(t, s, k, false).ResourceID
		if first == "" {
			t.Fatal("ResourceID is empty")
		}
		if err := s.ReleaseIdempotencyKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		other := k
		other.Fingerprint = "g"
		reserveKey(t, s, other, true)
		if again := reserveKey(t, s, k, false).ResourceID; again != first {
			t.Errorf("ResourceID after a failure = %s, want %s", again, first)
		}
		mustExec(t, s, `update idempotency_keys set created_at = `+s.dialect.NowPlus(-70)+` where principal = $1`,
			k.Principal)
		if again := reserveKey(t, s, k, false).ResourceID; again != first {
			t.Errorf("ResourceID after a crash = %s, want %s", again, first)
		}
		mustExec(t, s, `update idempotency_keys set created_at = `+s.dialect.NowPlus(-responseTTL-1)+`
			where principal = $1`, k.Principal)
		if next := reserveKey(t, s, k, false).ResourceID; next == first || next == "" {
			t.Errorf("ResourceID after a day = %q, want a new one", next)
		}
	})
}
