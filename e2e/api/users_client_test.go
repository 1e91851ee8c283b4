package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"hydragate/e2e/harness"
)

// The types that a generator makes of the vendor's public OpenAPI document ("AI Agent API" 1.0.0, as
// retrieved on 2026-07-27). A field without omitempty is required. As in the projection that the
// vendor's own client is generated from, the name of an error is a string.
type (
	clientUser struct {
		ID           *string        `json:"id"`
		FirstName    *string        `json:"firstName"`
		LastName     *string        `json:"lastName"`
		Context      *string        `json:"context,omitempty"`
		Source       *string        `json:"source,omitempty"`
		FKID         *string        `json:"fkId,omitempty"`
		FKUserID     *string        `json:"fkUserId,omitempty"`
		Email        *string        `json:"email,omitempty"`
		PhoneNumber  *string        `json:"phoneNumber,omitempty"`
		Metadata     map[string]any `json:"metadata,omitempty"`
		IsAnonymized *bool          `json:"isAnonymized"`
	}
	clientUserFound struct {
		User            *clientUser `json:"user"`
		ConversationIDs []string    `json:"conversationIds"`
	}
	clientError struct {
		Status  *float64         `json:"status"`
		Name    *string          `json:"name"`
		Message *string          `json:"message"`
		Details []map[string]any `json:"details"`
	}
)

// decodeStrictly decodes body into a pointer to one of the types above. It returns an error if a
// required field is missing or null, if an optional one is null, or if there is another field.
func decodeStrictly(body string, into any) error {
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if strings.Contains(body, ":null") {
		return fmt.Errorf("a field is null: %s", body)
	}
	return requireFields(reflect.ValueOf(into).Elem())
}

func requireFields(v reflect.Value) error {
	for i := range v.NumField() {
		tag, field := v.Type().Field(i).Tag.Get("json"), v.Field(i)
		switch {
		case field.IsNil() && !strings.Contains(tag, "omitempty"):
			return fmt.Errorf("%s is missing", tag)
		case field.Kind() == reflect.Pointer && field.Type().Elem().Kind() == reflect.Struct:
			if err := requireFields(field.Elem()); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestUsers_GeneratedClient decodes the responses of all operations, errors included, as a client
// that was generated from the vendor's OpenAPI document.
func TestUsers_GeneratedClient(t *testing.T) {
	harness.ForEachSurfaceEngine(t, func(t *testing.T, f *harness.SurfaceFixture) {
		const users = "/external/users"
		full := f.Expect(f.AgentKey, "POST", users, userBody, 201, nil)
		// A customer that was created by the native API may lack a last name.
		customer := f.NewCustomer()
		f.LinkAddress(customer, f.InstanceID, "sms", "+61400111777")
		for _, c := range []struct {
			key, method, path, body string
			status                  int
			into                    any
		}{
			{f.AgentKey, "POST", users, `{"firstName":"S","lastName":"E","fkId":"1"}`, 201, &clientUser{}},
			{f.AgentKey, "GET", users + "/" + full.ID(), "", 200, &clientUser{}},
			{f.AgentKey, "GET", users + "/" + customer, "", 200, &clientUser{}},
			{f.AgentKey, "GET", users + "/search?fkId=123456", "", 200, &clientUserFound{}},
			{f.AgentKey, "POST", users, userBody, 400, &clientError{}},
			{f.AgentKey, "POST", users, `{"firstName":"S"}`, 400, &clientError{}},
			{f.AgentKey, "POST", users, `{`, 400, &clientError{}},
			{f.AgentKey, "GET", users + "/search", "", 400, &clientError{}},
			{f.AgentKey, "GET", users + "/search?fkId=unknown", "", 404, &clientError{}},
			{f.AgentKey, "GET", users + "/unknown", "", 404, &clientError{}},
			{f.AgentKey, "DELETE", users + "/unknown", "", 404, &clientError{}},
			{"", "GET", users + "/search?fkId=1", "", 403, &clientError{}},
			{"wrong", "POST", users, userBody, 403, &clientError{}},
		} {
			got := f.Expect(c.key, c.method, c.path, c.body, c.status, nil)
			if err := decodeStrictly(got.Body, c.into); err != nil {
				t.Errorf("%s %s with status %d: %v", c.method, c.path, c.status, err)
			}
		}
		for _, wrong := range []string{
			`{"id":"1","lastName":"E","isAnonymized":false}`,
			`{"id":"1","firstName":"S","lastName":"E","isAnonymized":false,"email":null}`,
			`{"id":"1","firstName":"S","lastName":"E","isAnonymized":"false"}`,
		} {
			if decodeStrictly(wrong, &clientUser{}) == nil {
				t.Errorf("control: %s was decoded", wrong)
			}
		}
	})
}
