package identitytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"hydragate/identity"
)

func customerTests() map[string]func(*testing.T, *fixture) {
	return map[string]func(*testing.T, *fixture){
		"customer":                            testCustomer,
		"email is unique":                     testEmailUnique,
		"concurrent customer edits":           testConcurrentCustomerEdits,
		"find customers":                      testFindCustomers,
		"paging of customers":                 testCustomersPaging,
		"concurrent customers with one email": testConcurrentEmail,
		"wildcards are literal":               testWildcards,
	}
}

func testCustomer(t *testing.T, h *fixture) {
	in := identity.Customer{
		TenantID: h.tenant, Email: "Steve.Two@example.com", PhoneNumber: "+61400111222", FirstName: "Steve",
		LastName: "Two", CompanyName: "Acme", Locale: "en-AU", Timezone: "Australia/Sydney",
		Metadata: json.RawMessage(`{"plan": "gold"}`),
	}
	got, err := h.Store.CreateCustomer(t.Context(), in, staffActor)
	if err != nil || got.ID == "" || got.CreatedAt.IsZero() || !got.CreatedAt.Equal(got.UpdatedAt) {
		t.Fatalf("created: %+v, %v", got, err)
	}
	in.ID, in.CreatedAt, in.UpdatedAt = got.ID, got.CreatedAt, got.UpdatedAt
	if back, err := h.Store.Customer(t.Context(), h.tenant, got.ID); err != nil || fmt.Sprint(back) != fmt.Sprint(in) {
		t.Errorf("Customer = %v, %v, want %v", back, err, in)
	}
	edited, err := h.Store.EditCustomer(
		t.Context(),
		h.tenant,
		got.ID,
		identity.CustomerEdit{LastName: new(""), CompanyName: new("Acme 2")},
		staffActor,
	)
	in.LastName, in.CompanyName, in.UpdatedAt = "", "Acme 2", edited.UpdatedAt
	if err != nil || fmt.Sprint(edited) != fmt.Sprint(in) || edited.UpdatedAt.Before(edited.CreatedAt) {
		t.Errorf("edited: %v, %v; want %v", edited, err, in)
	}
	if _, err := h.Store.Customer(t.Context(), h.tenant, missingID); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("unknown customer: %v", err)
	}
	_, err = h.Store.EditCustomer(t.Context(), h.tenant, missingID, identity.CustomerEdit{}, staffActor)
	if !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("edit unknown customer: %v", err)
	}
	if _, err := h.Store.Customer(t.Context(), h.tenant, "not an ID"); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("malformed ID: %v", err)
	}
	var kinds []string
	for _, e := range h.Events(t, h.tenant) {
		if e.CustomerID == got.ID {
			kinds = append(kinds, e.Kind+" "+e.Detail["fields"])
		}
	}
	if want := []string{"customer.created ", "customer.updated last_name company_name"}; !slices.Equal(kinds, want) {
		t.Errorf("events %v; want %v", kinds, want)
	}
}

func testEmailUnique(t *testing.T, h *fixture) {
	ctx := t.Context()
	taken := identity.Customer{TenantID: h.tenant, Email: "STEVE@Example.com"}
	_, err := h.Store.CreateCustomer(ctx, taken, staffActor)
	if !errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("in other case: %v; want ErrEmailTaken", err)
	}
	other := h.createCustomer(t, "other@example.com")
	_, err = h.Store.EditCustomer(ctx, h.tenant, other, identity.CustomerEdit{Email: new("Steve@example.com")}, staffActor)
	if !errors.Is(err, identity.ErrEmailTaken) {
		t.Errorf("by an edit: %v; want ErrEmailTaken", err)
	}
	_, err = h.Store.EditCustomer(ctx, h.tenant, other, identity.CustomerEdit{Email: new("OTHER@example.com")}, staffActor)
	if err != nil {
		t.Errorf("own address in other case: %v", err)
	}
	for range 2 {
		_, err := h.Store.CreateCustomer(ctx, identity.Customer{TenantID: h.tenant, FirstName: "no address"}, staffActor)
		if err != nil {
			t.Errorf("without an address: %v", err)
		}
	}
}

func testConcurrentEmail(t *testing.T, h *fixture) {
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for n := range errs {
		wg.Go(func() {
			_, errs[n] = h.Store.CreateCustomer(
				t.Context(),
				identity.Customer{TenantID: h.tenant, Email: "new@example.com"},
				staffActor,
			)
		})
	}
	wg.Wait()
	succeeded := 0
	for _, err := range errs {
		if err == nil {
			succeeded++
		} else if !errors.Is(err, identity.ErrEmailTaken) {
			t.Errorf("%v; want ErrEmailTaken", err)
		}
	}
	if succeeded != 1 {
		t.Errorf("%d calls succeeded, want 1", succeeded)
	}
}

func testConcurrentCustomerEdits(t *testing.T, h *fixture) {
	var wg sync.WaitGroup
	for _, e := range []identity.CustomerEdit{
		{FirstName: new("Steve")}, {LastName: new("One")}, {Locale: new("en")}, {Timezone: new("UTC")},
	} {
		wg.Go(func() {
			if _, err := h.Store.EditCustomer(t.Context(), h.tenant, h.customerID, e, staffActor); err != nil {
				t.Errorf("edit: %v", err)
			}
		})
	}
	wg.Wait()
	c, err := h.Store.Customer(t.Context(), h.tenant, h.customerID)
	if err != nil || c.FirstName+c.LastName+c.Locale+c.Timezone != "SteveOneenUTC" {
		t.Errorf("an edit was lost: %+v, %v", c, err)
	}
}

func testFindCustomers(t *testing.T, h *fixture) {
	for _, c := range []identity.Customer{
		{Email: "a@example.com", FirstName: "Stevie", LastName: "Smith", PhoneNumber: "+61400111222"},
		{Email: "b@example.com", FirstName: "Anna", LastName: "Stevens"},
		{Email: "c@example.com", CompanyName: "STEVE & Co"},
		{Email: "d@example.com", FirstName: "Not Steve", PhoneNumber: "+614001112223"},
	} {
		c.TenantID = h.tenant
		if _, err := h.Store.CreateCustomer(t.Context(), c, staffActor); err != nil {
			t.Fatal(err)
		}
	}
	in := h.telegramIdentity("", "T024BE7LD:U023BECGF")
	in.Channel = "slack"
	h.mustLink(t, in)
	for _, c := range []struct {
		q    identity.CustomerQuery
		want string
	}{
		{identity.CustomerQuery{}, "[steve@ a@ b@ c@ d@]"},
		{identity.CustomerQuery{Email: "A@EXAMPLE.com"}, "[a@]"},
		{identity.CustomerQuery{Email: "@example.com"}, "[]"},
		{identity.CustomerQuery{Phone: "+61400111222"}, "[a@]"},
		{identity.CustomerQuery{Phone: "+6140011122"}, "[]"},
		{identity.CustomerQuery{Name: "sTeV"}, "[a@ b@ c@]"},
		{identity.CustomerQuery{Name: "steve &"}, "[c@]"},
		{identity.CustomerQuery{Name: "Smith", Phone: "+61400111222"}, "[a@]"},
		{identity.CustomerQuery{Name: "Smith", Email: "b@example.com"}, "[]"},
		{identity.CustomerQuery{ExternalID: "t024be7ld:u023becgf"}, "[steve@]"},
		{identity.CustomerQuery{ExternalID: "T024BE7LD"}, "[]"},
	} {
		if got := h.findEmails(t, c.q); got != c.want {
			t.Errorf("ListCustomers(%+v) = %s, want %s", c.q, got, c.want)
		}
	}
}

func (h *fixture) findEmails(t *testing.T, q identity.CustomerQuery) string {
	t.Helper()
	cs, err := h.Store.ListCustomers(t.Context(), h.tenant, q, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, c := range cs {
		names = append(names, c.Email[:slices.Index([]byte(c.Email), '@')+1])
	}
	return fmt.Sprint(names)
}

func testWildcards(t *testing.T, h *fixture) {
	for n, name := range []string{`100%`, `1000`, `a_b`, `axb`, `back\slash`, `'; drop table customers; --`} {
		c := identity.Customer{TenantID: h.tenant, Email: fmt.Sprintf("%d@example.com", n), FirstName: name}
		if _, err := h.Store.CreateCustomer(t.Context(), c, staffActor); err != nil {
			t.Fatal(err)
		}
	}
	for q, want := range map[string]string{
		"%": "[]", "_": "[]", `\`: "[]", "100%": "[0@]", "100": "[0@ 1@]", "a_": "[2@]", `back\s`: "[4@]", "'": "[5@]",
	} {
		if got := h.findEmails(t, identity.CustomerQuery{Name: q}); got != want {
			t.Errorf("name %q: %s; want %s", q, got, want)
		}
	}
	for _, q := range []identity.CustomerQuery{{Email: "%"}, {Phone: "%"}, {ExternalID: "%"}} {
		if got := h.findEmails(t, q); got != "[]" {
			t.Errorf("ListCustomers(%+v) = %s, want none", q, got)
		}
	}
}

func testCustomersPaging(t *testing.T, h *fixture) {
	want := []string{h.customerID}
	for n := range 6 {
		want = append(want, h.createCustomer(t, fmt.Sprintf("%d@example.com", n)))
	}
	var got []string
	for after := ""; ; {
		cs, err := h.Store.ListCustomers(t.Context(), h.tenant, identity.CustomerQuery{}, after, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cs {
			got, after = append(got, c.ID), c.ID
		}
		if len(cs) < 3 {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("pages contain %v, want %v", got, want)
	}
}
