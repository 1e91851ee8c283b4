//go:build unix

package cases

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"hydragate/adapters/simulator"
)

// check compares the result of a run. It returns what differs, or "".
func (r *runner) check(x *run) string {
	want := x.replaceWant(r.T)
	if want.Events != nil {
		if diff := match("events", r.events(x), want.Events); diff != "" {
			return diff
		}
	}
	if n := r.conversations(x); want.Conversations > 0 && n != want.Conversations {
		return fmt.Sprintf("events of %d conversations, want %d: %s", n, want.Conversations, encode(r.events(x)))
	}
	if want.Notices != nil {
		if diff := match("notices", r.notices(x), want.Notices); diff != "" {
			return diff
		}
	}
	if diff := r.checkCalls(x, want); diff != "" {
		return diff
	}
	if want.Replies != nil {
		if diff := match("replies", r.replies(x), want.Replies); diff != "" {
			return diff
		}
	}
	if want.Identity == nil {
		return ""
	}
	var got any
	r.MustCall("GET", x.identityPath, nil, http.StatusOK, &got)
	return match("identity", got, want.Identity)
}

// replaceWant returns what is expected with the values that are known since prepare.
func (x *run) replaceWant(t interface{ Fatal(...any) }) (want Want) {
	body, err := json.Marshal(x.Want)
	if err == nil {
		err = json.Unmarshal(x.replace(body), &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// events returns the data of the events with messages of the sender.
func (r *runner) events(x *run) any {
	all := []any{}
	for _, e := range r.App.MessagesFrom(x.externalID, x.names[whatsAppUser], cmp.Or(x.Account, x.externalID)) {
		var event struct{ Data any }
		if err := json.Unmarshal(e.Body, &event); err != nil {
			return err.Error()
		}
		all = append(all, event.Data)
	}
	return all
}

// conversations returns the number of conversations of the events with messages of the sender.
func (r *runner) conversations(x *run) int {
	ids := map[string]bool{}
	for _, e := range r.App.MessagesFrom(x.externalID) {
		ids[e.Field("conversation_id")] = true
	}
	return len(ids)
}

// notices returns the types of the other events about the sender.
func (r *runner) notices(x *run) any {
	types := []any{}
	for _, e := range r.App.NoticesAbout(x.externalID) {
		types = append(types, e.Field("type"))
	}
	return types
}

// checkCalls checks that the expected calls are among those of the sender in the same order.
func (r *runner) checkCalls(x *run, want Want) string {
	got := r.providers[x.Channel].callsOf(x.persona)
	rest := got
	for _, w := range want.Calls {
		i := slices.IndexFunc(rest, func(c map[string]any) bool { return match("", c, any(w)) == "" })
		if i < 0 {
			return fmt.Sprintf("calls = %s, want %s after the calls before", encode(got), encode(w))
		}
		rest = rest[i+1:]
	}
	for _, c := range got {
		if method, _ := c["call"].(string); slices.Contains(want.NoCalls, method) {
			return fmt.Sprintf("unexpected call %s", encode(c))
		}
	}
	return ""
}

// replies returns the texts that the bot sent to the sender and to the sender's group.
func (r *runner) replies(x *run) any {
	texts := []any{}
	transcript := map[string]*simulator.Transcript{
		"telegram": &r.Telegram.Transcript, "sms": &r.Twilio.Transcript,
		"whatsapp": &r.Twilio.Transcript, "slack": &r.Slack.Transcript,
	}[x.Channel]
	chats := []string{x.externalID, x.names[telegramGroup]}
	if x.Channel != "telegram" && x.Channel != "slack" {
		chats = []string{x.address(), x.prefix() + x.names[whatsAppUser]}
	}
	for _, line := range transcript.Replies("") {
		if slices.Contains(chats, line.Chat) {
			texts = append(texts, line.Text)
		}
	}
	return texts
}
