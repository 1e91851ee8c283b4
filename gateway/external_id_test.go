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
		{adapters.SMS, "+61400111222", "+61400111222"},
		{adapters.SMS, "61400111222", ""},
		{adapters.SMS, "US.13491208655302741918", ""},
		{adapters.WhatsApp, "US.13491208655302741918", "US.13491208655302741918"},
		{adapters.SMS, "STEVE", ""},
		{adapters.WhatsApp, "whatsapp:+5215512345678", "+525512345678"},
		{adapters.WhatsApp, "0400", ""},
		{adapters.Slack, "t024be7ld:u023becgf", "T024BE7LD:U023BECGF"},
		{adapters.Slack, "U023BECGF", ""},
		{"email", " steve@example.com ", "steve@example.com"},
	} {
		got, err := NormalizeExternalID(c.channel, c.given, "")
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

func TestNormalizeSender(t *testing.T) {
	for _, c := range []struct {
		channel  adapters.Channel
		id, want string
	}{
		{adapters.WhatsApp, "+5215512345678", "+525512345678"},
		{adapters.WhatsApp, "+553187654321", "+5531987654321"},
		{adapters.SMS, "+5491123456789", "+541123456789"},
		{adapters.WhatsApp, "US.13491208655302741918", "US.13491208655302741918"},
		{adapters.SMS, "72975", "72975"},
		{adapters.SMS, "Acme", "Acme"},
		{adapters.SMS, "messenger:2846137352", "messenger:2846137352"},
		{adapters.SMS, "", ""},
		{adapters.Telegram, "12345", "12345"},
	} {
		s := adapters.Sender{ID: c.id, Name: "Steve"}
		if got := NormalizeSender(c.channel, s); got.ID != c.want || got.Name != s.Name {
			t.Errorf("NormalizeSender(%q, %q) = %+v, want the ID %q", c.channel, c.id, got, c.want)
		}
	}
}
