//go:build unix

package cases

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"hydragate/e2e/harness"
)

// The constants that stand for values of the sender in the files of cases.
const (
	telegramID    = "712345678"      // ID of the user and of the private chat
	telegramGroup = "-1001987654321" // ID of a supergroup
	phoneNumber   = "+14155550123"
	whatsAppUser  = "US.13491208655302741918" // WhatsApp's ID of the account with the phone number
	parentUser    = "US.ENT.11815799212886844830"
	slackUser     = "U0STEVE"
	slackDirect   = "D0STEVE" // direct conversation with the app
	claimCode     = "WDJBMJ"  // live code of a linked sender
)

// A persona is the sender of one case.
type persona struct {
	number     int
	externalID string
	names      map[string]string // value by constant, without the code and the direct conversation
}

func newPersona(channel string, n int) persona {
	p := persona{number: n, names: map[string]string{
		telegramID:    strconv.Itoa(712_400_000 + n),
		telegramGroup: "-100" + strconv.Itoa(1_900_000_000+n),
		phoneNumber:   fmt.Sprintf("+1415552%04d", n),
		whatsAppUser:  fmt.Sprintf("US.13491%06d", n),
		parentUser:    fmt.Sprintf("US.ENT.11815%06d", n),
		slackUser:     fmt.Sprintf("U9%05dX", n),
	}}
	switch channel {
	case "telegram":
		p.externalID = p.names[telegramID]
	case "slack":
		p.externalID = harness.SlackTeamID + ":" + p.names[slackUser]
	default:
		p.externalID = p.names[phoneNumber]
	}
	return p
}

// replace replaces the constants in the file of a case.
func (p persona) replace(file []byte) []byte {
	for constant, value := range p.names {
		file = bytes.ReplaceAll(file, []byte(constant), []byte(value))
		file = bytes.ReplaceAll(file, []byte(strings.TrimPrefix(constant, "+")), []byte(strings.TrimPrefix(value, "+")))
	}
	return file
}

// mentions reports whether a text contains a value of the sender.
func (p persona) mentions(text string) bool {
	for _, value := range p.names {
		if strings.Contains(text, strings.TrimPrefix(value, "+")) {
			return true
		}
	}
	return false
}
