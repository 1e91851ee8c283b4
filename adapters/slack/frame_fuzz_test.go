package slack

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
)

// FuzzFrame checks that every frame yields at most one storable message, and the same one each
// time, and that it is acknowledged by its own ID or not at all.
func FuzzFrame(f *testing.F) {
	for hook, kind := range map[string]string{"events": "events_api", "interactivity": "interactive"} {
		files, err := filepath.Glob("testdata/" + hook + "/*.json")
		if err != nil || hook == "events" && len(files) == 0 {
			f.Fatal("no recorded frames", err)
		}
		for _, file := range files {
			payload, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add([]byte(`{"type":"` + kind + `","envelope_id":"e-1","payload":` + string(payload) + `}`))
		}
	}
	for _, raw := range []string{
		`{"type":"slash_commands","envelope_id":"e-2","accepts_response_payload":true,"payload":{
			"command":"/claim","text":"WDJBMJ","team_id":"T024BE7LD","user_id":"U023BECGF","trigger_id":"1.2"
		}}`,
		`{"type":"slash_commands","envelope_id":"e-3","payload":{
			"command":"/claim","command":"/other","user_id":"U023BECGF"
		}}`,
		`{"type":"slash_commands","envelope_id":"e-4","payload":{
			"command":["/claim"],"is_enterprise_install":true,"n":1e400
		}}`,
		`{"envelope_id":"e-5","type":"events_api","payload":{`, `{"envelope_id":7}`,
		`{"envelope_id":"a b","type":"interactive"}`, `[]`, `null`, "\xff", `{"type":"hello"}`,
	} {
		f.Add([]byte(raw))
	}
	a, ep := &Adapter{}, adapters.Endpoint{ID: "e1", Channel: adapters.Slack, Mode: adapters.Socket, Address: "T024BE7LD"}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) == 0 { // skipped by listen
			return
		}
		fr := decodeFrame(raw[:min(len(raw), maxFrame+1)])
		in, err := a.parsePayload(fr, ep)
		if err != nil {
			if !errors.Is(err, adapters.ErrForged) && !errors.Is(err, adapters.ErrMalformed) {
				t.Errorf("%v is not an expected error", err)
			}
			return
		}
		adaptertest.CheckInbound(t, in)
		if len(in.Messages) > 1 {
			t.Errorf("%d messages", len(in.Messages))
		}
		again, err := a.parsePayload(decodeFrame(fr.raw), ep)
		if err != nil || !reflect.DeepEqual(in.Messages, again.Messages) {
			t.Errorf("the second call returned %+v, %v", again.Messages, err)
		}
		words := fr.acknowledgement(in.Ack)
		var said struct {
			EnvelopeID string `json:"envelope_id"`
		}
		if words == nil != !isKeyPart(fr.EnvelopeID) ||
			words != nil && (json.Unmarshal(words, &said) != nil || said.EnvelopeID != fr.EnvelopeID) {
			t.Errorf("%q is acknowledged with %s", fr.EnvelopeID, words)
		}
	})
}
