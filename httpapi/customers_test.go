package httpapi

import (
	"context"
	"net/url"
	"strings"
	"testing"

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
	made := h.request("POST", "/v1/customers", `{"email":"m@example.com","phone_number":"+61 400 111 222",
		"first_name":"Matt","locale":"en-au","metadata":{"b":1,"a":[1.50]}}`)
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
		`{"channel":"telegram","customer_email":"steve@example.com","customer_id":"`+h.customer+`",
			"display_name":null,"external_id":"12345","identity_id":"`+h.tenantIdentity+`",
			"role_override":null,"verified":false}`,
	)
	h.expect(look("channel=telegram&external_id=777&instance_id="+h.instance), 404, `{"detail":"Identity not found"}`)
	h.expect(look("channel=telegram&external_id="+url.QueryEscape("1' or '1'='1")), 422, "")
	h.expect(h.request("GET", "/v1/customers/"+h.customer+"/identities?channel=sms", ""), 200, `[]`)
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
