package userapi

import (
	"testing"

	"hydragate/httpapi/fastapi"
	"hydragate/identity"
)

// TestUser_CustomDataOnly: what a customer's metadata holds under the name of
// custom data may be anything.
func TestUser_CustomDataOnly(t *testing.T) {
	for in, want := range map[string]string{
		``: `{}`, `{}`: `{}`, `{"customData":null}`: `{}`, `{"customData":[1]}`: `{}`, `{"customData":"x"}`: `{}`, `{"tier":"gold"}`: `{}`,
		`{"customData":{"a":1},"b":2}`: `{"a":1}`,
	} {
		got, err := fastapi.Encode(toUser(identity.User{Customer: identity.Customer{Metadata: []byte(in)}}).Metadata)
		if err != nil || string(got) != `{"customData":`+want+`}` {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
}
