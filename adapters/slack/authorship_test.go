package slack_test

import (
	"fmt"
	"testing"

	"hydragate/adapters"
)

// TestReceive_Authorship checks whose words a message holds, in the direct conversation with the bot
// and in a channel. An empty author means that there is no message of a person.
func TestReceive_Authorship(t *testing.T) {
	const person = `"user":"U061F7AUR","text":"claim WDJBMJ"`
	share := func(fields string) string { return person + `,"attachments":[{` + fields + `}]` }
	for name, c := range map[string]struct {
		fields          string
		direct, channel adapters.Author
		reason          adapters.UnprovenReason
		text            string
	}{
		"typed": {person + `,"client_msg_id":"c1"`, "sender", "sender", "", "claim WDJBMJ"},
		"empty app fields": {
			person + `,"app_id":"","bot_id":"","bot_profile":null`, "sender", "sender", "", "claim WDJBMJ",
		},
		"app with the token": {person + `,"app_id":"A0OTHER001"`, "other", "other", "via_app", "claim WDJBMJ"},
		"app and bot": {
			person + `,"app_id":"A0OTHER001","bot_id":"B0OTHER01","bot_profile":{"name":"Relay"}`,
			"other", "", "via_app", "claim WDJBMJ",
		},
		"bot alone":      {person + `,"bot_id":"B0OTHER01"`, "other", "", "via_app", "claim WDJBMJ"},
		"bot profile":    {person + `,"bot_profile":{"id":"B0OTHER01"}`, "other", "other", "via_app", "claim WDJBMJ"},
		"own bot":        {person + `,"bot_id":"B0LAN0Z90"`, "", "", "", ""},
		"own bot's user": {`"user":"` + botUserID + `","text":"hi","app_id":"` + appID + `"`, "", "", "", ""},
		"integration":    {person + `,"subtype":"bot_message","bot_id":"B0OTHER01"`, "", "", "", ""},
		"shared with a comment": {
			share(`"is_share":true,"is_msg_unfurl":true,"author_id":"U9","text":"a &lt; b <https://x.example|x>"`),
			"other", "other", "forwarded", "claim WDJBMJ\n@U9: a < b x (https://x.example)",
		},
		"shared alone": {
			`"user":"U061F7AUR","text":"","attachments":[{"is_share":true,"text":"claim WDJBMJ"}]`,
			"other", "other", "forwarded", "claim WDJBMJ",
		},
		"shared with a fallback": {
			`"user":"U061F7AUR","text":"","attachments":[7,{"is_share":true,"text":" ","fallback":"[no preview]"}]`,
			"other", "other", "forwarded", "[no preview]",
		},
		"shared by an app": {
			share(`"is_share":true,"text":"x"`) + `,"app_id":"A0OTHER001"`, "other", "other", "via_app", "claim WDJBMJ\nx",
		},
		"preview of a link": {share(`"is_msg_unfurl":true,"text":"x"`), "sender", "sender", "", "claim WDJBMJ"},
		"odd attachments":   {person + `,"attachments":{"is_share":true}`, "sender", "sender", "", "claim WDJBMJ"},
		"odd share":         {share(`"is_share":"true","text":"x"`), "sender", "sender", "", "claim WDJBMJ"},
		"preview and its share": {
			share(`"text":"y"},{"is_share":true,"text":"x"`), "other", "other", "forwarded", "claim WDJBMJ\nx",
		},
	} {
		for chat, want := range map[string]adapters.Author{
			`"channel":"D0LAN2Q65","channel_type":"im"`:      c.direct,
			`"channel":"C0GENERAL","channel_type":"channel"`: c.channel,
		} {
			t.Run(name+" "+chat[11:12], func(t *testing.T) {
				body := fmt.Sprintf(
					`{"type":"event_callback","event_id":"Ev1","team_id":%q,"authorizations":[{"team_id":%q}],
					"event":{"type":"message","ts":"1.1",%s,%s}}`,
					teamID,
					teamID,
					chat,
					c.fields,
				)
				in, err := receive(t, endpoint(), "events", []byte(body))
				m := singleMessage(t, in, err)
				if want == "" {
					if m.Kind != adapters.Unsupported {
						t.Errorf("message = %+v, want none of a person", m)
					}
					return
				}
				if m.WrittenBy() != want || m.UnprovenReason != c.reason || m.Text != c.text {
					t.Errorf("%q by %q, unproven %q, want %q by %q, unproven %q",
						m.Text, m.WrittenBy(), m.UnprovenReason, c.text, want, c.reason)
				}
			})
		}
	}
}
