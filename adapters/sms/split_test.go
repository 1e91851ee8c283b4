package sms

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"hydragate/adapters"
)

// However a captured text is split into fields, it does not become a message of another sender. If
// its sender has no provable identity, it at least does not become a further message.
func TestReceive_AmbiguousSplit(t *testing.T) {
	const genuineSID, forgedSID = "SM00000000000000000000000000000001", "SM0000000000000000000000000000000f"
	for sender, from := range map[string]string{
		"phone": steve, "WhatsApp": "whatsapp:" + steve, "scoped ID": "whatsapp:US.abc123", "withheld": "+266696687",
		"short code": "72975", "name": "ACME Shop", "word": "Acme",
	} {
		rest := "FromCitySAN FRANCISCOMessageSid" + genuineSID + "NumMedia0To" + testNumber
		with := func(pairs ...string) url.Values {
			f := url.Values{
				"AccountSid": {testAccountSID}, "Body": {"/claim WDJBMJ"}, "From": {"+14155550199"}, "To": {testNumber},
			}
			for i := 0; i < len(pairs); i += 2 {
				f.Set(pairs[i], pairs[i+1])
			}
			return f
		}
		genuine := []string{"FromCity", "SAN FRANCISCO", "MessageSid", genuineSID, "NumMedia", "0"}
		forgeries := map[string]url.Values{
			"rest in new field":        with("MessageSid", forgedSID, "Z", "From"+from+rest),
			"From split in two":        with("MessageSid", forgedSID, "Z", "F", "rom", from+rest),
			"unknown field after From": with("MessageSid", forgedSID, "Z", "From"+from+"GadgetxMessageSid"+genuineSID),
			"new From field after From": with("MessageSid", forgedSID, "N", "From"+from+"FromCarrierxMessageSid"+genuineSID,
				"NumMedia", "0"),
			"field name ends in MessageSid": with("MessageSid", forgedSID, "N", "From"+from+"FromZip94105",
				"N1MessageSid", genuineSID, "NumMedia", "0"),
			"second name of the SID": with("MessageSid", forgedSID, "N", "From"+from, "SmsMessageSid", genuineSID),
		}
		if strings.Contains(from, "+") || strings.Contains(from, ":") {
			forgeries["sender in new field"] = with(append(genuine, "FromA", "xFrom"+from)...)
			forgeries["field name ends in From"] = with(append(genuine, "FromAFrom", from)...)
			forgeries["field name ends in Fr"] = with(append(genuine, "FromAFr", "om"+from)...)
			forgeries["new field after From"] = with(append(genuine, "FromA", "xFrom"+from+"FromCarrierx")...)
		}
		for name, forged := range forgeries {
			t.Run(sender+"/"+name, func(t *testing.T) {
				_, err := receiveForm(endpoint(adapters.SMS), forged.Encode())
				if !errors.Is(err, adapters.ErrForged) {
					t.Errorf("Receive = %v, want ErrForged", err)
				}
			})
		}
	}
}

// Texts, places, names and parameters that contain the names of parameters are no other split.
func TestReceive_LooksSplit(t *testing.T) {
	const otherSID = "SM0000000000000000000000000000000f"
	location := []string{"Latitude", "48.1", "Longitude", "11.5"}
	for _, pairs := range [][]string{
		{"Body", "FromLabel x"},
		{"Body", "FromMessageSid"},
		{"Body", "call me From+14155559999"},
		{"Body", "From+14155559999 to you"},
		{"Body", "MessageSid" + otherSID[:20]},
		{"Body", "FromACMEFromCity"},
		{"Body", "From+14155559999From, as he says"},
		{"Body", "From72975Interactive"},
		append([]string{"Label", "Fromagerie Dupont"}, location...),
		append([]string{"Label", "From A to B"}, location...),
		append([]string{"Address", "Fromelles"}, location...),
		{"FromCity", "Frome"},
		{"FromCity", "Frombork", "FromState", "From", "FromZip", "From1"},
		{"FromCarrier", "Vodafone", "FromCity", "Frome"},
		{"FromZone", "x"},
		{"From2", "y"},
		{"FromRegion", ""},
		{"ProfileName", "Fromm"},
		{"ListTitle", "Fromage", "ListId", "From"},
		{"ButtonText", "From me", "ButtonPayload", "From"},
		{"OriginalRepliedMessageSid", otherSID},
		{"ParentMessageSid", otherSID, "ReferralMessageSid", "MM0000000000000000000000000000000e"},
		{"FromMessageSid", otherSID},
		{"SmsMessageSid", "SM00000000000000000000000000000001", "SmsSid", "SM00000000000000000000000000000001"},
	} {
		for _, ch := range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
			t.Run(string(ch)+"/"+strings.Join(pairs, " "), func(t *testing.T) {
				a := Adapter{Name: ch}
				form := testForm(append(pairs, "From", a.twilioAddress(steve), "To", a.twilioAddress(testNumber))...)
				in, err := a.Receive(newRequest(testAuthToken, testWebhookURL, form), endpoint(ch), "")
				if err != nil || in.Messages[0].Sender.ID != steve || in.Messages[0].UnprovenReason != "" {
					t.Errorf("Receive = %+v, %v, want a message proven to be of %s", in.Messages, err, steve)
				}
			})
		}
	}
}

// Texts that mention senders and SIDs are accepted unless they allow an ambiguous split.
func TestReceive_TextMentionsSender(t *testing.T) {
	for text, want := range map[string]error{
		"From now on":                nil,
		"I come From":                nil,
		"From":                       nil,
		"From+14155550199 hi":        nil,
		"From: +14155550199":         nil,
		"MessageSid: SM0123":         nil,
		"From+14155550199MessageSid": adapters.ErrForged,
	} {
		for _, from := range []string{steve, "+4912345678", "+1234567"} {
			_, err := receiveForm(endpoint(adapters.SMS), testForm("Body", text, "From", from, "FromCity", ""))
			if !errors.Is(err, want) {
				t.Errorf("Receive of %q from %s = %v, want %v", text, from, err, want)
			}
		}
	}
}

// WhatsApp's IDs of a person count only if nothing else that Twilio signed contains their names, so that a
// captured text that is split into other fields does not name another person.
func TestReceive_UserIDs(t *testing.T) {
	const own, victim = "US.111", "US.222"
	for _, c := range []struct {
		pairs []string
		want  string
	}{
		{[]string{"ExternalUserId", own, "ParentExternalUserId", "US.ENT.3"}, own + " US.ENT.3"},
		{[]string{"ParentExternalUserId", "US.ENT.3"}, "US.ENT.3"},
		{[]string{"ExternalUserId", own, "ProfileName", "External"}, own},
		{[]string{"ExternalUserId", ""}, ""},
		{[]string{"Body", "My ExternalUserId is " + victim, "ExternalUserId", own}, ""},
		{[]string{"Body", "hi ", "ExternalUserId", victim, "F", "ExternalUserId" + own}, ""},
		{[]string{"Body", "hi ", "ExternalUserId", victim, "FExternalUserId", own}, ""},
		{[]string{"Body", "hi ", "ExternalUserId", victim, "FExternal", "UserId" + own}, ""},
		{[]string{"ParentExternalUserId", "US.ENT.9", "ParentX", "ParentExternalUserIdUS.ENT.3"}, ""},
	} {
		a := Adapter{Name: adapters.WhatsApp}
		form := testForm(append(c.pairs, "From", a.twilioAddress(steve), "To", a.twilioAddress(testNumber))...)
		in, err := a.Receive(newRequest(testAuthToken, testWebhookURL, form), endpoint(adapters.WhatsApp), "")
		if err != nil {
			t.Errorf("Receive of %q = %v", c.pairs, err)
			continue
		}
		if got := strings.Join(in.Messages[0].Sender.Aliases, " "); got != c.want {
			t.Errorf("aliases of %q = %q, want %q", c.pairs, got, c.want)
		}
	}
}
