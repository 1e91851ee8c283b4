package userapi

import (
	"testing"

	"hydragate/httpapi/fastapi"
	"hydragate/identity"
)

// TestUser_CustomDataOnly checks that the metadata of a user contains only customData, and only if
// that is an object.
func TestUser_CustomDataOnly(t *testing.T) {
	for in, want := range map[string]string{
		``:                             `{}`,
		`{}`:                           `{}`,
		`{"customData":null}`:          `{}`,
		`{"customData":[1]}`:           `{}`,
		`{"customData":"x"}`:           `{}`,
		`{"tier":"gold"}`:              `{}`,
		`{"customData":{"a":1},"b":2}`: `{"a":1}`,
	} {
		got, err := fastapi.Encode(toUser(identity.User{Customer: identity.Customer{Metadata: []byte(in)}}).Metadata)
		if err != nil || string(got) != `{"customData":`+want+`}` {
			t.Errorf("metadata of a user with %s = %s, %v", in, got, err)
		}
	}
}
