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

// eraseHistory replaces the external IDs of the addresses in the address history with pseudonyms.
// If no other customer has an address now, the entries of all its former owners are included.
func (e *erasure) eraseHistory(ctx context.Context) error {
	for _, a := range e.addresses {
		free := len(a.otherCustomers) == 0 && e.instance == ""
		if free {
			if err := e.eraseOwnership(ctx, a, `until is not null`, []any{e.tenant}); err != nil {
				return err
			}
		}
		err := e.forEachChunk(e.customers, func(in string, args []any) error {
			return e.eraseOwnership(ctx, a, `customer_id in (`+in+`)`, args)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eraseOwnership replaces the external ID of an address in the entries of the history that match
// where. args are the tenant and the further arguments of where.
func (e *erasure) eraseOwnership(ctx context.Context, a addressOwners, where string, args []any) error {
	n := len(args)
	args = append(args, a.channel, a.externalID, e.store.newPseudonym(e.tenant, a.channel, a.externalID), e.store.now())
	return e.deleteCounted(ctx, args, [][2]string{{"history", `
		update identity_owners set external_id = ` + sqldb.Placeholder(n+3) + `, erased_at = ` + sqldb.Placeholder(n+4) + `
		where tenant_id = $1 and ` + where + `
			and channel = ` + sqldb.Placeholder(n+1) + ` and external_id = ` + sqldb.Placeholder(n+2)}})
}

// eraseEvents replaces everything in the details of audit events that identifies the customer with
// pseudonyms.
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

// addFormerIdentities adds the identities of all former owners of the addresses that no other
// customer has now, because their events contain the address, too.
func (e *erasure) addFormerIdentities(ctx context.Context) error {
	for _, a := range e.addresses {
		if len(a.otherCustomers) > 0 || e.instance != "" {
			continue
		}
		rs, err := e.tx.Query(ctx, `
			select identity_id from identity_owners where tenant_id = $1 and channel = $2 and external_id = $3`, e.tenant,
			a.channel, a.externalID)
		ids, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
		if err != nil {
			return err
		}
		e.identityIDs = append(e.identityIDs, ids...)
	}
	return nil
}

// eraseDetail replaces identifying values in the detail of one event with pseudonyms.
func (e *erasure) eraseDetail(ctx context.Context, id string, detail map[string]string) error {
	erased := maps.Clone(detail)
	for k, v := range erased {
		if strings.HasPrefix(v, "erased:") {
			continue
		}
		if k == "external_id" || e.identifies(v) {
			erased[k] = e.store.newPseudonym(e.tenant, detail["channel"], v)
		}
	}
	if maps.Equal(erased, detail) {
		return nil
	}
	doc, err := json.Marshal(erased)
	if err != nil {
		return err
	}
	return e.deleteCounted(ctx, []any{e.tenant, id, string(doc)},
		[][2]string{{"events", `update audit_events set detail = $3 where tenant_id = $1 and id = $2`}})
}

// identifies reports whether v equals or contains a term that identifies the customer. Terms
// shorter than five bytes must be equal, because they occur in other text by chance.
func (e *erasure) identifies(v string) bool {
	for _, term := range e.identifyingTerms() {
		if strings.EqualFold(term, v) || len(term) >= 5 && strings.Contains(strings.ToLower(v), strings.ToLower(term)) {
			return true
		}
	}
	return false
}

// identifyingTerms returns the terms that identify the customer, including its external IDs.
func (e *erasure) identifyingTerms() []string {
	terms := slices.Clone(e.terms)
	for _, a := range e.addresses {
		terms = append(terms, a.externalID)
	}
	return slices.DeleteFunc(terms, func(term string) bool { return term == "" })
}

// responseBatch is how many stored responses are read at a time.
const responseBatch = 500

// eraseResponses clears the stored responses of idempotent requests that mention the customer. A
// repetition of such a request is rejected as a different request with the same key, so that it is
// not executed again. If the idempotency key itself identifies the customer, the row is deleted.
func (e *erasure) eraseResponses(ctx context.Context) error {
	patterns := e.searchPatterns()
	after := gateway.IdempotencyKey{TenantID: e.tenant}
	for {
		rows, err := e.responsesAfter(ctx, after)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			if err := e.eraseResponse(ctx, row, patterns); err != nil {
				return err
			}
			after = row.key
		}
	}
}

// A responseRow is a stored response of an idempotent request, still encrypted.
type responseRow struct {
	key    gateway.IdempotencyKey
	sealed string
}

// responsesAfter returns the next batch of stored responses in order of key.
func (e *erasure) responsesAfter(ctx context.Context, after gateway.IdempotencyKey) ([]responseRow, error) {
	rs, err := e.tx.Query(ctx, `
		select principal, key, answer from idempotency_keys
		where tenant_id = $1 and (principal, key) > ($2, $3)
		order by principal, key limit $4`, e.tenant, after.Principal, after.Key, responseBatch)
	return sqldb.ScanAll(rs, err, func(sc sqldb.ScanFunc) (row responseRow, err error) {
		row.key.TenantID = e.tenant
		return row, sc(&row.key.Principal, &row.key.Key, sqldb.Text(&row.sealed))
	})
}

// eraseResponse clears or deletes one stored response if it mentions the customer.
func (e *erasure) eraseResponse(ctx context.Context, row responseRow, patterns [][]byte) error {
	args := []any{e.tenant, row.key.Principal, row.key.Key}
	if e.identifies(row.key.Key) {
		return e.deleteCounted(ctx, args,
			[][2]string{{"answers", `delete from idempotency_keys where tenant_id = $1 and principal = $2 and key = $3`}})
	}
	if row.sealed == "" {
		return nil
	}
	// A corrupt response reveals nothing. One whose key is missing here may be readable for
	// another process.
	body, _, err := e.store.keys.Open(row.sealed, responseAAD(row.key))
	if errors.Is(err, gateway.ErrNoMasterKey) {
		return fmt.Errorf("decrypt stored response: %w", err)
	}
	mentions := func(pattern []byte) bool { return bytes.Contains(body, pattern) }
	if err != nil || !slices.ContainsFunc(patterns, mentions) {
		return nil //nolint:nilerr // a corrupt response needs no erasure
	}
	return e.deleteCounted(ctx, args, [][2]string{{"answers", `
		update idempotency_keys set answer = null, fingerprint = '' where tenant_id = $1 and principal = $2 and key = $3`}})
}

// searchPatterns returns the IDs and quoted terms that a response mentioning the customer
// contains.
func (e *erasure) searchPatterns() [][]byte {
	var patterns [][]byte
	for _, id := range slices.Concat(e.customers, e.identityIDs) {
		patterns = append(patterns, []byte(id))
	}
	for _, term := range e.identifyingTerms() {
		if quoted, err := json.Marshal(term); err == nil && len(term) >= 5 {
			patterns = append(patterns, quoted)
		}
	}
	return patterns
}
