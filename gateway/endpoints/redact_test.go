package endpoints

import (
	"encoding/base64"
	"errors"
	"testing"

	"hydragate/adapters"
)

func TestRedactSecrets(t *testing.T) {
	creds := adapters.Credentials{adapters.AccountSID: "AC0123", adapters.AuthToken: "fedcba98"}
	for name, c := range map[string]struct {
		reason string
		shown  bool
	}{
		"PlainWords":  {"The account AC0123 is suspended.", true},
		"Nothing":     {"", true},
		"TheSecret":   {"bad token fedcba98!", false},
		"ItsHeader":   {"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("AC0123:fedcba98")), false},
		"InBase64":    {base64.StdEncoding.EncodeToString([]byte("fedcba98")), false},
		"PartOfIt":    {"a token ends in 98", true},
		"InLongWords": {"xxfedcba98xx", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := redactSecrets(&adapters.SetupError{Reason: adapters.Refused, Field: "auth_token", Message: c.reason}, creds)
			var se *adapters.SetupError
			if !errors.As(err, &se) || se.Reason != adapters.Refused || se.Field != "auth_token" || (se.Message == c.reason) != c.shown {
				t.Errorf("%+v", se)
			}
		})
	}
	other := errors.New("fedcba98")
	if redactSecrets(other, creds) != other || redactSecrets(nil, creds) != nil {
		t.Error("another error is not left as it is")
	}
}
