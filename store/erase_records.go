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
	"hydragate/store/sqldb"
)

// eraseHistory puts pseudonyms in the place of external ids. Of an account that no
// other customer has, that is done for all who ever had it.
func (e *erasure) eraseHistory(ctx context.Context) error {
	for _, a := range e.addresses {
		err := e.forEachChunk(e.customers, func(in string, args []any) error {
			whose := `customer_id in (` + in + `)`
			if len(a.otherCustomers) == 0 {
				whose = `(` + whose + ` or until is not null)`
			}
			n := len(args)
			return e.deleteCounted(ctx, append(args, a.channel, a.externalID, e.store.newPseudonym(e.tenant, a.channel, a.externalID), e.store.now()), [][2]string{{"history", `
				update identity_owners set external_id = ` + sqldb.Placeholder(n+3) + `, erased_at = ` + sqldb.Placeholder(n+4) + `
				where tenant_id = $1 and ` + whose + ` and channel = ` + sqldb.Placeholder(n+1) + ` and external_id = ` + sqldb.Placeholder(n+2)}})
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
	if err := e.addFormerIdentities(ctx); err != nil {
		return err
	}
	if err := e.store.allowAuditRewrite(ctx, e.tx, true); err != nil {
		return err
	}
	for _, by := range []struct {
		column string
		ids    []string
	}{{"customer_id", e.customers}, {"identity_id", slices.Compact(slices.Sorted(slices.Values(e.identityIDs)))}} {
		err := e.forEachChunk(by.ids, func(in string, args []any) error {
			rs, err := e.tx.Query(ctx, `
				select id, tenant_id, kind, actor, customer_id, identity_id, instance_id, message_id, detail, at from audit_events
				where tenant_id = $1 and `+by.column+` in (`+in+`) and detail <> '{}'`, args...)
			events, err := sqldb.ScanAll(rs, err, scanEvent)
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
	return e.store.allowAuditRewrite(ctx, e.tx, false)
}

// addFormerIdentities adds the identities of everybody who had an account that nobody else has
// now: the audit log names the account with them too.
func (e *erasure) addFormerIdentities(ctx context.Context) error {
	for _, a := range e.addresses {
		if len(a.otherCustomers) > 0 {
			continue
		}
		rs, err := e.tx.Query(ctx, `
			select identity_id from identity_owners where tenant_id = $1 and channel = $2 and external_id = $3`, e.tenant, a.channel, a.externalID)
		ids, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
		if err != nil {
			return err
		}
		e.identityIDs = append(e.identityIDs, ids...)
	}
	return nil
}

func (e *erasure) eraseDetail(ctx context.Context, id string, detail map[string]string) error {
	clean := maps.Clone(detail)
	for k, v := range clean {
		if strings.HasPrefix(v, "erased:") {
			continue
		}
		if k == "external_id" || e.identifies(v) {
			clean[k] = e.store.newPseudonym(e.tenant, detail["channel"], v)
		}
	}
	if maps.Equal(clean, detail) {
		return nil
	}
	doc, err := json.Marshal(clean)
	if err != nil {
		return err
	}
	return e.deleteCounted(ctx, []any{e.tenant, id, string(doc)}, [][2]string{{"events", `update audit_events set detail = $3 where tenant_id = $1 and id = $2`}})
}

// identifies reports whether a text is, or holds, a word that tells who the customer is.
// A word of few letters stands in many texts by chance.
func (e *erasure) identifies(v string) bool {
	for _, w := range e.identifyingTerms() {
		if strings.EqualFold(w, v) || len(w) >= 5 && strings.Contains(strings.ToLower(v), strings.ToLower(w)) {
			return true
		}
	}
	return false
}

func (e *erasure) identifyingTerms() []string {
	words := slices.Clone(e.terms)
	for _, a := range e.addresses {
		words = append(words, a.externalID)
	}
	return slices.DeleteFunc(words, func(w string) bool { return w == "" })
}

// responseBatch is how many kept answers are opened at a time.
const responseBatch = 500

// eraseResponses empties answers kept for repeated calls that speak of the customer. A
// call repeated all the same is refused, for it looks like another: what it did must
// not be done again. A key that itself tells who the customer is goes whole.
func (e *erasure) eraseResponses(ctx context.Context) error {
	needles := e.searchPatterns()
	after := gateway.IdempotencyKey{TenantID: e.tenant}
	for {
		kept, err := e.responsesAfter(ctx, after)
		if err != nil || len(kept) == 0 {
			return err
		}
		for _, k := range kept {
			if err := e.eraseResponse(ctx, k, needles); err != nil {
				return err
			}
			after = k.key
		}
	}
}

type responseRow struct {
	key    gateway.IdempotencyKey
	sealed string
}

func (e *erasure) responsesAfter(ctx context.Context, after gateway.IdempotencyKey) ([]responseRow, error) {
	rs, err := e.tx.Query(ctx, `
		select principal, key, answer from idempotency_keys
		where tenant_id = $1 and (principal, key) > ($2, $3)
		order by principal, key limit $4`, e.tenant, after.Principal, after.Key, responseBatch)
	return sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (k responseRow, err error) {
		k.key.TenantID = e.tenant
		return k, sc(&k.key.Principal, &k.key.Key, sqldb.Text(&k.sealed))
	})
}

func (e *erasure) eraseResponse(ctx context.Context, k responseRow, needles [][]byte) error {
	args := []any{e.tenant, k.key.Principal, k.key.Key}
	if e.identifies(k.key.Key) {
		return e.deleteCounted(ctx, args, [][2]string{{"answers", `delete from idempotency_keys where tenant_id = $1 and principal = $2 and key = $3`}})
	}
	if k.sealed == "" {
		return nil
	}
	// An answer that no key opens tells nobody anything; one that another process can
	// open might.
	body, _, err := e.store.keys.Open(k.sealed, responseAAD(k.key))
	if errors.Is(err, gateway.ErrNoMasterKey) {
		return fmt.Errorf("open stored answer: %w", err)
	}
	if err != nil || !slices.ContainsFunc(needles, func(n []byte) bool { return bytes.Contains(body, n) }) {
		return nil
	}
	return e.deleteCounted(ctx, args, [][2]string{{"answers", `
		update idempotency_keys set answer = null, fingerprint = '' where tenant_id = $1 and principal = $2 and key = $3`}})
}

// searchPatterns are what an answer that speaks of the customer holds.
func (e *erasure) searchPatterns() [][]byte {
	var ns [][]byte
	for _, id := range slices.Concat(e.customers, e.identityIDs) {
		ns = append(ns, []byte(id))
	}
	for _, w := range e.identifyingTerms() {
		if quoted, err := json.Marshal(w); err == nil && len(w) >= 5 {
			ns = append(ns, quoted)
		}
	}
	return ns
}
