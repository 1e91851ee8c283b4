package telegram_test

import (
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/telegram"
)

// TestReceive_Authorship checks whose words a message holds. No message with the words of another may
// redeem a code.
func TestReceive_Authorship(t *testing.T) {
	const steve = `"from":{"id":7,"first_name":"Steve"},`
	const origin = `"forward_origin":{"type":"user","date":1,"sender_user":{"id":8,"first_name":"Eve"}}`
	for name, c := range map[string]struct {
		fields string
		want   adapters.Author
		via    adapters.Via
	}{
		"typed": {steve + `"text":"/claim WDJBMJ"`, "sender", ""},
		"reply to a bot": {
			steve + `"text":"/claim WDJBMJ","reply_to_message":{"message_id":1,"via_bot":{"id":9}}`, "sender", "",
		},
		"quote":   {steve + `"text":"/claim WDJBMJ","quote":{"text":"/claim KLMNPQ"}`, "sender", ""},
		"caption": {steve + `"caption":"/claim WDJBMJ","photo":[{"file_id":"f"}]`, "sender", ""},
		"no forward": {
			steve + `"text":"/claim WDJBMJ","forward_origin":null,"via_bot":null,"is_from_offline":false`, "sender", "",
		},
		"forwarded":         {steve + `"text":"/claim WDJBMJ",` + origin, "other", ""},
		"forwarded caption": {steve + `"caption":"/claim WDJBMJ","photo":[{"file_id":"f"}],` + origin, "other", ""},
		"own words again": {
			steve + `"text":"/claim WDJBMJ","forward_origin":{"type":"user","date":1,"sender_user":{"id":7}}`, "other", "",
		},
		"from a channel": {
			steve + `"text":"x","forward_origin":{"type":"channel","date":1,"chat":{"id":-1001},"message_id":3}`, "other", "",
		},
		"unknown origin":    {steve + `"text":"x","forward_origin":{"type":"brand_new"}`, "other", ""},
		"old server":        {steve + `"text":"x","forward_date":1435000000`, "other", ""},
		"forwarded via bot": {steve + `"text":"x","via_bot":{"id":9,"is_bot":true},` + origin, "other", ""},
		"inline bot":        {steve + `"text":"/claim WDJBMJ","via_bot":{"id":9,"is_bot":true}`, "other", "bot"},
		"bot of a business": {
			steve + `"text":"/claim WDJBMJ","sender_business_bot":{"id":9,"is_bot":true}`, "other", "bot",
		},
		"scheduled":            {steve + `"text":"/claim WDJBMJ","is_from_offline":true`, "other", "automatic"},
		"channel of the group": {`"sender_chat":{"id":-1001},"text":"x","is_automatic_forward":true`, "other", "automatic"},
		"anonymous": {
			`"from":{"id":1087968824,"is_bot":true},"sender_chat":{"id":-1002},"text":"x"`, "unknown", "",
		},
		"anonymous forward": {
			`"from":{"id":1087968824,"is_bot":true},"sender_chat":{"id":-1002},"text":"x",` + origin, "other", "",
		},
		"nobody": {`"text":"x"`, "unknown", ""},
	} {
		for kind, also := range map[string]string{"message": "", "edited_message": `"edit_date":9,`} {
			t.Run(name+" "+kind, func(t *testing.T) {
				body := `{"update_id":1,"` + kind + `":{"message_id":5,` + also +
					`"date":1,"chat":{"id":7,"type":"private"},` + c.fields + `}}`
				in, err := new(
					telegram.Adapter,
				).Receive(requestWithSecrets(secret)(endpoint(), "", []byte(body)), endpoint(), "")
				if err != nil || len(in.Messages) != 1 {
					t.Fatalf("Receive() = %+v, %v, want one message", in.Messages, err)
				}
				m := in.Messages[0]
				if m.WrittenBy() != c.want || m.Via() != c.via {
					t.Errorf("written by %q via %q, want %q via %q", m.WrittenBy(), m.Via(), c.want, c.via)
				}
				if canRedeem(m) != (c.want == adapters.AuthorSender && kind == "message" && m.Kind == adapters.Text) {
					t.Errorf(
						"message by %q of kind %q, %q, may redeem a code: %v",
						m.WrittenBy(),
						m.Kind,
						m.UnprovenReason,
						canRedeem(m),
					)
				}
			})
		}
	}
}
