package endpoints

import (
	"encoding/base64"
	"errors"
	"strings"

	"hydragate/adapters"
)

// redactSecrets returns err, the error of a set-up. If its message repeats one of the credentials, the
// message is replaced, because it is stored and shown to staff.
func redactSecrets(err error, creds adapters.Credentials) error {
	var se *adapters.SetupError
	if !errors.As(err, &se) || !containsSecret(se.Message, creds) {
		return err
	}
	redacted := *se
	redacted.Message, redacted.Err = "The provider's error message contains a secret and is not shown.", nil
	return &redacted
}

// containsSecret reports whether text contains one of the credentials, in plain or as part of a Basic
// authorization header.
func containsSecret(text string, creds adapters.Credentials) bool {
	for name, secret := range creds {
		if secret == "" || name == adapters.AccountSID {
			continue
		}
		for _, s := range []string{secret, creds[adapters.AccountSID] + ":" + secret} {
			if strings.Contains(text, s) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(s))) {
				return true
			}
		}
	}
	return false
}
