package slack_test

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
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

func TestReceive_ActorTeam(t *testing.T) {
	said := func(envelope, event string) string {
		return `{"type":"event_callback","event_id":"Ev1",` + envelope +
			`,"event":{"channel":"C1","user":"U1","text":"hi","ts":"1.1",` + event + `}}`
	}
	const here = `"team_id":"T1","authorizations":[{"team_id":"T1"}]`
	const shared = here + `,"is_ext_shared_channel":true`
	for name, c := range map[string]struct {
		body, id string
		unproven adapters.UnprovenReason
	}{
		"plain":                  {said(here, `"type":"message","team":"T1"`), "T1:U1", ""},
		"plain other team named": {said(here, `"type":"message","team":"T9"`), "T1:U1", ""},
		"plain own teams named":  {said(here, `"type":"message","user_team":"T1","source_team":"T1"`), "T1:U1", ""},
		"plain foreign user":     {said(here, `"type":"message","user_team":"T9"`), "T9:U1", "external"},
		"plain foreign source":   {said(here, `"type":"message","source_team":"T9"`), "T9:U1", "external"},
		"plain foreign mention":  {said(here, `"type":"app_mention","team":"T1","user_team":"T9"`), "T9:U1", "external"},
		"own user elsewhere":     {said(here, `"type":"message","user_team":"T1","source_team":"T9"`), "T1:U1", "external"},
		"plain foreign grid":     {said(here, `"type":"message","user_team":"E9"`), "", "external"},
		"plain own grid":         {said(here+`,"enterprise_id":"E1"`, `"type":"message","user_team":"E1"`), "T1:U1", ""},
		"plain own grid by authorization": {
			said(`"team_id":"T1","authorizations":[{"team_id":"T1","enterprise_id":"E1"}]`,
				`"type":"message","user_team":"E1","source_team":"T1"`), "T1:U1", "",
		},
		"own team of organization": {
			said(`"team_id":"T1","authorizations":[{"team_id":null,"enterprise_id":"E1"}]`,
				`"type":"message","user_team":"E1","source_team":"T1"`), "E1:U1", "",
		},
		"own organization": {
			said(`"team_id":"T1","authorizations":[{"team_id":null,"enterprise_id":"E1"}]`,
				`"type":"message","team":"T1"`), "E1:U1", "",
		},
		"second team of organization": {
			said(`"team_id":"T2","authorizations":[{"team_id":null,"enterprise_id":"E1"}]`,
				`"type":"message","team":"T2","user_team":"T2","source_team":"T2"`), "E1:U1", "",
		},
		"home in another team of organization": {
			said(`"team_id":"T2","enterprise_id":"E1","authorizations":[{"team_id":"T2","enterprise_id":"E1"}]`,
				`"type":"message","user":"W1","user_team":"T3"`), "E1:W1", "",
		},
		"home in another team": {
			said(`"team_id":"T1","authorizations":[{"team_id":"T1","enterprise_id":"E1"}]`,
				`"type":"message","user":"W1","user_team":"T3"`), "T1:W1", "",
		},
		"user of another grid": {
			said(`"team_id":"T1","authorizations":[{"team_id":"T1","enterprise_id":"E1"}],"is_ext_shared_channel":true`,
				`"type":"message","user":"W1","user_team":"T3"`), "T3:W1", "external",
		},
		"user of a grid without one": {said(here, `"type":"message","user":"W1","user_team":"T3"`), "T3:W1", "external"},
		"other team of organization": {
			said(`"team_id":"T1","authorizations":[{"team_id":null,"enterprise_id":"E1"}]`,
				`"type":"message","user_team":"T9"`), "T9:U1", "external",
		},
		"foreign edit": {
			said(here, `"type":"message","subtype":"message_changed","message":{"user":"U1","text":"x","ts":"1.1",
				"user_team":"T9","edited":{"ts":"2.1"}}`), "T9:U1", "external",
		},
		"own":                 {said(shared, `"type":"message","team":"T1"`), "T1:U1", ""},
		"own user in foreign": {said(shared, `"type":"message","user_team":"T1","source_team":"T9"`), "T1:U1", "external"},
		"foreign":             {said(shared, `"type":"message","team":"T9","user_team":"T9"`), "T9:U1", "external"},
		"foreign delivered": {
			said(`"team_id":"T9","context_team_id":"T1","authorizations":[{"team_id":"T1"}],
				"is_ext_shared_channel":true`, `"type":"message","user_team":"T9"`),
			"T9:U1", "external",
		},
		"foreign mention":          {said(shared, `"type":"app_mention","user_team":"T9"`), "T9:U1", "external"},
		"foreign grid mention":     {said(shared, `"type":"app_mention","user_team":"E9"`), "", "external"},
		"foreign grid in our team": {said(shared, `"type":"message","user_team":"E9","team":"T1"`), "", "external"},
		"own grid":                 {said(shared+`,"enterprise_id":"E1"`, `"type":"message","user_team":"E1"`), "T1:U1", ""},
		"context grid": {
			said(shared+`,"context_enterprise_id":"E2","context_team_id":"T2"`, `"type":"message","user_team":"E2"`),
			"T2:U1", "external",
		},
		"own grid without authorizations": {
			said(`"team_id":"T1","enterprise_id":"E1","is_ext_shared_channel":true`, `"type":"message","user_team":"E1"`),
			"T1:U1", "",
		},
		"no team": {said(shared, `"type":"message"`), "", "external"},
		"no team of organization": {
			said(`"team_id":"T9","authorizations":[{"team_id":null,"enterprise_id":"E1"}],
				"is_ext_shared_channel":true`, `"type":"message","team":"T9"`),
			"T9:U1", "external",
		},
	} {
		ep := endpoint()
		ep.Address = "T1"
		if strings.Contains(name, "organization") {
			ep.Address = "E1"
		}
		in, err := receive(t, ep, "events", []byte(c.body))
		if m := singleMessage(t, in, err); m.Sender.ID != c.id || m.UnprovenReason != c.unproven {
			t.Errorf("%s: %q, %q, want %q, %q", name, m.Sender.ID, m.UnprovenReason, c.id, c.unproven)
		}
	}
}

// TestReceive_ActorTeamOfOrganization checks the sender of commands and interactions if an app is installed
// in an organization, whose people write from several workspaces.
func TestReceive_ActorTeamOfOrganization(t *testing.T) {
	for name, c := range map[string]struct {
		enterprise string
		orgWide    bool
		team, user string
		id         string
		unproven   adapters.UnprovenReason
	}{
		"second workspace":     {"E1", true, "T2", "U1", "E1:U1", ""},
		"user of organization": {"E1", true, "T2", "W1", "E1:W1", ""},
		"other organization":   {"E9", true, "T2", "U1", "T2:U1", "external"},
		"one workspace":        {"E1", false, "T2", "U1", "T2:U1", "external"},
	} {
		command := url.Values{
			"command": {"/claim"}, "text": {"WDJBMJ"}, "api_app_id": {appID}, "team_id": {c.team}, "user_id": {c.user},
			"enterprise_id": {c.enterprise}, "is_enterprise_install": {strconv.FormatBool(c.orgWide)},
		}
		payload := fmt.Sprintf(`{"type":"block_actions","api_app_id":%q,"trigger_id":"1.2.a","user":{"id":%q,"team_id":%q},
			"enterprise":{"id":%q},"is_enterprise_install":%v,"channel":{"id":"C1"},
			"actions":[{"type":"button","value":"yes"}]}`,
			appID, c.user, c.team, c.enterprise, c.orgWide)
		ep := endpoint()
		ep.Address = "E1"
		for hook, form := range map[string]url.Values{"commands": command, "interactivity": {"payload": {payload}}} {
			in, err := receive(t, ep, hook, []byte(form.Encode()))
			if m := singleMessage(t, in, err); m.Sender.ID != c.id || m.UnprovenReason != c.unproven {
				t.Errorf("%s, %s: %q, %q, want %q, %q", name, hook, m.Sender.ID, m.UnprovenReason, c.id, c.unproven)
			}
		}
	}
}
