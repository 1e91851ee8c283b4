package httpapi

import (
	"net/mail"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"

	"hydragate/gateway"
	"hydragate/identity"
)

// The formats of texts, as the OpenAPI document names them.
const (
	formatUUID     = "uuid"
	formatTime     = "date-time"
	formatEmail    = "email"
	formatPhone    = "phone"
	formatLocale   = "bcp47"
	formatTimezone = "timezone"
	formatAgentURL = "uri"
)

func newChecker(allowPrivate bool) *checker {
	return &checker{formats: map[string]func(string) (string, *violation){
		formatUUID:     cleanUUID,
		formatTime:     cleanTime,
		formatEmail:    cleanEmail,
		formatPhone:    cleanPhone,
		formatLocale:   cleanLocale,
		formatTimezone: cleanTimezone,
		formatAgentURL: func(s string) (string, *violation) { return cleanAgentURL(s, allowPrivate) },
	}}
}

func cleanUUID(s string) (string, *violation) {
	id, reason := parseUUID(s)
	if reason != "" {
		return "", &violation{Type: "uuid_parsing", Msg: "Input should be a valid UUID, " + reason, Ctx: map[string]any{"error": reason}}
	}
	return id, nil
}

func cleanTime(s string) (string, *violation) {
	t, err := time.Parse(time.RFC3339, s)
	// In UTC it may be in a year that neither RFC 3339 nor the databases can write.
	if y := t.UTC().Year(); err != nil || y < 1 || y > 9999 {
		return "", &violation{Type: "datetime_from_date_parsing", Msg: "Input should be a valid datetime or date, such as 2030-01-31T12:00:00Z"}
	}
	return t.UTC().Format(time.RFC3339Nano), nil
}

func cleanEmail(s string) (string, *violation) {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 254 || strings.ContainsAny(s, "\" \t") {
		return "", &violation{Type: "value_error", Msg: "value is not a valid email address"}
	}
	return s, nil
}

func cleanPhone(s string) (string, *violation) {
	number, err := identity.Phone(s)
	return number, reasoned(err)
}

func cleanLocale(s string) (string, *violation) {
	tag, err := language.Parse(s)
	if err != nil {
		return "", unfit("a locale is a BCP 47 tag, such as en-AU")
	}
	return tag.String(), nil
}

func cleanTimezone(s string) (string, *violation) {
	if _, err := time.LoadLocation(s); err != nil || s == "" || s == "Local" {
		return "", unfit("a timezone is a name of the IANA database, such as Australia/Sydney")
	}
	return s, nil
}

func cleanAgentURL(s string, allowPrivate bool) (string, *violation) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "":
		return "", unfit("an agent URL is an absolute https URL")
	case u.User != nil:
		return "", unfit("an agent URL holds no user name and no password")
	case allowPrivate:
		return s, nil
	case u.Scheme != "https":
		return "", unfit("an agent URL is an https URL")
	case private(u.Hostname()):
		return "", unfit("an agent URL is on a public address")
	}
	return s, nil
}

// private reports whether a host is of this machine or its network by its very name.
// Names are resolved, and judged again, by whoever dials.
func private(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return looksLikeNumber(host)
	}
	return !gateway.Public(ip)
}

// looksLikeNumber reports whether a host that is no address ends like one, as 127.1 and
// 0x7f000001 do: some resolvers take it for one.
func looksLikeNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	_, err := strconv.ParseUint(last, 0, 64)
	return err == nil || strings.Trim(last, "0123456789") == ""
}

func unfit(reason string) *violation {
	return &violation{Type: "value_error", Msg: "Value error, " + reason}
}

func reasoned(err error) *violation {
	if err == nil {
		return nil
	}
	return unfit(err.Error())
}

// cleanAddress gives the external_id that stands beside a channel its one spelling.
func cleanAddress(values map[string]any, where string, wrong *[]violation) {
	channel, _ := values["channel"].(string)
	id, ok := values["external_id"].(string)
	if !ok || channel == "" {
		return
	}
	clean, err := identity.Normalise(channel, id)
	if err != nil {
		*wrong = append(*wrong, valueError(err.Error(), where, "external_id"))
		return
	}
	values["external_id"] = clean
}
