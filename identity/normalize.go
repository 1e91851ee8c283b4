package identity

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
)

// MaxExternalID is the maximum length of an external ID in characters.
const MaxExternalID = 255

const maxNumberLen = len("+") + 15 // ITU-T E.164, section 6.1; some national plans have longer numbers

var (
	channelPattern    = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	whatsAppIDPattern = regexp.MustCompile(`^[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}$`)
	slackIDPattern    = regexp.MustCompile(`^[TE][A-Z0-9]{2,20}:[UW][A-Z0-9]{2,20}$`)
)

// ValidChannel reports whether name is a valid channel name.
func ValidChannel(name string) bool { return channelPattern.MatchString(name) }

// A Format is a format of external IDs. The empty format is any printable text.
type Format string

// The formats of external IDs. The values equal those of adapters.IDFormat.
const (
	PhoneFormat       Format = "phone"         // E.164, such as +61400111222
	PhoneOrUserFormat Format = "phone_or_user" // E.164, or a user of WhatsApp without a number, such as US.1349120865
	NumericFormat     Format = "numeric"       // a positive integer, such as 12345
	TeamUserFormat    Format = "team_user"     // a team and a user, such as T024BE7LD:U023BECGF
)

// Normalize returns the canonical form of an external ID, under which it is stored and looked
// up. A phone number becomes E.164 in the form of numberForms; the team and user of a TeamUserFormat
// become upper case. In every format surrounding white space is removed. The error describes the valid
// form. region is the country, such as US, of a phone number without its country code. If it is empty,
// such a number is invalid.
func Normalize(format Format, externalID, region string) (string, error) {
	id := strings.TrimSpace(externalID)
	switch format {
	case PhoneFormat:
		return NormalizePhone(strings.TrimPrefix(id, "whatsapp:"), region)
	case PhoneOrUserFormat:
		id = strings.TrimPrefix(id, "whatsapp:")
		if country, user, found := strings.Cut(id, "."); found &&
			whatsAppIDPattern.MatchString(strings.ToUpper(country)+"."+user) {
			return strings.ToUpper(country) + "." + user, nil
		}
		return NormalizePhone(id, region)
	case NumericFormat:
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil || n <= 0 || strconv.FormatInt(n, 10) != id {
			return "", errors.New("on this channel, an external_id is a number, such as 12345")
		}
		return id, nil
	case TeamUserFormat:
		id = strings.ToUpper(id)
		if !slackIDPattern.MatchString(id) {
			return "", errors.New("on this channel, an external_id is a workspace and a user, such as T024BE7LD:U023BECGF")
		}
		return id, nil
	}
	if id == "" || !utf8.ValidString(id) || strings.ContainsFunc(id, isUnprintable) {
		return "", errors.New("an external_id contains only visible characters and spaces")
	}
	return id, nil
}

// isUnprintable reports whether r is neither visible nor a space, such as a mark that reverses the
// direction of writing. Two IDs that differ in such characters would look equal.
func isUnprintable(r rune) bool { return !unicode.IsPrint(r) }

// NormalizePhone returns a phone number in E.164, in the form of numberForms. A number without its
// country code is one of region. The error says what is missing or wrong.
func NormalizePhone(number, region string) (string, error) {
	s := CleanPhone(number)
	if region == "" && strings.IndexFunc(s, unicode.IsDigit) == 0 {
		return "", errors.New("the country code is missing: a phone number is written with + and its country code, " +
			"such as +61400111222")
	}
	stored, ok := formatE164(s, region)
	// A number that changes when it is formatted and parsed again is not valid: once stored, it
	// could not be found.
	if again, same := formatE164(stored, ""); !ok || !same || again != stored {
		return "", impossibleNumber(s, region)
	}
	return stored, nil
}

// NormalizeRegion returns a country, such as US, in upper case. The error says what is valid.
func NormalizeRegion(region string) (string, error) {
	region = strings.ToUpper(strings.TrimSpace(region))
	if phonenumbers.GetCountryCodeForRegion(region) == 0 {
		return "", errors.New("a region is a country as two letters, such as US")
	}
	return region, nil
}

// impossibleNumber returns the error for a number that does not exist in its country.
func impossibleNumber(s, region string) error {
	n, err := phonenumbers.Parse(s, cmp.Or(region, unknownRegion))
	if err != nil {
		return errors.New("not a phone number: one is written with its country code, such as +61400111222")
	}
	return fmt.Errorf("not a possible number in +%d: check the digits", n.GetCountryCode())
}

// CleanPhone returns a number as people type and paste it without spaces of any width, marks of the
// direction of text and other invisible characters, and punctuation.
func CleanPhone(number string) string {
	number = strings.TrimPrefix(strings.TrimSpace(number), "tel:")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '＋':
			return '+'
		case unicode.IsSpace(r), unicode.In(r, unicode.Cf, unicode.Pd), strings.ContainsRune("()./·−", r):
			return -1
		}
		return r
	}, number)
}

// unknownRegion stands for no region in libphonenumber: a number must then have its country code.
const unknownRegion = "ZZ"

func formatE164(s, region string) (number string, ok bool) {
	n, err := phonenumbers.Parse(s, cmp.Or(region, unknownRegion))
	if err != nil {
		return "", false
	}
	number = storedForm(n)
	if n, err = phonenumbers.Parse(number, unknownRegion); err != nil {
		return "", false
	}
	return number, phonenumbers.IsPossibleNumber(n) && len(number) <= maxNumberLen
}

// DisplayForm returns the other form in which a provider may send a normalized external ID, as
// in the IDs of chats: that of numberForms. For most IDs it is the same as externalID.
func DisplayForm(format Format, externalID string) string {
	if format != PhoneFormat && format != PhoneOrUserFormat {
		return externalID
	}
	return otherForm(externalID)
}
