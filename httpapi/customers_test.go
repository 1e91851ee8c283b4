package httpapi

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

func TestListCustomers_Prefix(t *testing.T) {
	h := newHarness(t)
	h.expect(h.request("GET", "/v1/customers?phone_number_prefix=abc", ""), 422, "")
	h.expect(h.request("GET", "/v1/customers?email_prefix=", ""), 422, "")
	for _, q := range []string{"email_prefix=ST", "external_id_prefix=123", "email_prefix=steve&external_id_prefix=1"} {
		if items := h.request("GET", "/v1/customers?"+q, "").fields(t)["items"].([]any); len(items) != 1 {
			t.Errorf("%s: %d", q, len(items))
		}
	}
	for _, q := range []string{"phone_number_prefix=61", "phone_number_prefix=%2B61", "phone_number_prefix=+61"} {
		if got := h.request("GET", "/v1/customers?"+q, "").fields(t)["items"].([]any); len(got) != 0 {
			t.Errorf("%s: %v", q, got)
		}
	}
}

func TestUpdateCustomer_AbsentNullValue(t *testing.T) {
	h := newHarness(t)
	made := h.request(
		"POST",
		"/v1/customers",
		`{"email":"m@example.com","phone_number":"+61 400 111 222","first_name":"Matt","locale":"en-au","metadata":{"b":1,"a":[1.50]}}`,
	)
	h.expect(made, 201, "")
	id := made.fields(t)["id"].(string)
	if !strings.Contains(made.body, `"metadata":{"a":[1.50],"b":1}`) || made.fields(t)["phone_number"] != "+61400111222" ||
		made.fields(t)["locale"] != "en-AU" {
		t.Error(made.body)
	}
	got := h.request("PATCH", "/v1/customers/"+id, `{"email":null,"metadata":null,"last_name":"<M&M>"}`)
	f := got.fields(t)
	if f["email"] != nil || f["first_name"] != "Matt" || f["last_name"] != "<M&M>" ||
		!strings.Contains(got.body, `"metadata":{}`) ||
		!strings.Contains(got.body, "<M&M>") {
		t.Error(got.body)
	}
	h.expect(h.request("PATCH", "/v1/customers/"+id, `{}`), 200, got.body)
}

func TestListCustomers_Paging(t *testing.T) {
	h := newHarness(t)
	for range 4 {
		h.expect(h.request("POST", "/v1/customers", `{}`), 201, "")
	}
	seen, cursor := map[any]bool{}, ""
	for pages := 0; ; pages++ {
		page := h.request("GET", "/v1/customers?limit=2"+cursor, "").fields(t)
		for _, c := range page["items"].([]any) {
			seen[c.(map[string]any)["id"]] = true
		}
		next, more := page["next_cursor"].(string)
		if !more {
			if len(seen) != 5 || pages != 2 {
				t.Errorf("%d customers on %d pages", len(seen), pages+1)
			}
			break
		}
		cursor = "&cursor=" + next
	}
	h.expect(h.request("GET", "/v1/customers?email=none@example.com", ""), 200, `{"items":[],"next_cursor":null}`)
	h.expect(h.request("GET", "/v1/customers?cursor=x", ""), 422, "")
}

func TestListCustomers_Search(t *testing.T) {
	h := newHarness(t)
	for _, q := range []string{
		"email=STEVE@example.com", "name=Ste", "external_id=12345", "channel=telegram&external_id=%2012345",
	} {
		if items := h.request("GET", "/v1/customers?"+q, "").fields(t)["items"].([]any); len(items) != 1 {
			t.Errorf("%s: %d", q, len(items))
		}
	}
	h.expect(h.request("GET", "/v1/customers?email=", ""), 422, "")
	look := func(q string) response { return h.request("GET", "/v1/customers/lookup/identity?"+q, "") }
	h.expect(
		look("channel=telegram&external_id=+12345+"),
		200,
		`{"channel":"telegram","customer_email":"steve@example.com","customer_id":"`+h.customer+`","display_name":null,"external_id":"12345","identity_id":"`+h.tenantIdentity+`","role_override":null,"verified":false}`,
	)
	h.expect(look("channel=telegram&external_id=777&instance_id="+h.instance), 404, `{"detail":"Identity not found"}`)
	h.expect(look("channel=telegram&external_id="+url.QueryEscape("1' or '1'='1")), 422, "")
	h.expect(h.request("GET", "/v1/customers/"+h.customer+"/identities?channel=sms", ""), 200, `[]`)
}

// fakeData is the data of a fakeStore about merges, exports and the audit log.
type fakeData struct {
	merged           map[string]fakeMerge
	blocked          map[string]time.Time
	owners           []identity.Ownership
	events           []identity.Event // oldest first
	erased           []string
	conversations    []gateway.CustomerConversation
	received         []gateway.ReceivedMessage
	sent             []gateway.SentMessage
	needsGrant       bool  // MergeCustomer and UndoMerge require the right to grant
	identifierReused bool  // UndoMerge fails
	laterErr         error // returned by AuditEvents for all but the first page
}

type fakeMerge struct {
	customer identity.Customer
	into     string
	moved    []string
}

// newCustomer returns the ID of another customer of the default tenant.
func (h *harness) newCustomer() string {
	c, _ := h.store.CreateCustomer(
		context.Background(), identity.Customer{TenantID: identity.DefaultTenant, FirstName: "Matt"}, "",
	)
	return c.ID
}

// newMergedCustomer returns the ID of a customer that was merged into the customer of the harness.
func (h *harness) newMergedCustomer() string {
	id := h.newCustomer()
	_, _ = h.store.MergeCustomer(
		context.Background(),
		identity.MergeRequest{TenantID: identity.DefaultTenant, CustomerID: id, TargetID: h.customer, MayGrant: true},
		"",
	)
	return id
}

func (s *fakeStore) DeleteCustomer(_ context.Context, tenant, id string, _ identity.Actor) ([]claim.Target, error) {
	defer s.lock()()
	before := len(s.customers)
	s.customers = slices.DeleteFunc(
		s.customers, func(c identity.Customer) bool { return c.TenantID == tenant && c.ID == id },
	)
	if len(s.customers) == before {
		return nil, identity.ErrNotFound
	}
	return []claim.Target{{TenantID: tenant, IdentityID: "gone", Gen: 3}}, nil
}

func (s *fakeStore) EraseCustomer(ctx context.Context, tenant, id string, by identity.Actor) ([]claim.Target, error) {
	void, err := s.DeleteCustomer(ctx, tenant, id, by)
	if err == nil {
		s.data.erased = append(s.data.erased, id)
	}
	return void, err
}

func (s *fakeStore) MergeCustomer(
	ctx context.Context, req identity.MergeRequest, by identity.Actor,
) (identity.Merge, error) {
	if !req.MayGrant && s.data.needsGrant {
		return identity.Merge{}, identity.ErrGrantRequired
	}
	if _, err := s.Customer(ctx, req.TenantID, req.TargetID); err != nil {
		return identity.Merge{}, err
	}
	c, err := s.Customer(ctx, req.TenantID, req.CustomerID)
	if err != nil {
		return identity.Merge{}, err
	}
	_, _ = s.DeleteCustomer(ctx, req.TenantID, req.CustomerID, by)
	defer s.lock()()
	if s.data.merged == nil {
		s.data.merged = map[string]fakeMerge{}
	}
	m := fakeMerge{customer: c, into: req.TargetID}
	for n := range s.identities {
		if s.identities[n].CustomerID == req.CustomerID {
			s.identities[n].CustomerID = req.TargetID
			m.moved = append(m.moved, s.identities[n].ID)
		}
	}
	s.data.merged[req.CustomerID] = m
	return identity.Merge{
		CustomerID: req.CustomerID, TargetID: req.TargetID, IdentityCount: len(m.moved), At: s.now,
	}, nil
}

func (s *fakeStore) UndoMerge(
	_ context.Context, tenant, id string, mayGrant bool, _ identity.Actor,
) (identity.Customer, error) {
	defer s.lock()()
	m, ok := s.data.merged[id]
	switch {
	case !ok || m.customer.TenantID != tenant:
		return identity.Customer{}, identity.ErrNotFound
	case !mayGrant && s.data.needsGrant:
		return identity.Customer{}, identity.ErrGrantRequired
	case s.data.identifierReused:
		return identity.Customer{}, identity.ErrIdentifierReused
	}
	delete(s.data.merged, id)
	s.customers = append(s.customers, m.customer)
	for n := range s.identities {
		if slices.Contains(m.moved, s.identities[n].ID) {
			s.identities[n].CustomerID = id
		}
	}
	return m.customer, nil
}

func (s *fakeStore) MergedInto(_ context.Context, tenant, id string) (string, error) {
	defer s.lock()()
	if m, ok := s.data.merged[id]; ok && m.customer.TenantID == tenant {
		return m.into, nil
	}
	return "", identity.ErrNotFound
}

func (s *fakeStore) CustomerHistory(_ context.Context, _, customer string) ([]identity.Ownership, error) {
	defer s.lock()()
	return filterRows(s.data.owners, 100, func(o identity.Ownership) bool { return o.CustomerID == customer }), nil
}

func (s *fakeStore) CustomerConversations(
	_ context.Context, q gateway.CustomerConversationQuery,
) ([]gateway.CustomerConversation, error) {
	defer s.lock()()
	return filterRows(
		s.data.conversations, 100,
		func(t gateway.CustomerConversation) bool { return q.InstanceID == "" || t.InstanceID == q.InstanceID },
	), nil
}

func (s *fakeStore) ReceivedMessages(
	_ context.Context, _ gateway.CustomerConversation, after int64, limit int,
) ([]gateway.ReceivedMessage, error) {
	defer s.lock()()
	return filterRows(s.data.received, limit, func(m gateway.ReceivedMessage) bool { return m.Seq > after }), nil
}

func (s *fakeStore) SentMessages(
	_ context.Context, _ gateway.CustomerConversation, after int64, limit int,
) ([]gateway.SentMessage, error) {
	defer s.lock()()
	return filterRows(s.data.sent, limit, func(m gateway.SentMessage) bool { return m.Seq > after }), nil
}

func (s *fakeStore) IdentityAddress(_ context.Context, tenant, id string) (identity.Address, error) {
	defer s.lock()()
	i, err := findRow(s.identities, func(i identity.Identity) bool { return i.TenantID == tenant && i.ID == id })
	return identity.Address{
		TenantID: tenant, InstanceID: i.InstanceID, Channel: i.Channel, ExternalID: i.ExternalID,
	}, err
}

func (s *fakeStore) AddressHistory(_ context.Context, a identity.Address) ([]identity.Ownership, error) {
	defer s.lock()()
	return filterRows(
		s.data.owners, 100,
		func(o identity.Ownership) bool { return o.Channel == a.Channel && o.ExternalID == a.ExternalID },
	), nil
}

func (s *fakeStore) checkSender(tenant, instance, id string) error {
	i, err := findRow(s.identities, func(i identity.Identity) bool {
		return i.TenantID == tenant && i.ID == id && (instance == "" || instance == i.InstanceID)
	})
	if err == nil && i.CustomerID != "" {
		err = identity.ErrAlreadyLinked
	}
	return err
}

func (s *fakeStore) BlockSender(_ context.Context, k identity.SenderKey, _ identity.Actor) (time.Time, error) {
	defer s.lock()()
	if err := s.checkSender(k.TenantID, k.InstanceID, k.IdentityID); err != nil {
		return time.Time{}, err
	}
	if s.data.blocked == nil {
		s.data.blocked = map[string]time.Time{}
	}
	s.data.blocked[k.IdentityID] = s.now
	return s.now, nil
}

func (s *fakeStore) UnblockSender(_ context.Context, k identity.SenderKey, _ identity.Actor) error {
	defer s.lock()()
	delete(s.data.blocked, k.IdentityID)
	return s.checkSender(k.TenantID, k.InstanceID, k.IdentityID)
}

func (s *fakeStore) AuditEvents(
	_ context.Context, tenant string, q identity.EventQuery, before string, limit int,
) ([]identity.Event, error) {
	defer s.lock()()
	if before != "" && s.data.laterErr != nil {
		return nil, s.data.laterErr
	}
	newest := slices.Clone(s.data.events)
	slices.Reverse(newest)
	return filterRows(newest, limit, func(e identity.Event) bool {
		return e.TenantID == tenant && (before == "" || e.ID < before) && (q.Kind == "" || q.Kind == e.Kind) && (q.Actor == "" || q.Actor == e.Actor) &&
			(q.CustomerID == "" || q.CustomerID == e.CustomerID) && (q.IdentityID == "" || q.IdentityID == e.IdentityID) &&
			(q.InstanceID == "" || q.InstanceID == e.InstanceID) &&
			!e.At.Before(q.Since) &&
			(q.Until.IsZero() || e.At.Before(q.Until))
	}), nil
}

// matchesPrefixes reports whether a customer matches the prefixes of a query.
func (s *fakeStore) matchesPrefixes(c identity.Customer, q identity.CustomerQuery) bool {
	return strings.HasPrefix(
		strings.ToLower(c.Email), strings.ToLower(q.EmailPrefix),
	) && strings.HasPrefix(c.PhoneNumber, q.PhonePrefix) &&
		(q.ExternalPrefix == "" || slices.ContainsFunc(s.identities, func(i identity.Identity) bool {
			return i.CustomerID == c.ID && strings.HasPrefix(i.ExternalID, q.ExternalPrefix)
		}))
}
