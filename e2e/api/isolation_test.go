package api

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"hydragate/e2e/harness"
	"hydragate/identity"
)

// A foreign id is one that stands for something, and for nothing to who asks.
type otherID struct{ description, id string }

// foreignIDs gives, for a name of an id, ids of others: of another tenant, of another
// customer, of another instance, of what was deleted, and of the wrong kind.
func foreignIDs(h *harness.APIFixture, name string, op *harness.APIOperation, mine, strange, neighbour, gone harness.Entities) []otherID {
	kind := func(th harness.Entities) string {
		if id, ok := op.PathIDs(h.T, th)[name]; ok {
			return id
		}
		return map[string]string{"into": th.SecondCustomerID, "contactId": th.CustomerID}[name]
	}
	ids := []otherID{
		{"another tenant's", kind(strange)},
		{"deleted", kind(gone)},
		{"another kind's", mine.InstanceID},
		{"none", "00000000-0000-0000-0000-000000000000"},
		{"all", "ffffffff-ffff-ffff-ffff-ffffffffffff"},
		{"the tenant's own", harness.TestTenantID},
	}
	if name == "instance_id" {
		ids[2].id = mine.CustomerID
	}
	if name == "identity_id" && strings.Contains(op.Path, "{customer_id}") && op.ID != "adopt_identity" {
		ids = append(ids, otherID{"another customer's", neighbour.IdentityID}, otherID{"nobody's", mine.UnknownSenderID})
	}
	return ids
}

// deleteEntities deletes all of th.
func deleteEntities(h *harness.APIFixture, th harness.Entities) {
	h.T.Helper()
	for _, c := range []string{th.CustomerID, th.SecondCustomerID} {
		_, err := h.Store.DeleteCustomer(h.T.Context(), th.TenantID, c, identity.System)
		h.Must(err)
	}
	h.Must(h.Store.DeleteInstance(h.T.Context(), th.TenantID, th.InstanceID, identity.System))
}

// compareIgnoringID gives an error unless two answers are the same to the byte, headers and
// all; the id that was asked for, the id of the request and the time may differ.
func compareIgnoringID(a, b harness.Response) error {
	for _, h := range []http.Header{a.Header, b.Header} {
		h.Del("X-Request-Id")
		h.Del("Date")
	}
	if a.Status != b.Status || a.Body != b.Body || !maps.EqualFunc(a.Header, b.Header, slices.Equal) {
		return fmt.Errorf("%d %v %s\nan unknown one: %d %v %s", a.Status, a.Header, a.Body, b.Status, b.Header, b.Body)
	}
	return nil
}

// TestIsolation_PathIDs asks every route for everything of others, in its path, its body
// and its query: what is of another tenant, customer or instance, or is gone, is answered
// like what never was, byte for byte, and nothing changes. One's own is found.
func TestIsolation_PathIDs(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		strange, neighbour, gone := h.CreateEntities(harness.OtherTenantID), h.CreateEntities(harness.TestTenantID), h.CreateEntities(harness.TestTenantID)
		deleteEntities(h, gone)
		stages, asked := h.PrepareAll(harness.AnyOperation), 0
		before := h.AllRows("")
		for _, s := range stages {
			op, ids := s.Operation, s.Operation.PathIDs(t, s.Entities)
			for _, name := range harness.SortedKeys(ids) {
				if !strings.Contains(op.Path, "{"+name+"}") {
					continue
				}
				as := func(id string) harness.Response {
					asked++
					other := maps.Clone(ids)
					other[name] = id
					c := s.Request
					c.Path = h.PathOf(op, other) + s.Request.RawQuery()
					return h.Send(c)
				}
				unknown := as(harness.RandomID())
				if err := op.CheckRejection(unknown, 404); err != nil {
					t.Errorf("%s, unknown %s: %v", op.ID, name, err)
				}
				for _, f := range foreignIDs(h, name, op, s.Entities, strange, neighbour, gone) {
					if op.ID == "identity_history" && f.description == "deleted" {
						continue // it is there for that
					}
					if err := compareIgnoringID(as(f.id), unknown); err != nil {
						t.Errorf("%s, %s of %s: %v", op.ID, name, f.description, err)
					}
				}
			}
		}
		h.RequireUnchanged(before)
		h.SendAll(stages)
		t.Logf("%d routes found their own; %d calls about others", len(stages), asked)
	})
}

// TestIsolation_BodyAndQueryIDs does the same with every field and every
// parameter that is an id.
func TestIsolation_BodyAndQueryIDs(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		strange, neighbour, gone := h.CreateEntities(harness.OtherTenantID), h.CreateEntities(harness.TestTenantID), h.CreateEntities(harness.TestTenantID)
		deleteEntities(h, gone)
		asked := 0
		for _, op := range h.Operations {
			for _, p := range op.Params {
				if p.In != "query" || p.Schema.Format != "uuid" {
					continue
				}
				mine := h.CreateEntities(harness.TestTenantID)
				ask := func(id string) harness.Response {
					asked++
					c := h.ValidRequest(op, mine)
					at, err := url.Parse(c.Path)
					h.Must(err)
					q := at.Query()
					q.Set(p.Name, id)
					c.Path = at.Path + "?" + q.Encode()
					return h.Send(c)
				}
				if p.Name == "cursor" { // where to go on: any id is a place, and shows nobody else's rows
					for _, id := range []string{strange.CustomerID, strange.InstanceID, "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"} {
						a := ask(id)
						for _, theirs := range []string{strange.InstanceID, strange.CustomerID, strange.SecondCustomerID, strange.IdentityID, strange.UnknownSenderID, strange.APIKeyID} {
							if a.Status != 200 || strings.Contains(a.Body, theirs) {
								t.Errorf("%s, from %s on: %d %s", op.ID, id, a.Status, a.Body)
							}
						}
					}
					continue
				}
				unknown := ask(harness.RandomID())
				for _, f := range foreignIDs(h, p.Name, op, mine, strange, neighbour, gone) {
					if f.description != "deleted" { // the audit log keeps what was
						if err := compareIgnoringID(ask(f.id), unknown); err != nil {
							t.Errorf("%s, %s of %s: %v", op.ID, p.Name, f.description, err)
						}
					}
				}
			}
			if op.Body == nil {
				continue
			}
			for _, name := range harness.SortedKeys(op.Body.Properties) {
				if op.Body.Properties[name].Format != "uuid" {
					continue
				}
				mine := h.CreateEntities(harness.TestTenantID)
				right := h.ValidRequest(op, mine)
				before := h.AllRows("")
				ask := func(id string) harness.Response {
					asked++
					c := right
					c.Body = withField(h, right.Body, name, id)
					return h.Send(c)
				}
				unknown := ask(harness.RandomID())
				if err := op.CheckRejection(unknown, 404); err != nil {
					t.Errorf("%s, unknown %s: %v", op.ID, name, err)
				}
				for _, f := range foreignIDs(h, name, op, mine, strange, neighbour, gone) {
					if err := compareIgnoringID(ask(f.id), unknown); err != nil {
						t.Errorf("%s, %s of %s: %v", op.ID, name, f.description, err)
					}
				}
				if row := harness.DiffRows(before, h.AllRows("")); row != "" {
					t.Errorf("%s, %s: not found, and yet %s", op.ID, name, row)
				}
			}
		}
		t.Logf("%d calls about others in bodies and queries", asked)
	})
}

// TestIsolation_InstanceKeys asks every route with a key of another instance:
// of what is the instance's it hears what it hears of what never was, and nothing of it
// changes.
func TestIsolation_InstanceKeys(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		scopes := slices.DeleteFunc(slices.Clone(identity.Scopes), func(s string) bool { return s == "channels:write" })
		other, asked := h.CreateEntities(harness.TestTenantID), 0
		key := h.CreateKey(identity.APIKey{TenantID: harness.TestTenantID, Scopes: scopes, InstanceID: other.InstanceID})
		stages := h.PrepareAll(func(op *harness.APIOperation) bool { return op.Surface != "external" }) // whose key is the instance's
		before := h.AllRows("")
		for _, s := range stages {
			op, ids := s.Operation, s.Operation.PathIDs(t, s.Entities)
			for name, id := range ids {
				if !strings.Contains(op.Path, "{"+name+"}") || name == "customer_id" {
					continue // customers are the tenant's
				}
				ask := func(id string) harness.Response {
					asked++
					to := maps.Clone(ids)
					to[name] = id
					c := s.Request
					c.Path, c.Header = h.PathOf(op, to)+s.Request.RawQuery(), op.AuthHeader(key.Token, other)
					return h.Send(c)
				}
				theirs, unknown := ask(id), ask(harness.RandomID())
				if unknown.Status != 404 && unknown.Status != 403 {
					t.Errorf("%s: %d %s", op.ID, unknown.Status, unknown.Body)
				}
				if err := compareIgnoringID(theirs, unknown); err != nil {
					t.Errorf("%s, %s of another instance: %v", op.ID, name, err)
				}
			}
		}
		h.RequireUnchanged(before)
		t.Logf("%d calls with keys of another instance", asked)
	})
}

// withField gives a body with a field set.
func withField(h *harness.APIFixture, body, name string, value any) string {
	h.T.Helper()
	fields := h.DecodeObject(body)
	fields[name] = value
	return h.EncodeJSON(fields)
}
