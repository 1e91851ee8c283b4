package telegram

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
)

func TestSplitUpdates(t *testing.T) {
	for response, want := range map[string]string{
		`{"ok":true,"result":[{"a":1},{"a":2}, {"a":3} ]`:  `{"a":1} {"a":2} {"a":3}`,
		`{"ok":true,"result":[{"a":[1,{"b":"\"],["}]},7]}`: `{"a":[1,{"b":"\"],["}]} 7`,
		`{"ok":true,"result":[{"a":"\\"},{"a":"]"}]}`:      `{"a":"\\"} {"a":"]"}`,
		`{"ok":true,"result":[{"a":1},, ]`:                 `{"a":1}`,
		`{"ok":true,"result":[]`:                           "",
		`{"ok":true,"result":[{"a":1},`:                    "cut off",
		`{"ok":true,"result":[{"a":"b`:                     "cut off",
		`{"ok":true}`:                                      "cut off",
	} {
		raws, whole := splitUpdates([]byte(response))
		var got []string
		for _, raw := range raws {
			got = append(got, string(raw))
		}
		if whole != (want != "cut off") || whole && strings.Join(got, " ") != want || slices.Contains(got, "") {
			t.Errorf("splitUpdates(%s) = %q, %v, want %s", response, got, whole, want)
		}
	}
}

func TestPosition(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for batch, want := range map[string]int64{
		`[]`: 5, `[{}]`: 5, `[{"update_id":-7}]`: 5, `[{"update_id":9},{"update_id":8}]`: 10, `[{"update_id":1}]`: 2,
		`[{"update_id":9223372036854775806}]`: 9223372036854775807, `[{"update_id":9223372036854775807}]`: 5,
	} {
		var raws []json.RawMessage
		if err := json.Unmarshal([]byte(batch), &raws); err != nil {
			t.Fatal(err)
		}
		if got := (position{next: 5}).advance(raws, now); got.next != want || !got.at.Equal(now) {
			t.Errorf("position 5 after %s = %+v, want %d", batch, got, want)
		}
	}
	for age, want := range map[time.Duration]int64{0: 5, staleAfter: 5, staleAfter + 1: 0} {
		if got := (position{next: 5, at: now}).offset(now.Add(age)); got != want {
			t.Errorf("offset of position 5 after %v = %d, want %d", age, got, want)
		}
	}
	ep := adapters.Endpoint{Credentials: adapters.Credentials{adapters.BotToken: "424242:token"}}
	p := position{next: 5, at: now, tokenHash: tokenHash(ep)}
	for cursor, want := range map[string]int64{
		p.String(): 5, "0@1764000000": 0, "7@1764000000": 7, "-1@1764000000": 0, "7@1764000000@00000000": 0, "7": 0, "x@1": 0,
	} {
		if got := parsePosition(cursor, ep); got.next != want || got.tokenHash != p.tokenHash {
			t.Errorf("parsePosition(%q) = %+v, want %d", cursor, got, want)
		}
	}
}
