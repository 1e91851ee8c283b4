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

// An otherID is an ID that the caller must not be able to use, with the reason.
type otherID struct{ description, id string }

// foreignEntities are entities that the caller must not be able to use.
type foreignEntities struct{ otherTenant, neighbor, deleted harness.Entities }

// newForeignEntities creates the entities.
func newForeignEntities(h *harness.APIFixture) foreignEntities {
	f := foreignEntities{
		h.CreateEntities(harness.OtherTenantID), h.CreateEntities(harness.TestTenantID),
		h.CreateEntities(harness.TestTenantID),
	}
	for _, c := range []string{f.deleted.CustomerID, f.deleted.SecondCustomerID} {
		_, err := h.Store.DeleteCustomer(h.T.Context(), harness.TestTenantID, c, identity.System)
		h.Must(err)
	}
	h.Must(h.Store.DeleteInstance(h.T.Context(), harness.TestTenantID, f.deleted.InstanceID, identity.System))
	return f
}

// ids returns values for the ID parameter name of op that must not be found: IDs of another tenant,
// another customer, a deleted entity and another type, and special UUIDs.
func (f foreignEntities) ids(t *testing.T, op *harness.APIOperation, name string, own harness.Entities) []otherID {
	idOf := func(th harness.Entities) string {
		if id, ok := op.PathIDs(t, th)[name]; ok {
			return id
		}
		return map[string]string{"into": th.SecondCustomerID, "contactId": th.CustomerID}[name]
	}
	ids := []otherID{
		{"another tenant", idOf(f.otherTenant)},
		{"deleted", idOf(f.deleted)},
		{"another type", own.InstanceID},
		{"nil UUID", "00000000-0000-0000-0000-000000000000"},
		{"max UUID", "ffffffff-ffff-ffff-ffff-ffffffffffff"},
		{"tenant ID", harness.TestTenantID},
	}
	if name == "instance_id" {
		ids[2].id = own.CustomerID
	}
	if name == "identity_id" && strings.Contains(op.Path, "{customer_id}") && op.ID != "adopt_identity" {
		ids = append(ids, otherID{"another customer", f.neighbor.IdentityID}, otherID{"unknown sender", own.UnknownSenderID})
	}
	return ids
}

// compareIgnoringID returns an error unless two responses are identical apart from the request ID
// and the date.
func compareIgnoringID(a, b harness.Response) error {
	for _, h := range []http.Header{a.Header, b.Header} {
		h.Del("X-Request-Id")
		h.Del("Date")
	}
	if a.Status != b.Status || a.Body != b.Body || !maps.EqualFunc(a.Header, b.Header, slices.Equal) {
		return fmt.Errorf("response = %d %v %s\nwant that to an unknown ID: %d %v %s", a.Status, a.Header, a.Body, b.Status,
			b.Header, b.Body)
	}
	return nil
}

// TestIsolation_PathIDs checks that every route answers the ID of another tenant or customer, or
// of a deleted entity, in its path exactly as it answers an unknown ID, and that nothing changes.
// The caller's own IDs must be found.
func TestIsolation_PathIDs(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		foreign := newForeignEntities(h)
		stages, requests := h.PrepareAll(harness.AnyOperation), 0
		before := h.AllRows("")
		for _, s := range stages {
			op, ids := s.Operation, s.Operation.PathIDs(t, s.Entities)
			for _, name := range harness.SortedKeys(ids) {
				if !strings.Contains(op.Path, "{"+name+"}") {
					continue
				}
				send := func(id string) harness.Response {
					requests++
					other := maps.Clone(ids)
					other[name] = id
					c := s.Request
					c.Path = h.PathOf(op, other) + s.Request.RawQuery()
					return h.Send(c)
				}
				unknown := send(harness.RandomID())
				if err := op.CheckRejection(unknown, 404); err != nil {
					t.Errorf("%s, unknown %s: %v", op.ID, name, err)
				}
				for _, f := range foreign.ids(t, op, name, s.Entities) {
					if op.ID == "identity_history" && f.description == "deleted" {
						continue // the history of a deleted identity stays available
					}
					if err := compareIgnoringID(send(f.id), unknown); err != nil {
						t.Errorf("%s, %s (%s): %v", op.ID, name, f.description, err)
					}
				}
			}
		}
		h.RequireUnchanged(before)
		h.SendAll(stages)
		t.Logf("%d routes accepted own IDs; %d requests with foreign IDs", len(stages), requests)
	})
}

// TestIsolation_BodyAndQueryIDs checks the same for every body field and query parameter that is
// an ID.
func TestIsolation_BodyAndQueryIDs(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		foreign := newForeignEntities(h)
		requests := 0
		for _, op := range h.Operations {
			for _, p := range op.Params {
				if p.In != "query" || p.Schema.Format != "uuid" {
					continue
				}
				own := h.CreateEntities(harness.TestTenantID)
				send := func(id string) harness.Response {
					requests++
					c := h.ValidRequest(op, own)
					at, err := url.Parse(c.Path)
					h.Must(err)
					q := at.Query()
					q.Set(p.Name, id)
					c.Path = at.Path + "?" + q.Encode()
					return h.Send(c)
				}
				if p.Name == "cursor" { // any ID is a valid position, but must not reveal rows of others
					other := foreign.otherTenant
					for _, id := range []string{
						other.CustomerID, other.InstanceID,
						"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
					} {
						a := send(id)
						for _, foreignID := range []string{
							other.InstanceID, other.CustomerID, other.SecondCustomerID,
							other.IdentityID, other.UnknownSenderID, other.APIKeyID,
						} {
							if a.Status != 200 || strings.Contains(a.Body, foreignID) {
								t.Errorf("%s with cursor %s = %d %s, want 200 without %s", op.ID, id, a.Status, a.Body, foreignID)
							}
						}
					}
					continue
				}
				unknown := send(harness.RandomID())
				for _, f := range foreign.ids(t, op, p.Name, own) {
					if f.description != "deleted" { // the audit log keeps events of deleted entities
						if err := compareIgnoringID(send(f.id), unknown); err != nil {
							t.Errorf("%s, %s (%s): %v", op.ID, p.Name, f.description, err)
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
				own := h.CreateEntities(harness.TestTenantID)
				valid := h.ValidRequest(op, own)
				before := h.AllRows("")
				send := func(id string) harness.Response {
					requests++
					c := valid
					c.Body = withField(h, valid.Body, name, id)
					return h.Send(c)
				}
				unknown := send(harness.RandomID())
				if err := op.CheckRejection(unknown, 404); err != nil {
					t.Errorf("%s, unknown %s: %v", op.ID, name, err)
				}
				for _, f := range foreign.ids(t, op, name, own) {
					if err := compareIgnoringID(send(f.id), unknown); err != nil {
						t.Errorf("%s, %s (%s): %v", op.ID, name, f.description, err)
					}
				}
				if row := harness.DiffRows(before, h.AllRows("")); row != "" {
					t.Errorf("%s, %s: not found, but a row changed: %s", op.ID, name, row)
				}
			}
		}
		t.Logf("%d requests with foreign IDs in bodies and queries", requests)
	})
}

// TestIsolation_InstanceKeys checks that a key of another instance gets the same response for the
// entities of an instance as for unknown ones, and that nothing changes.
func TestIsolation_InstanceKeys(t *testing.T) {
	harness.ForEachAPIEngine(t, func(t *testing.T, h *harness.APIFixture) {
		scopes := slices.DeleteFunc(slices.Clone(identity.Scopes), func(s string) bool {
			return s == "channels:write"
		})
		other, requests := h.CreateEntities(harness.TestTenantID), 0
		key := h.CreateKey(identity.APIKey{TenantID: harness.TestTenantID, Scopes: scopes, InstanceID: other.InstanceID})
		// The external surface is authenticated with the key of the instance itself.
		stages := h.PrepareAll(func(op *harness.APIOperation) bool { return op.Surface != "external" })
		before := h.AllRows("")
		for _, s := range stages {
			op, ids := s.Operation, s.Operation.PathIDs(t, s.Entities)
			for name, id := range ids {
				if !strings.Contains(op.Path, "{"+name+"}") || name == "customer_id" {
					continue // customers belong to the tenant
				}
				send := func(id string) harness.Response {
					requests++
					to := maps.Clone(ids)
					to[name] = id
					c := s.Request
					c.Path, c.Header = h.PathOf(op, to)+s.Request.RawQuery(), op.AuthHeader(key.Token, other)
					return h.Send(c)
				}
				foreign, unknown := send(id), send(harness.RandomID())
				if unknown.Status != 404 && unknown.Status != 403 {
					t.Errorf("%s with an unknown %s = %d %s, want 403 or 404", op.ID, name, unknown.Status, unknown.Body)
				}
				if err := compareIgnoringID(foreign, unknown); err != nil {
					t.Errorf("%s, %s of another instance: %v", op.ID, name, err)
				}
			}
		}
		h.RequireUnchanged(before)
		t.Logf("%d requests with a key of another instance", requests)
	})
}

// withField returns body with one field set to value.
func withField(h *harness.APIFixture, body, name string, value any) string {
	h.T.Helper()
	fields := h.DecodeObject(body)
	fields[name] = value
	return h.EncodeJSON(fields)
}
