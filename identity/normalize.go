package identity

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
)

// MaxExternalID is the maximum length of an external ID in characters.
const MaxExternalID = 255

const (
	mexicoCallingCode = 52            // country calling code
	maxNumberLen      = len("+") + 15 // ITU-T E.164, section 6.1; some national plans have longer numbers
)

var (
	channelPattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	slackIDPattern = regexp.MustCompile(`^[TE][A-Z0-9]{2,20}:[UW][A-Z0-9]{2,20}$`)
)

// ValidChannel reports whether name is a valid channel name.
func ValidChannel(name string) bool { return channelPattern.MatchString(name) }

// A Format is a format of external IDs. The empty format is any printable text.
type Format string

// The formats of external IDs. The values equal those of adapters.IDFormat.
const (
	PhoneFormat    Format = "phone"     // E.164, such as +61400111222
	NumericFormat  Format = "numeric"   // a positive integer, such as 12345
	TeamUserFormat Format = "team_user" // a team and a user, such as T024BE7LD:U023BECGF
)

// Normalize returns the canonical form of an external ID, under which it is stored and looked
// up. A phone number becomes E.164, without the mobile prefix that WhatsApp still shows in
// Mexican numbers; the team and user of a TeamUserFormat become upper case. In every format
// surrounding white space is removed. The error describes the valid form.
func Normalize(format Format, externalID string) (string, error) {
	id := strings.TrimSpace(externalID)
	switch format {
	case PhoneFormat:
		return parsePhone(strings.TrimPrefix(id, "whatsapp:"))
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

// NormalizePhone returns a phone number in E.164. It returns an error that states the expected
// form if the number is invalid or lacks its country code.
func NormalizePhone(number string) (string, error) { return parsePhone(strings.TrimSpace(number)) }

func parsePhone(s string) (string, error) {
	// An unescaped "+" in a query string is decoded as a space, which was trimmed.
	if s != "" && s[0] >= '0' && s[0] <= '9' {
		s = "+" + s
	}
	number, ok := formatE164(s)
	// A number that changes when it is formatted and parsed again is not valid: once stored, it
	// could not be found.
	if again, same := formatE164(number); !ok || !same || again != number {
		return "", errors.New("a phone number is written with its country code, such as +61400111222")
	}
	return number, nil
}

func formatE164(s string) (number string, ok bool) {
	n, err := phonenumbers.Parse(s, "ZZ")
	if err != nil {
		return "", false
	}
	stripMexicanMobilePrefix(n)
	number = phonenumbers.Format(n, phonenumbers.E164)
	return number, phonenumbers.IsPossibleNumber(n) && len(number) <= maxNumberLen
}

// stripMexicanMobilePrefix removes from a Mexican number the 1 that mobile numbers had until 2019,
// and which WhatsApp still shows.
func stripMexicanMobilePrefix(n *phonenumbers.PhoneNumber) {
	const ten, one = 1_000_000_000, 10_000_000_000 // the smallest number of ten digits, and the prefix
	if n.GetCountryCode() == mexicoCallingCode && n.GetNationalNumber() >= one+ten && n.GetNationalNumber() < 2*one {
		*n.NationalNumber -= one
	}
}

// DisplayForm returns the other form in which a provider may send a normalized external ID, as
// in the IDs of chats: a Mexican number with its former mobile prefix. For most IDs it is the
// same as externalID.
func DisplayForm(format Format, externalID string) string {
	national, isMexican := strings.CutPrefix(externalID, "+52")
	if format != PhoneFormat || !isMexican || len(national) != 10 || national[0] == '0' {
		return externalID
	}
	return "+521" + national
}
