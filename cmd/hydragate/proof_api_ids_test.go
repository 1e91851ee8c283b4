//go:build unix

package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"hydragate/identity"
)

// A foreign id is one that stands for something, and for nothing to who asks.
type foreignID struct{ why, id string }

// foreigners gives, for a name of an id, ids of others: of another tenant, of another
// customer, of another instance, of what was deleted, and of the wrong kind.
func (h *apiHouse) foreigners(name string, op *apiOp, mine, strange, neighbour, gone things) []foreignID {
	kind := func(th things) string {
		if id, ok := op.ids(h.t, th)[name]; ok {
			return id
		}
		return map[string]string{"into": th.second, "contactId": th.customer}[name]
	}
	ids := []foreignID{
		{"another tenant's", kind(strange)},
		{"deleted", kind(gone)},
		{"another kind's", mine.instance},
		{"none", "00000000-0000-0000-0000-000000000000"},
		{"all", "ffffffff-ffff-ffff-ffff-ffffffffffff"},
		{"the tenant's own", proofTenant},
	}
	if name == "instance_id" {
		ids[2].id = mine.customer
	}
	if name == "identity_id" && strings.Contains(op.path, "{customer_id}") && op.id != "adopt_identity" {
		ids = append(ids, foreignID{"another customer's", neighbour.identity}, foreignID{"nobody's", mine.sender})
	}
	return ids
}

// vanish deletes all of th.
func (h *apiHouse) vanish(th things) {
	h.t.Helper()
	for _, c := range []string{th.customer, th.second} {
		_, err := h.store.DeleteCustomer(h.t.Context(), th.tenant, c, identity.System)
		h.must(err)
	}
	h.must(h.store.DeleteInstance(h.t.Context(), th.tenant, th.instance, identity.System))
}

// alikeButForID gives an error unless two answers are the same to the byte, headers and
// all; the id that was asked for, the id of the request and the time may differ.
func alikeButForID(a, b said) error {
	for _, h := range []http.Header{a.header, b.header} {
		h.Del("X-Request-Id")
		h.Del("Date")
	}
	if a.status != b.status || a.body != b.body || !maps.EqualFunc(a.header, b.header, slices.Equal) {
		return fmt.Errorf("%d %v %s\nan unknown one: %d %v %s", a.status, a.header, a.body, b.status, b.header, b.body)
	}
	return nil
}

// TestOthersAreUnknown asks every route for everything of others, in its path, its body
// and its query: what is of another tenant, customer or instance, or is gone, is answered
// like what never was, byte for byte, and nothing changes. One's own is found.
func TestOthersAreUnknown(t *testing.T) {
	inHouses(t, func(t *testing.T, h *apiHouse) {
		strange, neighbour, gone := h.furnish(strangeTenant), h.furnish(proofTenant), h.furnish(proofTenant)
		h.vanish(gone)
		stages, asked := h.stages(everyOp), 0
		before := h.everyRow("")
		for _, s := range stages {
			op, ids := s.op, s.op.ids(t, s.mine)
			for _, name := range sortedNames(ids) {
				if !strings.Contains(op.path, "{"+name+"}") {
					continue
				}
				as := func(id string) said {
					asked++
					other := maps.Clone(ids)
					other[name] = id
					c := s.right
					c.path = h.path(op, other) + s.right.asked()
					return h.send(c)
				}
				unknown := as(randomID())
				if err := op.refusal(unknown, 404); err != nil {
					t.Errorf("%s, unknown %s: %v", op.id, name, err)
				}
				for _, f := range h.foreigners(name, op, s.mine, strange, neighbour, gone) {
					if op.id == "identity_history" && f.why == "deleted" {
						continue // it is there for that
					}
					if err := alikeButForID(as(f.id), unknown); err != nil {
						t.Errorf("%s, %s of %s: %v", op.id, name, f.why, err)
					}
				}
			}
		}
		h.unchanged(before)
		h.rightly(stages)
		t.Logf("%d routes found their own; %d calls about others", len(stages), asked)
	})
}

// TestOthersInBodiesAndQueriesAreUnknown does the same with every field and every
// parameter that is an id.
func TestOthersInBodiesAndQueriesAreUnknown(t *testing.T) {
	inHouses(t, func(t *testing.T, h *apiHouse) {
		strange, neighbour, gone := h.furnish(strangeTenant), h.furnish(proofTenant), h.furnish(proofTenant)
		h.vanish(gone)
		asked := 0
		for _, op := range h.ops {
			for _, p := range op.params {
				if p.In != "query" || p.Schema.Format != "uuid" {
					continue
				}
				mine := h.furnish(proofTenant)
				ask := func(id string) said {
					asked++
					c := h.clean(op, mine)
					at, err := url.Parse(c.path)
					h.must(err)
					q := at.Query()
					q.Set(p.Name, id)
					c.path = at.Path + "?" + q.Encode()
					return h.send(c)
				}
				if p.Name == "cursor" { // where to go on: any id is a place, and shows nobody else's rows
					for _, id := range []string{strange.customer, strange.instance, "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"} {
						a := ask(id)
						for _, theirs := range []string{strange.instance, strange.customer, strange.second, strange.identity, strange.sender, strange.key} {
							if a.status != 200 || strings.Contains(a.body, theirs) {
								t.Errorf("%s, from %s on: %d %s", op.id, id, a.status, a.body)
							}
						}
					}
					continue
				}
				unknown := ask(randomID())
				for _, f := range h.foreigners(p.Name, op, mine, strange, neighbour, gone) {
					if f.why != "deleted" { // the audit log keeps what was
						if err := alikeButForID(ask(f.id), unknown); err != nil {
							t.Errorf("%s, %s of %s: %v", op.id, p.Name, f.why, err)
						}
					}
				}
			}
			if op.body == nil {
				continue
			}
			for _, name := range sortedNames(op.body.Properties) {
				if op.body.Properties[name].Format != "uuid" {
					continue
				}
				mine := h.furnish(proofTenant)
				right := h.clean(op, mine)
				before := h.everyRow("")
				ask := func(id string) said {
					asked++
					c := right
					c.body = withField(h, right.body, name, id)
					return h.send(c)
				}
				unknown := ask(randomID())
				if err := op.refusal(unknown, 404); err != nil {
					t.Errorf("%s, unknown %s: %v", op.id, name, err)
				}
				for _, f := range h.foreigners(name, op, mine, strange, neighbour, gone) {
					if err := alikeButForID(ask(f.id), unknown); err != nil {
						t.Errorf("%s, %s of %s: %v", op.id, name, f.why, err)
					}
				}
				if row := differing(before, h.everyRow("")); row != "" {
					t.Errorf("%s, %s: not found, and yet %s", op.id, name, row)
				}
			}
		}
		t.Logf("%d calls about others in bodies and queries", asked)
	})
}

// TestKeysOfOneInstanceSeeThatInstance asks every route with a key of another instance:
// of what is the instance's it hears what it hears of what never was, and nothing of it
// changes.
func TestKeysOfOneInstanceSeeThatInstance(t *testing.T) {
	inHouses(t, func(t *testing.T, h *apiHouse) {
		scopes := slices.DeleteFunc(slices.Clone(identity.Scopes), func(s string) bool { return s == "channels:write" })
		other, asked := h.furnish(proofTenant), 0
		key := h.keyed(identity.APIKey{TenantID: proofTenant, Scopes: scopes, InstanceID: other.instance})
		stages := h.stages(func(op *apiOp) bool { return op.surface != "external" }) // whose key is the instance's
		before := h.everyRow("")
		for _, s := range stages {
			op, ids := s.op, s.op.ids(t, s.mine)
			for name, id := range ids {
				if !strings.Contains(op.path, "{"+name+"}") || name == "customer_id" {
					continue // customers are the tenant's
				}
				ask := func(id string) said {
					asked++
					to := maps.Clone(ids)
					to[name] = id
					c := s.right
					c.path, c.header = h.path(op, to)+s.right.asked(), op.lets(key.token, other)
					return h.send(c)
				}
				theirs, unknown := ask(id), ask(randomID())
				if unknown.status != 404 && unknown.status != 403 {
					t.Errorf("%s: %d %s", op.id, unknown.status, unknown.body)
				}
				if err := alikeButForID(theirs, unknown); err != nil {
					t.Errorf("%s, %s of another instance: %v", op.id, name, err)
				}
			}
		}
		h.unchanged(before)
		t.Logf("%d calls with keys of another instance", asked)
	})
}

// withField gives a body with a field set.
func withField(h *apiHouse, body, name string, value any) string {
	h.t.Helper()
	fields := h.fields(body)
	fields[name] = value
	return h.json(fields)
}
