package store

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"hydragate/identity"
	"hydragate/store/sqldb"
	"hydragate/store/storetest"
)

const (
	searchCustomers     = 12_000
	searchCustomersLong = 1_000_000 // with HYDRAGATE_TEST_LONG=1
	maxScannedShare     = 5         // a search may read 1/5 of the rows without returning them
)

// newSearchTenant creates a tenant with n customers, each with an identity, a unique phone number and
// a unique e-mail address. One in a hundred is named Steve.
func newSearchTenant(t *testing.T, s *Store, n int) (tenant string) {
	t.Helper()
	tenant = newTenant(t, s)
	mustExec(
		t,
		s,
		`alter table customers set (autovacuum_enabled = off)`,
	) // the statistics would be those of a half-full table
	mustExec(t, s, `
		insert into customers (id, tenant_id, email, phone_number, first_name, last_name, company_name, created_at,
			updated_at)
		select cast(lpad(to_hex(n), 8, '0') || '-0000-7000-8000-' || substr(md5(n || cast($1 as text)), 1, 12) as uuid),
			cast($1 as uuid), 'Person' || n || '@example.com', '+614' || lpad(cast(n as text), 8, '0'),
			case when n % 100 = 0 then 'Steve' else 'First' || md5(cast(n as text)) end, 'Last' || md5(cast(n + 7 as text)),
				case when n % 3 = 0 then 'Company' || n end, now(), now()
		from generate_series(1, cast($2 as integer)) n`, tenant, n)
	mustExec(t, s, `update customers set email_fold = lower(email), first_name_fold = lower(first_name),
		last_name_fold = lower(last_name), company_name_fold = lower(company_name) where tenant_id = $1`, tenant)
	mustExec(t, s, `
		insert into identities (id, tenant_id, customer_id, channel, external_id, created_at, updated_at)
		select gen_random_uuid(), tenant_id, id, 'sms', phone_number, now(), now() from customers where tenant_id = $1`,
		tenant)
	mustExec(t, s, `vacuum analyze customers`)
	mustExec(t, s, `vacuum analyze identities`)
	return tenant
}

// TestListCustomers_UsesIndexes tests that each kind of search uses an index and reads few rows in
// vain, whether or not it finds anything, for rare and common values, on first and later pages.
func TestListCustomers_UsesIndexes(t *testing.T) {
	n := searchCustomers
	if os.Getenv("HYDRAGATE_TEST_LONG") == "1" {
		n = searchCustomersLong
	}
	s := mustOpen(t, storetest.NewPostgres(t))
	tenant := newSearchTenant(t, s, n)
	middle := queryText(t, s, fmt.Sprintf(`select id from customers where tenant_id = $1 order by id offset %d limit 1`,
		n/2), tenant)
	type query = identity.CustomerQuery
	for name, c := range map[string]struct {
		q     query
		after string
		found int
	}{
		"no filter":                  {query{}, "", 51},
		"e-mail":                     {query{Email: "PERSON4711@example.com"}, "", 1},
		"unknown e-mail":             {query{Email: "nobody@example.com"}, "", 0},
		"e-mail prefix":              {query{EmailPrefix: "Person4711"}, "", -1},
		"e-mail prefix of all":       {query{EmailPrefix: "person"}, middle, 51},
		"unknown e-mail prefix":      {query{EmailPrefix: "x"}, "", 0},
		"phone":                      {query{Phone: "+61400004711"}, "", 1},
		"phone prefix":               {query{PhonePrefix: "+6140000471"}, "", 10},
		"unknown phone prefix":       {query{PhonePrefix: "+49"}, "", 0},
		"common name":                {query{Name: "steve"}, "", 51},
		"common name, later page":    {query{Name: "steve"}, middle, 51},
		"rare name":                  {query{Name: "company4713"}, "", -1},
		"unknown name":               {query{Name: "zzz"}, "", 0},
		"unknown name, later page":   {query{Name: "zzz"}, middle, 0},
		"name prefix of all":         {query{Name: "f"}, "", 51},
		"external ID":                {query{ExternalID: "+61400004711"}, "", 1},
		"unknown external ID":        {query{ExternalID: "12345"}, "", 0},
		"external ID prefix":         {query{ExternalPrefix: "+6140000471"}, "", 10},
		"external ID prefix of all":  {query{ExternalPrefix: "+614"}, middle, 51},
		"unknown external ID prefix": {query{ExternalPrefix: "T0"}, "", 0},
		"name and phone":             {query{Name: "steve", Phone: "+61400004700"}, "", 1},
		"name and e-mail prefix":     {query{EmailPrefix: "person4700", Name: "steve"}, "", -1},
	} {
		t.Run(name, func(t *testing.T) {
			cs, err := s.ListCustomers(t.Context(), tenant, c.q, c.after, 51)
			if err != nil || len(cs) != c.found && c.found >= 0 || c.found < 0 && len(cs) == 0 {
				t.Fatalf("ListCustomers() found %d, %v, want %d", len(cs), err, c.found)
			}
			plan := explain(t, s, tenant, c.q, c.after)
			if read := rowsRemoved(t, plan); read > n/maxScannedShare {
				t.Errorf("%d of %d rows read in vain\n%s", read, n, plan)
			}
			if strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, "Index") {
				t.Errorf("plan uses no index:\n%s", plan)
			}
		})
	}
}

// rowsRemoved returns how many rows a plan read in vain. Unlike the duration, this does not depend on
// the load of the machine.
func rowsRemoved(t *testing.T, plan string) (rows int) {
	t.Helper()
	for _, m := range rowsRemovedPattern.FindAllStringSubmatch(plan, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		rows += n
	}
	return rows
}

var rowsRemovedPattern = regexp.MustCompile(`Rows Removed by .*: (\d+)`)

func explain(t *testing.T, s *Store, tenant string, q identity.CustomerQuery, after string) string {
	t.Helper()
	query, args := customerSearch(q, tenant, after, 51)
	rs, err := s.db.Query(t.Context(), `explain (analyze) `+query, s.dialect.PlanPerCall(args)...)
	lines, err := sqldb.ScanAll(rs, err, sqldb.ScanString)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func TestListCustomers_Prefixes(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		for _, c := range []identity.Customer{
			{Email: "Steve.One@example.com", PhoneNumber: "+61400111222"},
			{Email: "steve.two@example.com", PhoneNumber: "+61400111333"},
			{Email: "a%b@example.com", PhoneNumber: "+49170111222"},
		} {
			c.TenantID = f.tenant
			created, err := f.CreateCustomer(t.Context(), c, identity.System)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Link(t.Context(), identity.Identity{
				TenantID: f.tenant, CustomerID: created.ID, Channel: "wechat",
				ExternalID: "Wx_" + c.Email,
			}, identity.System); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			q    identity.CustomerQuery
			want int
		}{
			{identity.CustomerQuery{EmailPrefix: "STEVE."}, 2},
			{identity.CustomerQuery{EmailPrefix: "one"}, 0},
			{identity.CustomerQuery{EmailPrefix: "a%"}, 1},
			{identity.CustomerQuery{EmailPrefix: "%"}, 0},
			{identity.CustomerQuery{PhonePrefix: "+61400111"}, 2},
			{identity.CustomerQuery{PhonePrefix: "+49"}, 1},
			{identity.CustomerQuery{PhonePrefix: "0400"}, 0},
			{identity.CustomerQuery{ExternalPrefix: "wx_STEVE"}, 2},
			{identity.CustomerQuery{ExternalPrefix: "wx%"}, 0},
			{identity.CustomerQuery{ExternalPrefix: "w_"}, 0},
			{identity.CustomerQuery{EmailPrefix: "steve", PhonePrefix: "+613"}, 0},
		} {
			cs, err := f.ListCustomers(t.Context(), f.tenant, c.q, "", 10)
			if err != nil || len(cs) != c.want {
				t.Errorf("ListCustomers(%+v) found %d, %v, want %d", c.q, len(cs), err, c.want)
			}
		}
	})
}
