package endpoints

import (
	"encoding/base64"
	"errors"
	"testing"

	"hydragate/adapters"
)

func TestRedactSecrets(t *testing.T) {
	creds := adapters.Credentials{adapters.AccountSID: "AC0123", adapters.AuthToken: "fedcba98"}
	for _, tt := range []struct {
		name    string
		message string
		shown   bool
	}{
		{"no secret", "The account AC0123 is suspended.", true},
		{"empty", "", true},
		{"secret", "bad token fedcba98!", false},
		{
			"authorization header",
			"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("AC0123:fedcba98")), false,
		},
		{"base64", base64.StdEncoding.EncodeToString([]byte("fedcba98")), false},
		{"part of the secret", "a token ends in 98", true},
		{"secret within a word", "xxfedcba98xx", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := redactSecrets(&adapters.SetupError{
				Reason: adapters.Refused, Field: "auth_token", Message: tt.message,
			}, creds)
			var se *adapters.SetupError
			if !errors.As(err, &se) || se.Reason != adapters.Refused || se.Field != "auth_token" {
				t.Fatalf("redactSecrets() = %+v, want the same reason and field", err)
			}
			if shown := se.Message == tt.message; shown != tt.shown {
				t.Errorf("redactSecrets(%q) has message %q, want unchanged: %v", tt.message, se.Message, tt.shown)
			}
		})
	}
	other := errors.New("fedcba98")
	if !errors.Is(redactSecrets(other, creds), other) || redactSecrets(nil, creds) != nil {
		t.Error("redactSecrets changed an error that is not a *adapters.SetupError")
	}
}
