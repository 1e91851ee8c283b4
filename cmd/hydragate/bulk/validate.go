package bulk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/text/language"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// A customerLine is one line of a file of customers, as export writes and import reads it.
type customerLine struct {
	ID          string           `json:"id,omitempty"`
	Email       string           `json:"email,omitempty"`
	PhoneNumber string           `json:"phone_number,omitempty"`
	FirstName   string           `json:"first_name,omitempty"`
	LastName    string           `json:"last_name,omitempty"`
	CompanyName string           `json:"company_name,omitempty"`
	Locale      string           `json:"locale,omitempty"`
	Timezone    string           `json:"timezone,omitempty"`
	Metadata    json.RawMessage  `json:"metadata,omitempty"`
	FKID        string           `json:"fk_id,omitempty"`
	FKUserID    string           `json:"fk_user_id,omitempty"`
	Source      string           `json:"source,omitempty"`
	Context     string           `json:"context,omitempty"`
	Identities  []identityFields `json:"identities,omitempty"`
}

type identityFields struct {
	Channel      string          `json:"channel"`
	ExternalID   string          `json:"external_id"`
	Instance     string          `json:"instance,omitempty"`
	DisplayName  string          `json:"display_name,omitempty"`
	Username     string          `json:"username,omitempty"`
	RoleOverride string          `json:"role_override,omitempty"`
	Metadata     json.RawMessage `json:"metadata,omitempty"`
	VerifiedAt   string          `json:"verified_at,omitempty"`
	AvatarURL    string          `json:"avatar_url,omitempty"`
	InfoURL      string          `json:"info_url,omitempty"`
	PageURL      string          `json:"page_url,omitempty"`
}

// newCustomerLine writes a customer down.
func newCustomerLine(r identity.Record) customerLine {
	l := customerLine{
		ID: r.ID, Email: r.Email, PhoneNumber: r.PhoneNumber, FirstName: r.FirstName, LastName: r.LastName, CompanyName: r.CompanyName,
		Locale: r.Locale, Timezone: r.Timezone, Metadata: omitEmptyMetadata(r.Metadata), FKID: r.FKID, FKUserID: r.FKUserID, Source: r.Source, Context: r.Context,
	}
	for _, i := range r.Identities {
		b := identityFields{
			Channel: i.Channel, ExternalID: i.ExternalID, Instance: i.Instance, DisplayName: i.DisplayName, Username: i.Username, RoleOverride: i.RoleOverride,
			Metadata: omitEmptyMetadata(i.Metadata), AvatarURL: i.AvatarURL, InfoURL: i.InfoURL, PageURL: i.PageURL,
		}
		if i.IsVerified() {
			b.VerifiedAt = i.VerifiedAt.UTC().Format(time.RFC3339Nano)
		}
		l.Identities = append(l.Identities, b)
	}
	return l
}

func omitEmptyMetadata(m json.RawMessage) json.RawMessage {
	if string(m) == "{}" {
		return nil
	}
	return m
}

// A validator holds lines to the rules of the API, and collects what is wrong.
type validator struct {
	now        time.Time
	zones      map[string]bool // time zones looked up so far
	violations []string
}

func NewValidator(now time.Time) *validator { return &validator{now: now, zones: map[string]bool{}} }

// validate gives the customer that a line is about, or everything that is wrong with it.
func (c *validator) validate(l customerLine) (identity.Record, error) {
	c.violations = nil
	r := identity.Record{
		Customer: identity.Customer{
			ID: c.id(l.ID), Email: c.email(l.Email), PhoneNumber: c.phone(l.PhoneNumber), FirstName: c.text("first_name", l.FirstName, 255),
			LastName: c.text("last_name", l.LastName, 255), CompanyName: c.text("company_name", l.CompanyName, 255), Locale: c.locale(l.Locale),
			Timezone: c.timezone(l.Timezone), Metadata: c.metadata("metadata", l.Metadata),
		},
		FKID: c.text("fk_id", l.FKID, 255), FKUserID: c.text("fk_user_id", l.FKUserID, 255),
		Source: c.text("source", l.Source, 255), Context: c.text("context", l.Context, 4096),
	}
	for _, i := range l.Identities {
		r.Identities = append(r.Identities, c.identity(i))
	}
	if len(c.violations) > 0 {
		return r, errors.New(strings.Join(c.violations, "; "))
	}
	return r, nil
}

func (c *validator) identity(b identityFields) identity.RecordIdentity {
	i := identity.RecordIdentity{
		Identity: identity.Identity{
			Channel: strings.TrimSpace(b.Channel), DisplayName: c.text("display_name", b.DisplayName, 255), Username: c.text("username", b.Username, 255),
			RoleOverride: b.RoleOverride, Metadata: c.metadata("identity_metadata", b.Metadata), VerifiedAt: c.pastTime("verified_at", b.VerifiedAt),
		},
		Instance: strings.TrimSpace(b.Instance), AvatarURL: c.url("avatar_url", b.AvatarURL), InfoURL: c.url("info_url", b.InfoURL), PageURL: c.url("page_url", b.PageURL),
	}
	if !identity.ValidChannel(i.Channel) {
		c.addViolation("channel", "must be a name such as telegram, sms, slack or whatsapp")
		return i
	}
	external := c.text("external_id", b.ExternalID, identity.MaxExternalID)
	var err error
	if i.ExternalID, err = gateway.NormalizeExternalID(adapters.Channel(i.Channel), external); err != nil {
		c.addViolation("external_id", err.Error())
	}
	if i.RoleOverride != "" && i.RoleOverride != identity.RoleOwner {
		c.addViolation("role_override", "must be owner or empty")
	}
	return i
}

// addViolation notes what is wrong. It never holds the value.
func (c *validator) addViolation(field, wrong string) {
	c.violations = append(c.violations, field+": "+wrong)
}

func (c *validator) text(field, s string, most int) string {
	switch {
	case strings.ContainsRune(s, 0) || !utf8.ValidString(s):
		c.addViolation(field, "holds NUL or broken characters; the file must be UTF-8")
	case utf8.RuneCountInString(s) > most:
		c.addViolation(field, fmt.Sprintf("has more than %d characters", most))
	}
	return s
}

func (c *validator) id(s string) string {
	if s == "" {
		return ""
	}
	id, err := uuid.Parse(s)
	if err != nil || id == uuid.Nil {
		c.addViolation("id", "must be a UUID")
	}
	return id.String()
}

func (c *validator) email(s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return ""
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 254 || strings.ContainsAny(s, "\" \t\x00") || !utf8.ValidString(s) {
		c.addViolation("email", "is not a valid e-mail address")
	}
	return s
}

func (c *validator) phone(s string) string {
	if strings.TrimSpace(s) == "" {
		return ""
	}
	number, err := identity.NormalizePhone(s)
	if err != nil {
		c.addViolation("phone_number", err.Error())
	}
	return number
}

func (c *validator) locale(s string) string {
	if s == "" {
		return ""
	}
	tag, err := language.Parse(s)
	if err != nil || len(s) > 64 {
		c.addViolation("locale", "must be a BCP 47 tag, such as en-AU")
	}
	return tag.String()
}

func (c *validator) timezone(s string) string {
	if s == "" {
		return ""
	}
	good, known := c.zones[s]
	if !known {
		_, err := time.LoadLocation(s)
		good = err == nil && s != "Local" && len(s) <= 64
		c.zones[s] = good
	}
	if !good {
		c.addViolation("timezone", "must be a name of the IANA database, such as Australia/Sydney")
	}
	return s
}

const maxMetadata = 16 << 10

func (c *validator) metadata(field string, raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var b bytes.Buffer
	if raw[0] != '{' || !utf8.Valid(raw) || json.Compact(&b, raw) != nil || bytes.Contains(raw, []byte(`\u0000`)) {
		c.addViolation(field, "must be a JSON object")
		return nil
	}
	if b.Len() > maxMetadata {
		c.addViolation(field, "has more than 16 KiB")
	}
	return b.Bytes()
}

func (c *validator) pastTime(field, s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.After(c.now) {
		c.addViolation(field, "must be a time that has passed, such as 2026-01-31T12:00:00Z")
	}
	return t
}

func (c *validator) url(field, s string) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || len(s) > 2048 {
		c.addViolation(field, "must be an https URL")
	}
	return s
}

// The ways to write customers down.
const (
	FormatCSV   = "csv"
	FormatJSONL = "jsonl"
)

// DetectFormat gives the format asked for, or that of the file's name.
func DetectFormat(asked, file string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	for format, ends := range map[string][]string{FormatCSV: {".csv", ".tsv"}, FormatJSONL: {".jsonl", ".ndjson", ".json"}} {
		if slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(strings.ToLower(file), end) }) {
			return format, nil
		}
	}
	return "", errors.New("--format csv or --format jsonl is needed: the name of the file does not say which")
}
