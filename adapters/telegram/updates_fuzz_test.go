package telegram

import (
	"encoding/json"
	"testing"
	"time"

	"hydragate/adapters"
)

// FuzzUpdates checks that every response of getUpdates yields storable messages, and a next
// offset that is not negative, which would discard updates.
func FuzzUpdates(f *testing.F) {
	for _, answer := range []string{
		`{"ok":true,"result":[]}`,
		`{"ok":true,"result":[{"update_id":7,"message":{
			"message_id":1,"chat":{"id":1,"type":"private"},"from":{"id":1},"text":"hi"
		}},{"update_id":8}]}`,
		`{"ok":true,"result":[{"update_id":9223372036854775807}]}`,
		`{"ok":true,"result":[{"update_id":-5},{"update_id": 12,"x":[[[["]}"]]]]}]}`,
		`{"ok":true,"result":[{"update_id":1,"a":"\"]"},3,"x",null,[]]}`, `{"result":[{`, `{"result":[`, ``, "\xff",
	} {
		for _, cursor := range []string{
			"", "7@1764000000@00000000", "-1@0@", "9223372036854775807@9223372036854775807@x", "7@x@y", "@@",
		} {
			f.Add([]byte(answer), cursor)
		}
	}
	ep := adapters.Endpoint{
		ID:          "e1",
		Channel:     adapters.Telegram,
		Address:     "424242",
		Credentials: adapters.Credentials{adapters.BotToken: "424242:token"},
	}
	now := time.Unix(1_764_000_000, 0)
	f.Fuzz(func(t *testing.T, answer []byte, cursor string) {
		var said response
		var raws []json.RawMessage
		if json.Unmarshal(answer, &said) != nil || json.Unmarshal(said.Result, &raws) != nil {
			raws, _ = splitUpdates(answer)
		}
		for _, m := range parseUpdates(raws, ep) {
			if m.Key == "" || m.Kind == "" {
				t.Errorf("an update became %+v", m)
			}
		}
		at := parsePosition(cursor, ep)
		next := at.advance(raws, now)
		if at.offset(now) < 0 || next.offset(now) < 0 {
			t.Errorf("offset moved from %d to %d", at.offset(now), next.offset(now))
		}
		kept := parsePosition(next.String(), ep)
		if kept.next != next.next || !kept.at.Equal(next.at) || kept.tokenHash != next.tokenHash {
			t.Errorf("%+v is stored as %+v", next, kept)
		}
	})
}
