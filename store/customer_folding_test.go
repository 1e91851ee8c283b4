package store

import (
	"errors"
	"testing"

	"hydragate/identity"
)

// TestCustomers_Folding tests that e-mail addresses and names are found whatever their case and the
// composition of their accents, after they were created, changed and restored from a merge.
func TestCustomers_Folding(t *testing.T) {
	forEachEngine(t, func(t *testing.T, s *Store) {
		tenant := newTenant(t, s)
		create := func(email, first string) (identity.Customer, error) {
			return s.CreateCustomer(t.Context(), identity.Customer{TenantID: tenant, Email: email, FirstName: first}, "key:test")
		}
		c, err := create("JOSÉ@example.com", "E\u0301mile")
		must(t, err)
		other, err := create("other@example.com", "Emile")
		must(t, err)
		find := func(q identity.CustomerQuery) (n int, first string) {
			t.Helper()
			found, err := s.ListCustomers(t.Context(), tenant, q, "", 10)
			must(t, err)
			for _, f := range found {
				n, first = n+1, f.ID
			}
			return n, first
		}
		requireFound := func() {
			t.Helper()
			for _, q := range []identity.CustomerQuery{
				{Email: "josé@example.com"},
				{Email: "jose\u0301@EXAMPLE.com"},
				{EmailPrefix: "José"},
				{Name: "émile"},
				{Name: "ÉMI"},
				{Name: "e\u0301m"},
			} {
				if n, id := find(q); n != 1 || id != c.ID {
					t.Errorf("ListCustomers(%+v) = %d customers, the last %s, want %s alone", q, n, id, c.ID)
				}
			}
		}
		requireFound()
		if n, id := find(identity.CustomerQuery{Name: "emile"}); n != 1 || id != other.ID {
			t.Errorf("a name without an accent: %d customers, the last %s, want %s alone", n, id, other.ID)
		}
		if _, err := create("jose\u0301@example.com", ""); !errors.Is(err, identity.ErrEmailTaken) {
			t.Errorf("CreateCustomer() with the same e-mail address = %v, want ErrEmailTaken", err)
		}
		if _, err := create("jose@example.com", ""); err != nil {
			t.Errorf("CreateCustomer() with another e-mail address = %v", err)
		}
		for _, e := range [][2]string{{"a@example.com", "A"}, {"Jos\u00c9@example.com", "\u00c9MILE"}} {
			c, err = s.EditCustomer(t.Context(), tenant, c.ID,
				identity.CustomerEdit{Email: &e[0], FirstName: &e[1]}, "key:test")
			must(t, err)
		}
		requireFound()
	})
}
