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

// contactTypes are the types of contact identities in the spelling in which they are
// answered. In lower case each is the channel.
func contactTypes() []string {
	return []string{"visitor", "email", "SMS", "Facebook", "Twitter", "WeChat", "ssoid", "externalid", "Whatsapp", "inphase", "Telegram", "Slack"}
}

// contactType gives the type of a channel. One that this surface has no type for is
// shown under its own name.
func contactType(channel string) string {
	for _, t := range contactTypes() {
		if strings.EqualFold(t, channel) {
			return t
		}
	}
	return channel
}

func cleanContactType(s string) (string, *fastapi.Violation) {
	for _, t := range contactTypes() {
		if strings.ToLower(t) == strings.ToLower(s) {
			return t, nil
		}
	}
	return "", fastapi.InvalidValue("the type must be one of " + strings.Join(contactTypes(), ", "))
}

// cleanWebURL takes what a browser may be sent to: an absolute https URL that hides
// nothing. Empty is none.
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
