package sms

import (
	"errors"
	"strings"
	"testing"

	"hydragate/adapters"
)

func TestParseSender(t *testing.T) {
	const short, name, none = adapters.UnprovenShortCode, adapters.UnprovenAlphanumeric, adapters.UnprovenReason("")
	const other, anonymous = adapters.UnprovenOtherChannel, adapters.UnprovenAnonymous
	for _, c := range []struct {
		ch       adapters.Channel
		from, id string // an empty id if Twilio sends no such sender
		unproven adapters.UnprovenReason
	}{
		{adapters.SMS, "+1234567", "+1234567", none},
		{adapters.SMS, "+123456", "", none},
		{adapters.SMS, "+123456789012345", "+123456789012345", none},
		{adapters.SMS, "+1234567890123456", "", none},
		{adapters.SMS, "+0123456789", "", none},
		{adapters.SMS, "12", "12", name},
		{adapters.SMS, "123", "123", short},
		{adapters.SMS, "12345678", "12345678", short},
		{adapters.SMS, "123456789", "123456789", name},
		{adapters.SMS, "A", "A", name},
		{adapters.SMS, "azAZ09 _&.+-x", "azAZ09 _&.+-x", name},
		{adapters.SMS, "123456789abcdef", "123456789abcdef", name},
		{adapters.SMS, "123456789abcdefg", "", none},
		{adapters.SMS, "+266696687", "+266696687", anonymous},
		{adapters.SMS, "rcs:+14155550101", "+14155550101", none},
		{adapters.SMS, "rcs:72975", "rcs:72975", other},
		{adapters.SMS, "whatsapp:+14155550101", "whatsapp:+14155550101", other},
		{adapters.SMS, "messenger:2846137352", "messenger:2846137352", other},
		{adapters.SMS, "sip:alice", "sip:alice", other},
		{adapters.SMS, "sip:alice smith", "", none},
		{adapters.SMS, "sip:" + strings.Repeat("9", 129), "", none},
		{adapters.SMS, "sip:", "", none},
		{adapters.SMS, "Sip:alice", "", none},
		{adapters.SMS, "9a:alice", "", none},
		{adapters.WhatsApp, "whatsapp:+14155550101", "+14155550101", none},
		{adapters.WhatsApp, "whatsapp:US." + strings.Repeat("9", 128), "US." + strings.Repeat("9", 128), none},
		{adapters.WhatsApp, "whatsapp:US." + strings.Repeat("9", 129), "", none},
		{adapters.WhatsApp, "whatsapp:US.ENT.1", "US.ENT.1", none},
		{adapters.WhatsApp, "whatsapp:US.", "", none},
		{adapters.WhatsApp, "whatsapp:72975", "", none},
		{adapters.WhatsApp, "+14155550101", "sms:+14155550101", other},
		{adapters.WhatsApp, "instagram:17841400", "instagram:17841400", other},
	} {
		id, unproven, ok := Adapter{Name: c.ch}.parseSender(c.from)
		if id != c.id || unproven != c.unproven || ok != (c.id != "") {
			t.Errorf("parseSender(%q) on %s = %q, %q, %v, want %q, %q", c.from, c.ch, id, unproven, ok, c.id, c.unproven)
		}
	}
}

func TestSIDs(t *testing.T) {
	hex := func(c string) string { return strings.Repeat(c, 32) }
	for sid, want := range map[string]struct{ strict, resource bool }{
		"SM" + hex("0"): {true, true}, "SM" + hex("9"): {true, true}, "SM" + hex("a"): {true, true},
		"SM" + hex("f"): {true, true}, "SM" + hex("A"): {true, true}, "SM" + hex("F"): {true, true},
		"MM" + hex("0"): {true, true}, "SM" + hex("g"): {false, true}, "SM" + hex("G"): {false, true},
		"SM" + hex("/"): {}, "SM" + hex(":"): {}, "SM" + hex("`"): {}, "SM" + hex("@"): {},
		"SM" + hex("z"): {false, true}, "SM" + hex("Z"): {false, true}, "SM" + hex("{"): {}, "SM" + hex("["): {},
		"SM": {}, "SM1": {false, true}, "SM" + strings.Repeat("1", 62): {false, true}, "SM" + strings.Repeat("1", 63): {},
		"CA" + hex("0"): {},
	} {
		if strict, resource := isMessageSID(sid), isSentMessageID(sid); strict != want.strict || resource != want.resource {
			t.Errorf("%q is a SID: %v, an ID: %v, want %v", sid, strict, resource, want)
		}
	}
}

func TestParseCoordinate(t *testing.T) {
	for s, want := range map[string]bool{
		"90": true, "-90": true, "0": true, "48.1": true, "90.1": false, "-90.1": false, "NaN": false, "Inf": false,
		"": false, "north": false,
	} {
		if _, ok := parseCoordinate(s, 90); ok != want {
			t.Errorf("parseCoordinate(%q, 90) is valid: %v, want %v", s, ok, want)
		}
	}
}

func TestParseReceipts_ErrorCode(t *testing.T) {
	for code, want := range map[string]string{"30003": "30003", "1234567890": "1234567890", "12345678901": "", "x": ""} {
		form := map[string][]string{"MessageSid": {"SM1"}, "MessageStatus": {"failed"}, "ErrorCode": {code}}
		if rs := parseReceipts(form); len(rs) != 1 || rs[0].Code != want {
			t.Errorf("receipts of code %q = %+v, want code %q", code, rs, want)
		}
	}
}

func TestNewSendError_Code(t *testing.T) {
	for want, err := range map[string]*apiError{"21211": {status: 400, code: 21211}, "503": {status: 503}} {
		if got := newSendError(err).Code; got != want {
			t.Errorf("code of %+v = %q, want %q", err, got, want)
		}
	}
}

// TestReceive_OtherChannel checks that staff learn of messages from channels that are not supported.
func TestReceive_OtherChannel(t *testing.T) {
	for from, want := range map[string]string{
		steve: "", "rcs:" + steve: "", "messenger:2846137352": "messenger", "instagram:17841400": "instagram",
	} {
		in, err := receiveForm(endpoint(adapters.SMS), testForm("Body", "hi", "From", from))
		if err != nil || len(in.Messages) != 1 || (len(in.Notices) == 1) != (want != "") {
			t.Errorf("Receive from %s = %+v, %v", from, in, err)
			continue
		}
		if want != "" && !strings.Contains(in.Notices[0].Detail, "messages from "+want+" ") {
			t.Errorf("notice = %+v, want one about %s", in.Notices, want)
		}
	}
}

// Webhooks of other products of Twilio, such as calls, have no valid MessageSid.
func TestReceive_OtherProducts(t *testing.T) {
	for _, sid := range []string{
		"", "CA00000000000000000000000000000001", "SM1", "SM0000000000000000000000000000000g",
	} {
		_, err := receiveForm(endpoint(adapters.SMS), testForm("MessageSid", sid))
		if !errors.Is(err, adapters.ErrMalformed) {
			t.Errorf("Receive of MessageSid %q = %v, want ErrMalformed", sid, err)
		}
	}
}
