package slack_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

func TestProfile(t *testing.T) {
	user := func(fields string) string {
		return `{"ok":true,"user":{"id":"U061F7AUR","team_id":"` + teamID + `","name":"steve",` + fields + `}}`
	}
	for name, c := range map[string]struct {
		id, token, response string
		want                adapters.Sender
		reason              adapters.Reason
	}{
		"real name": {
			steve.Chat(), botToken, user(`"real_name":"S","profile":{"real_name":"Steve Miller","display_name":"stevie"}`),
			adapters.Sender{ID: steve.Chat(), Name: "Steve Miller", Username: "steve"},
			"",
		},
		"display name": {
			steve.Chat(), botToken, user(`"profile":{"display_name":"stevie"}`),
			adapters.Sender{ID: steve.Chat(), Name: "stevie", Username: "steve"},
			"",
		},
		"guest": {
			"T0EXTERN1:U061F7AUR", botToken,
			`{"ok":true,"user":{"team_id":"T0EXTERN1","name":"g","real_name":"Guest","profile":{}}}`,
			adapters.Sender{ID: "T0EXTERN1:U061F7AUR", Name: "Guest", Username: "g"},
			"",
		},
		"the same ID in another workspace": {
			"T0EXTERN1:U061F7AUR", botToken, user(`"real_name":"Steve"`), adapters.Sender{ID: "T0EXTERN1:U061F7AUR"}, "",
		},
		"unknown":   {steve.Chat(), botToken, `{"ok":false,"error":"user_not_found"}`, adapters.Sender{}, adapters.Blocked},
		"no scope":  {steve.Chat(), botToken, `{"ok":false,"error":"missing_scope"}`, adapters.Sender{}, adapters.BadSecret},
		"no token":  {steve.Chat(), "", user(`"real_name":"Steve"`), adapters.Sender{}, adapters.Refused},
		"no person": {teamID + ":C0GENERAL", botToken, user(`"real_name":"Steve"`), adapters.Sender{}, adapters.Refused},
	} {
		s, a := newSimulator(t)
		s.Arm("users.info", simulator.Fault{Status: 200, Body: c.response})
		ep := endpoint()
		ep.Credentials[adapters.BotToken] = c.token
		got, err := a.Profile(t.Context(), ep, c.id)
		var se *adapters.SendError
		if errors.As(err, &se) && se.Reason != c.reason || (err == nil) != (c.reason == "") ||
			!cmp.Equal(got, c.want) {
			t.Errorf("%s: Profile(%s) = %+v, %v, want %+v, %q", name, c.id, got, err, c.want, c.reason)
		}
	}
}
