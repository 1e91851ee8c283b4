package gateway

import (
	"encoding/base64"
	"errors"
	"strings"

	"hydragate/adapters"
)

// discreet gives the error of a set-up without a provider's reason that repeats a secret
// it was sent: the reason is shown to staff, and kept.
func discreet(err error, creds adapters.Credentials) error {
	var refused *adapters.SetupError
	if !errors.As(err, &refused) || !repeats(refused.Message, creds) {
		return err
	}
	told := *refused
	told.Message, told.Err = "The provider gave a reason that repeats a secret, so it is not shown.", nil
	return &told
}

// repeats reports whether a text holds one of the secrets, as it is or as a provider
// reads it from a header.
func repeats(text string, creds adapters.Credentials) bool {
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
