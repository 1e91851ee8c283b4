package bulk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/text/language"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
)

// A customerLine is one line of a file of customers.
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

// identityFields are the fields of an identity in a file of customers.
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

// newCustomerLine returns the line of a customer.
func newCustomerLine(r identity.Record) customerLine {
	l := customerLine{
		ID:          r.ID,
		Email:       r.Email,
		PhoneNumber: r.PhoneNumber,
		FirstName:   r.FirstName,
		LastName:    r.LastName,
		CompanyName: r.CompanyName,
		Locale:      r.Locale,
		Timezone:    r.Timezone,
		Metadata:    omitEmptyMetadata(r.Metadata),
		FKID:        r.FKID,
		FKUserID:    r.FKUserID,
		Source:      r.Source,
		Context:     r.Context,
	}
	for _, i := range r.Identities {
		fields := identityFields{
			Channel:      i.Channel,
			ExternalID:   i.ExternalID,
			Instance:     i.Instance,
			DisplayName:  i.DisplayName,
			Username:     i.Username,
			RoleOverride: i.RoleOverride,
			Metadata:     omitEmptyMetadata(i.Metadata),
			AvatarURL:    i.AvatarURL,
			InfoURL:      i.InfoURL,
			PageURL:      i.PageURL,
		}
		if i.IsVerified() {
			fields.VerifiedAt = i.VerifiedAt.UTC().Format(time.RFC3339Nano)
		}
		l.Identities = append(l.Identities, fields)
	}
	return l
}

func omitEmptyMetadata(m json.RawMessage) json.RawMessage {
	if string(m) == "{}" {
		return nil
	}
	return m
}

// A validator validates lines by the rules of the API and collects the violations of a line.
type validator struct {
	now        time.Time
	regions    map[string]string // default regions by ID and name of the instance; "" has that of all instances
	zones      map[string]bool   // whether a time zone exists, for those looked up before
	violations []string
}

func newValidator(now time.Time) *validator { return &validator{now: now, zones: map[string]bool{}} }

// validate returns the customer of a line. The error lists every violation.
func (v *validator) validate(l customerLine) (identity.Record, error) {
	v.violations = nil
	r := identity.Record{
		Customer: identity.Customer{
			ID:          v.id(l.ID),
			Email:       v.email(l.Email),
			PhoneNumber: v.phone(l.PhoneNumber),
			FirstName:   v.text("first_name", l.FirstName, 255),
			LastName:    v.text("last_name", l.LastName, 255),
			CompanyName: v.text("company_name", l.CompanyName, 255),
			Locale:      v.locale(l.Locale),
			Timezone:    v.timezone(l.Timezone),
			Metadata:    v.metadata("metadata", l.Metadata),
		},
		FKID:     v.text("fk_id", l.FKID, 255),
		FKUserID: v.text("fk_user_id", l.FKUserID, 255),
		Source:   v.text("source", l.Source, 255),
		Context:  v.text("context", l.Context, 4096),
	}
	for _, i := range l.Identities {
		r.Identities = append(r.Identities, v.identity(i))
	}
	if len(v.violations) > 0 {
		return r, errors.New(strings.Join(v.violations, "; "))
	}
	return r, nil
}

func (v *validator) identity(f identityFields) identity.RecordIdentity {
	i := identity.RecordIdentity{
		Identity: identity.Identity{
			Channel:      strings.TrimSpace(f.Channel),
			DisplayName:  v.text("display_name", f.DisplayName, 255),
			Username:     v.text("username", f.Username, 255),
			RoleOverride: f.RoleOverride,
			Metadata:     v.metadata("identity_metadata", f.Metadata),
			VerifiedAt:   v.pastTime("verified_at", f.VerifiedAt),
		},
		Instance:  strings.TrimSpace(f.Instance),
		AvatarURL: v.url("avatar_url", f.AvatarURL),
		InfoURL:   v.url("info_url", f.InfoURL),
		PageURL:   v.url("page_url", f.PageURL),
	}
	if !identity.ValidChannel(i.Channel) {
		v.addViolation("channel", "must be the name of a channel, such as telegram, sms, slack or whatsapp")
		return i
	}
	external := v.text("external_id", f.ExternalID, identity.MaxExternalID)
	var err error
	region := v.regions[i.Instance]
	if i.ExternalID, err = gateway.NormalizeExternalID(adapters.Channel(i.Channel), external, region); err != nil {
		v.addViolation("external_id", err.Error())
	}
	if i.RoleOverride != "" && i.RoleOverride != identity.RoleOwner {
		v.addViolation("role_override", "must be owner or empty")
	}
	return i
}

// addViolation adds a violation. The message must not contain the value, which may be personal data.
func (v *validator) addViolation(field, message string) {
	v.violations = append(v.violations, field+": "+message)
}

func (v *validator) text(field, s string, limit int) string {
	switch {
	case strings.ContainsRune(s, 0) || !utf8.ValidString(s):
		v.addViolation(field, "contains NUL or invalid characters; the file must be UTF-8")
	case utf8.RuneCountInString(s) > limit:
		v.addViolation(field, fmt.Sprintf("has more than %d characters", limit))
	}
	return s
}

func (v *validator) id(s string) string {
	if s == "" {
		return ""
	}
	id, err := uuid.Parse(s)
	if err != nil || id == uuid.Nil {
		v.addViolation("id", "must be a UUID")
	}
	return id.String()
}

func (v *validator) email(s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return ""
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 254 || strings.ContainsAny(s, "\" \t\x00") || !utf8.ValidString(s) {
		v.addViolation("email", "is not a valid e-mail address")
	}
	return s
}

func (v *validator) phone(s string) string {
	if strings.TrimSpace(s) == "" {
		return ""
	}
	number, err := identity.NormalizePhone(s, v.regions[""])
	if err != nil {
		v.addViolation("phone_number", err.Error())
	}
	return number
}

func (v *validator) locale(s string) string {
	if s == "" {
		return ""
	}
	tag, err := language.Parse(s)
	if err != nil || len(s) > 64 {
		v.addViolation("locale", "must be a BCP 47 tag, such as en-AU")
	}
	return tag.String()
}

func (v *validator) timezone(s string) string {
	if s == "" {
		return ""
	}
	valid, known := v.zones[s]
	if !known {
		_, err := time.LoadLocation(s)
		valid = err == nil && s != "Local" && len(s) <= 64
		v.zones[s] = valid
	}
	if !valid {
		v.addViolation("timezone", "must be an IANA time zone, such as Australia/Sydney")
	}
	return s
}

// maxMetadata is the maximum size of metadata, in bytes.
const maxMetadata = 16 << 10

func (v *validator) metadata(field string, raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var b bytes.Buffer
	if raw[0] != '{' || !utf8.Valid(raw) || json.Compact(&b, raw) != nil || bytes.Contains(raw, []byte(`\u0000`)) {
		v.addViolation(field, "must be a JSON object")
		return nil
	}
	if b.Len() > maxMetadata {
		v.addViolation(field, "has more than 16 KiB")
	}
	return b.Bytes()
}

func (v *validator) pastTime(field, s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.After(v.now) {
		v.addViolation(field, "must be a time in the past, such as 2026-01-31T12:00:00Z")
	}
	return t
}

func (v *validator) url(field, s string) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || len(s) > 2048 {
		v.addViolation(field, "must be an https URL")
	}
	return s
}
