package store

import (
	"strings"
	"sync"
	"testing"

	"hydragate/httpapi"
	"hydragate/identity"
)

func TestIdempotency(t *testing.T) {
	engines(t, func(t *testing.T, open func(*testing.T) *Store) {
		s := open(t)
		for name, test := range map[string]func(*testing.T, *Store, httpapi.IdempotencyKey){
			"AnswerIsGivenAgain": answerAgain, "AnswerIsSealed": answerSealed, "ForgottenCallIsMadeAgain": forgotten, "OneOfManyCalls": oneOfMany,
			"CrashedCallIsTakenOver": crashedCall, "AnswerOfYesterdayIsGone": yesterday, "KeysAreTheCallersOwn": ownKeys,
		} {
			t.Run(name, func(t *testing.T) {
				test(t, s, httpapi.IdempotencyKey{TenantID: newTenant(t, s), Principal: newID(), Key: "k", Fingerprint: "f"})
			})
		}
	})
}

func remember(t *testing.T, s *Store, k httpapi.IdempotencyKey, wantFound bool) httpapi.StoredAnswer {
	t.Helper()
	a, found, err := s.Remember(t.Context(), k)
	if err != nil || found != wantFound {
		t.Errorf("remembered: %v, %v; want %v", found, err, wantFound)
	}
	return a
}

func answered(t *testing.T, s *Store, k httpapi.IdempotencyKey, body string) {
	t.Helper()
	if err := s.Answered(t.Context(), k, httpapi.StoredAnswer{Fingerprint: k.Fingerprint, Status: 201, Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
}

func answerAgain(t *testing.T, s *Store, k httpapi.IdempotencyKey) {
	remember(t, s, k, false)
	if a := remember(t, s, k, true); a.Status != 0 || a.Fingerprint != "f" || a.Body != nil {
		t.Errorf("while it is worked: %+v", a)
	}
	answered(t, s, k, `{"id":1}`)
	answered(t, s, k, `{"id":2}`)
	other := k
	other.Fingerprint = "g"
	for _, k := range []httpapi.IdempotencyKey{k, other} {
		if a := remember(t, s, k, true); a.Status != 201 || string(a.Body) != `{"id":1}` || a.Fingerprint != "f" {
			t.Errorf("%+v; want the first answer, with the fingerprint it was for", a)
		}
	}
	if err := s.Forget(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	remember(t, s, k, true)
}

func answerSealed(t *testing.T, s *Store, k httpapi.IdempotencyKey) {
	remember(t, s, k, false)
	answered(t, s, k, `{"secret":"hg_live_once"}`)
	if kept := queryText(t, s, `select answer from idempotency_keys where tenant_id = $1`, k.TenantID); strings.Contains(kept, "hg_live") {
		t.Error("the answer is kept in the clear")
	}
	mustExec(t, s, `update idempotency_keys set principal = 'other' where tenant_id = $1`, k.TenantID)
	k.Principal = "other"
	if a, found, err := s.Remember(t.Context(), k); err == nil || found || a.Body != nil {
		t.Errorf("an answer moved to another caller opens: %v, %v", found, err)
	}
}

func forgotten(t *testing.T, s *Store, k httpapi.IdempotencyKey) {
	remember(t, s, k, false)
	if err := s.Forget(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	remember(t, s, k, false)
}

func oneOfMany(t *testing.T, s *Store, k httpapi.IdempotencyKey) {
	first := make([]bool, 32)
	var wg sync.WaitGroup
	for n := range first {
		wg.Go(func() {
			_, found, err := s.Remember(t.Context(), k)
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
		t.Errorf("%d of %d at once were the first", n, len(first))
	}
}

func crashedCall(t *testing.T, s *Store, k httpapi.IdempotencyKey) {
	remember(t, s, k, false)
	mustExec(t, s, `update idempotency_keys set created_at = `+s.d.in(-50)+` where tenant_id = $1`, k.TenantID)
	remember(t, s, k, true)
	mustExec(t, s, `update idempotency_keys set created_at = `+s.d.in(-70)+` where tenant_id = $1`, k.TenantID)
	other := k
	other.Fingerprint = "g"
	remember(t, s, other, true)
	remember(t, s, k, false)
	remember(t, s, k, true)
	answered(t, s, k, `{}`)
	mustExec(t, s, `update idempotency_keys set created_at = `+s.d.in(-70)+` where tenant_id = $1`, k.TenantID)
	remember(t, s, k, true)
}

func yesterday(t *testing.T, s *Store, k httpapi.IdempotencyKey) {
	remember(t, s, k, false)
	answered(t, s, k, `{}`)
	mustExec(t, s, `update idempotency_keys set created_at = `+s.d.in(-24*60*60-10)+` where tenant_id = $1`, k.TenantID)
	k.Fingerprint = "g"
	remember(t, s, k, false)
	if a := remember(t, s, k, true); a.Status != 0 || a.Fingerprint != "g" || a.Body != nil {
		t.Errorf("%+v; want nothing of yesterday's", a)
	}
}

func ownKeys(t *testing.T, s *Store, k httpapi.IdempotencyKey) {
	remember(t, s, k, false)
	for _, other := range []httpapi.IdempotencyKey{
		{TenantID: identity.DefaultTenant, Principal: k.Principal, Key: k.Key, Fingerprint: k.Fingerprint},
		{TenantID: k.TenantID, Principal: newID(), Key: k.Key, Fingerprint: k.Fingerprint},
		{TenantID: k.TenantID, Principal: k.Principal, Key: "other", Fingerprint: k.Fingerprint},
	} {
		remember(t, s, other, false)
	}
}
