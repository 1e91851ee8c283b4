package endpoints

import (
	"encoding/base64"
	"errors"
	"strings"

	"hydragate/adapters"
)

// redactSecrets gives the error of a set-up without a provider's reason that repeats a secret
// it was sent: the reason is shown to staff, and kept.
func redactSecrets(err error, creds adapters.Credentials) error {
	var refused *adapters.SetupError
	if !errors.As(err, &refused) || !containsSecret(refused.Message, creds) {
		return err
	}
	told := *refused
	told.Message, told.Err = "The provider gave a reason that repeats a secret, so it is not shown.", nil
	return &told
}

// containsSecret reports whether a text holds one of the secrets, as it is or as a provider
// reads it from a header.
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
