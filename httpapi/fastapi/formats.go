package fastapi

import (
	"net/mail"
	"strings"
	"time"

	"golang.org/x/text/language"
)

// The formats of texts, as the OpenAPI document names them.
const (
	FormatUUID     = "uuid"
	FormatTime     = "date-time"
	FormatEmail    = "email"
	FormatPhone    = "phone"
	FormatLocale   = "bcp47"
	FormatTimezone = "timezone"
	FormatAgentURL = "uri"
)

func CleanUUID(s string) (string, *Violation) {
	id, reason := ParseUUID(s)
	if reason != "" {
		return "", &Violation{Type: "uuid_parsing", Msg: "Input should be a valid UUID, " + reason, Ctx: map[string]any{"error": reason}}
	}
	return id, nil
}

func CleanTime(s string) (string, *Violation) {
	t, err := time.Parse(time.RFC3339, s)
	// In UTC it may be in a year that neither RFC 3339 nor the databases can write.
	if y := t.UTC().Year(); err != nil || y < 1 || y > 9999 {
		return "", &Violation{Type: "datetime_from_date_parsing", Msg: "Input should be a valid datetime or date, such as 2030-01-31T12:00:00Z"}
	}
	return t.UTC().Format(time.RFC3339Nano), nil
}

func CleanEmail(s string) (string, *Violation) {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 254 || strings.ContainsAny(s, "\" \t") {
		return "", &Violation{Type: "value_error", Msg: "value is not a valid email address"}
	}
	return s, nil
}

func CleanLocale(s string) (string, *Violation) {
	tag, err := language.Parse(s)
	if err != nil {
		return "", InvalidValue("a locale is a BCP 47 tag, such as en-AU")
	}
	return tag.String(), nil
}

func CleanTimezone(s string) (string, *Violation) {
	if _, err := time.LoadLocation(s); err != nil || s == "" || s == "Local" {
		return "", InvalidValue("a timezone is a name of the IANA database, such as Australia/Sydney")
	}
	return s, nil
}

func InvalidValue(reason string) *Violation {
	return &Violation{Type: "value_error", Msg: "Value error, " + reason}
}

func ValueViolation(err error) *Violation {
	if err == nil {
		return nil
	}
	return InvalidValue(err.Error())
}
