package contactapi

import (
	"net/url"
	"strings"
	"unicode"

	"hydragate/httpapi/fastapi"
)

const (
	formatWebURL      = "web-url"
	formatContactType = "contact-identity-type"
	maxWebURL         = 2048
)

// contactTypes returns the types of contact identities as they are written in responses. The
// channel is the type in lower case.
func contactTypes() []string {
	return []string{
		"visitor", "email", "SMS", "Facebook", "Twitter", "WeChat", "ssoid", "externalid", "Whatsapp", "inphase",
		"Telegram", "Slack",
	}
}

// contactType returns the type for a channel. It returns the channel itself if there is no type for
// it.
func contactType(channel string) string {
	for _, t := range contactTypes() {
		if strings.EqualFold(t, channel) {
			return t
		}
	}
	return channel
}

// cleanContactType returns the canonical form of a type.
func cleanContactType(s string) (string, *fastapi.Violation) {
	lower := strings.ToLower(s)
	for _, t := range contactTypes() {
		if strings.ToLower(t) == lower { //nolint:gocritic // EqualFold would also accept ſms
			return t, nil
		}
	}
	return "", fastapi.InvalidValue("the type must be one of " + strings.Join(contactTypes(), ", "))
}

// cleanWebURL checks that a URL is safe to link to: an absolute https URL without credentials and
// invisible characters. The empty string is accepted.
func cleanWebURL(s string) (string, *fastapi.Violation) {
	if s == "" {
		return "", nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" || u.Opaque != "" || u.Hostname() == "":
		return "", fastapi.InvalidValue("a URL must be an absolute https URL")
	case len(s) > maxWebURL:
		return "", fastapi.InvalidValue("a URL must have at most 2048 bytes")
	case u.User != nil:
		return "", fastapi.InvalidValue("a URL must not contain a user name or password")
	case strings.ContainsFunc(s, func(r rune) bool { return r == '\\' || unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return "", fastapi.InvalidValue("a URL must not contain spaces, backslashes or invisible characters")
	}
	return s, nil
}
