package gateway

import (
	"testing"

	"hydragate/adapters"
)

func TestNormalizeExternalID(t *testing.T) {
	for _, c := range []struct {
		channel     adapters.Channel
		given, want string // want is empty if the ID is invalid
	}{
		{adapters.Telegram, " 12345 ", "12345"},
		{adapters.Telegram, "@steve", ""},
		{adapters.SMS, "61400111222", "+61400111222"},
		{adapters.SMS, "STEVE", ""},
		{adapters.WhatsApp, "whatsapp:+5215512345678", "+525512345678"},
		{adapters.WhatsApp, "0400", ""},
		{adapters.Slack, "t024be7ld:u023becgf", "T024BE7LD:U023BECGF"},
		{adapters.Slack, "U023BECGF", ""},
		{"email", " steve@example.com ", "steve@example.com"},
	} {
		got, err := NormalizeExternalID(c.channel, c.given)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("NormalizeExternalID(%q, %q) = %q, %v, want %q", c.channel, c.given, got, err, c.want)
		}
	}
}

func TestDisplayExternalID(t *testing.T) {
	for channel, want := range map[adapters.Channel]string{
		adapters.SMS: "+5215512345678", adapters.WhatsApp: "+5215512345678", adapters.Telegram: "+525512345678",
		"email": "+525512345678",
	} {
		if got := DisplayExternalID(channel, "+525512345678"); got != want {
			t.Errorf("DisplayExternalID(%q, +525512345678) = %q, want %q", channel, got, want)
		}
	}
}
