package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hydragate/gateway"
	"hydragate/httpapi"
)

// eraseHistory puts pseudonyms in the place of external ids. Of an account that no
// other customer has, that is done for all who ever had it.
func (e *erasure) eraseHistory(ctx context.Context) error {
	for _, a := range e.accounts {
		err := e.each(e.customers, func(in string, args []any) error {
			whose := `customer_id in (` + in + `)`
			if len(a.others) == 0 {
				whose = `(` + whose + ` or until is not null)`
			}
			n := len(args)
			return e.erase(ctx, append(args, a.channel, a.externalID, e.s.pseudonymOf(e.tenant, a.channel, a.externalID), e.s.now()), [][2]string{{"history", `
				update identity_owners set external_id = ` + place(n+3) + `, erased_at = ` + place(n+4) + `
				where tenant_id = $1 and ` + whose + ` and channel = ` + place(n+1) + ` and external_id = ` + place(n+2)}})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eraseEvents puts pseudonyms in the place of whatever in the audit log tells who the
// customer was.
func (e *erasure) eraseEvents(ctx context.Context) error {
	if err := e.findFormer(ctx); err != nil {
		return err
	}
	if err := e.s.rewriting(ctx, e.tx, true); err != nil {
		return err
	}
	for _, by := range []struct {
		column string
		ids    []string
	}{{"customer_id", e.customers}, {"identity_id", slices.Compact(slices.Sorted(slices.Values(e.ids)))}} {
		err := e.each(by.ids, func(in string, args []any) error {
			rs, err := e.tx.Query(ctx, `
				select id, tenant_id, kind, actor, customer_id, identity_id, instance_id, message_id, detail, at from audit_events
				where tenant_id = $1 and `+by.column+` in (`+in+`) and detail <> '{}'`, args...)
			events, err := all(rs, err, scanEvent)
			if err != nil {
				return err
			}
			for _, ev := range events {
				if err := e.eraseDetail(ctx, ev.ID, ev.Detail); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return e.s.rewriting(ctx, e.tx, false)
}

// findFormer adds the identities of everybody who had an account that nobody else has
// now: the audit log names the account with them too.
func (e *erasure) findFormer(ctx context.Context) error {
	for _, a := range e.accounts {
		if len(a.others) > 0 {
			continue
		}
		rs, err := e.tx.Query(ctx, `
			select identity_id from identity_owners where tenant_id = $1 and channel = $2 and external_id = $3`, e.tenant, a.channel, a.externalID)
		ids, err := all(rs, err, scanString)
		if err != nil {
			return err
		}
		e.ids = append(e.ids, ids...)
	}
	return nil
}

func (e *erasure) eraseDetail(ctx context.Context, id string, detail map[string]string) error {
	clean := maps.Clone(detail)
	for k, v := range clean {
		if strings.HasPrefix(v, "erased:") {
			continue
		}
		if k == "external_id" || e.tells(v) {
			clean[k] = e.s.pseudonymOf(e.tenant, detail["channel"], v)
		}
	}
	if maps.Equal(clean, detail) {
		return nil
	}
	doc, err := json.Marshal(clean)
	if err != nil {
		return err
	}
	return e.erase(ctx, []any{e.tenant, id, string(doc)}, [][2]string{{"events", `update audit_events set detail = $3 where tenant_id = $1 and id = $2`}})
}

// tells reports whether a text is, or holds, a word that tells who the customer is.
// A word of few letters stands in many texts by chance.
func (e *erasure) tells(v string) bool {
	for _, w := range e.allWords() {
		if strings.EqualFold(w, v) || len(w) >= 5 && strings.Contains(strings.ToLower(v), strings.ToLower(w)) {
			return true
		}
	}
	return false
}

func (e *erasure) allWords() []string {
	words := slices.Clone(e.words)
	for _, a := range e.accounts {
		words = append(words, a.externalID)
	}
	return slices.DeleteFunc(words, func(w string) bool { return w == "" })
}

// answersAtOnce is how many kept answers are opened at a time.
const answersAtOnce = 500

// eraseAnswers empties answers kept for repeated calls that speak of the customer. A
// call repeated all the same is refused, for it looks like another: what it did must
// not be done again. A key that itself tells who the customer is goes whole.
func (e *erasure) eraseAnswers(ctx context.Context) error {
	needles := e.needles()
	after := httpapi.IdempotencyKey{TenantID: e.tenant}
	for {
		kept, err := e.answersAfter(ctx, after)
		if err != nil || len(kept) == 0 {
			return err
		}
		for _, k := range kept {
			if err := e.eraseAnswer(ctx, k, needles); err != nil {
				return err
			}
			after = k.key
		}
	}
}

type keptAnswer struct {
	key    httpapi.IdempotencyKey
	sealed string
}

func (e *erasure) answersAfter(ctx context.Context, after httpapi.IdempotencyKey) ([]keptAnswer, error) {
	rs, err := e.tx.Query(ctx, `
		select principal, key, answer from idempotency_keys
		where tenant_id = $1 and (principal, key) > ($2, $3)
		order by principal, key limit $4`, e.tenant, after.Principal, after.Key, answersAtOnce)
	return all(rs, err, func(sc scan) (k keptAnswer, err error) {
		k.key.TenantID = e.tenant
		return k, sc(&k.key.Principal, &k.key.Key, text(&k.sealed))
	})
}

func (e *erasure) eraseAnswer(ctx context.Context, k keptAnswer, needles [][]byte) error {
	args := []any{e.tenant, k.key.Principal, k.key.Key}
	if e.tells(k.key.Key) {
		return e.erase(ctx, args, [][2]string{{"answers", `delete from idempotency_keys where tenant_id = $1 and principal = $2 and key = $3`}})
	}
	if k.sealed == "" {
		return nil
	}
	// An answer that no key opens tells nobody anything; one that another process can
	// open might.
	body, _, err := e.s.keys.Open(k.sealed, bindAnswer(k.key))
	if errors.Is(err, gateway.ErrNoMasterKey) {
		return fmt.Errorf("open stored answer: %w", err)
	}
	if err != nil || !slices.ContainsFunc(needles, func(n []byte) bool { return bytes.Contains(body, n) }) {
		return nil
	}
	return e.erase(ctx, args, [][2]string{{"answers", `
		update idempotency_keys set answer = null, fingerprint = '' where tenant_id = $1 and principal = $2 and key = $3`}})
}

// needles are what an answer that speaks of the customer holds.
func (e *erasure) needles() [][]byte {
	var ns [][]byte
	for _, id := range slices.Concat(e.customers, e.ids) {
		ns = append(ns, []byte(id))
	}
	for _, w := range e.allWords() {
		if quoted, err := json.Marshal(w); err == nil && len(w) >= 5 {
			ns = append(ns, quoted)
		}
	}
	return ns
}

// place is the n-th place for a value in a statement.
func place(n int) string { return fmt.Sprintf("$%d", n) }
