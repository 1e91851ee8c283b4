package fastapi

import (
	"net/mail"
	"strings"
	"time"

	"golang.org/x/text/language"
)

// The string formats of the OpenAPI document.
const (
	FormatUUID     = "uuid"
	FormatTime     = "date-time"
	FormatEmail    = "email"
	FormatPhone    = "phone"
	FormatLocale   = "bcp47"
	FormatTimezone = "timezone"
	FormatAgentURL = "uri"
)

// CleanUUID returns the canonical form of a UUID. ParseUUID lists the accepted forms.
func CleanUUID(s string) (string, *Violation) {
	id, reason := ParseUUID(s)
	if reason != "" {
		return "", &Violation{
			Type: "uuid_parsing", Msg: "Input should be a valid UUID, " + reason, Ctx: map[string]any{"error": reason},
		}
	}
	return id, nil
}

// CleanTime converts an RFC 3339 time to UTC.
func CleanTime(s string) (string, *Violation) {
	t, err := time.Parse(time.RFC3339, s)
	// After conversion to UTC, the year may be one that RFC 3339 and the databases cannot
	// represent.
	if y := t.UTC().Year(); err != nil || y < 1 || y > 9999 {
		return "", &Violation{
			Type: "datetime_from_date_parsing",
			Msg:  "Input should be a valid datetime or date, such as 2030-01-31T12:00:00Z",
		}
	}
	return t.UTC().Format(time.RFC3339Nano), nil
}

// CleanEmail checks an email address without a display name.
func CleanEmail(s string) (string, *Violation) {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 254 || strings.ContainsAny(s, "\" \t") {
		return "", &Violation{Type: "value_error", Msg: "value is not a valid email address"}
	}
	return s, nil
}

// CleanLocale returns the canonical form of a BCP 47 language tag.
func CleanLocale(s string) (string, *Violation) {
	tag, err := language.Parse(s)
	if err != nil {
		return "", InvalidValue("a locale must be a BCP 47 tag, such as en-AU")
	}
	return tag.String(), nil
}

// CleanTimezone checks the name of a time zone.
func CleanTimezone(s string) (string, *Violation) {
	if _, err := time.LoadLocation(s); err != nil || s == "" || s == "Local" {
		return "", InvalidValue("a timezone must be a name of the IANA database, such as Australia/Sydney")
	}
	return s, nil
}

// InvalidValue returns a violation of a rule that is not part of the schema. reason is shown to the
// client.
func InvalidValue(reason string) *Violation {
	return &Violation{Type: "value_error", Msg: "Value error, " + reason}
}

// ValueViolation returns InvalidValue of the error text, or nil if err is nil.
func ValueViolation(err error) *Violation {
	if err == nil {
		return nil
	}
	return InvalidValue(err.Error())
}
