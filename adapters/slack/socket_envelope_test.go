package slack_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
	"hydragate/adapters/simulator"
)

func encodeFrame(t *testing.T, kind, id string, payload []byte) []byte {
	t.Helper()
	raw, err := json.Marshal(map[string]any{
		"type": kind, "envelope_id": id, "payload": json.RawMessage(payload),
		"accepts_response_payload": kind != "events_api", "retry_attempt": 0, "retry_reason": "",
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// socketPayload returns the body of a webhook as the payload of an envelope. ok is false for bodies
// that Socket Mode never sends.
func socketPayload(hook string, body []byte) (kind string, payload []byte, ok bool) {
	if hook == "events" {
		return simulator.SlackEvents, body, json.Valid(body)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", nil, false
	}
	if hook == "interactivity" {
		payload = []byte(form.Get("payload"))
		return simulator.SlackInteractive, payload, json.Valid(payload)
	}
	fields := map[string]string{}
	for k, vs := range form {
		if len(vs) > 1 {
			return "", nil, false
		}
		fields[k] = vs[0]
	}
	payload, err = json.Marshal(fields)
	return simulator.SlackCommands, payload, err == nil
}

// TestSocket_SameAsWebhook checks that webhooks and Socket Mode yield the same messages, with the
// same keys.
func TestSocket_SameAsWebhook(t *testing.T) {
	for hook, pattern := range map[string]string{"events": "*.json", "commands": "*.form", "interactivity": "*.form"} {
		files, err := filepath.Glob("testdata/" + hook + "/" + pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no recordings of %s: %v", hook, err)
		}
		for _, file := range files {
			name := strings.TrimPrefix(file, "testdata/")
			body := readRecording(t, name)
			kind, payload, ok := socketPayload(hook, body)
			in, err := receive(t, endpoint(), hook, body)
			if !ok || err != nil || name == "events/url_verification.json" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, a := newSocketSimulator(t)
					kept := &adaptertest.Store{}
					adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
					synctest.Wait()
					d, _, err := s.DeliverEnvelope(t.Context(), appID, kind, payload)
					if err != nil || !d.Accepted() || len(d.Attempts) != 1 {
						t.Fatalf("%+v, %v", d, err)
					}
					want := in.Messages
					got := kept.Messages()
					for i := range want {
						want[i].Chat.ReplyToken = "" // recorded requests name Slack's own, which this API is not
						if hook != "events" && strings.HasPrefix(want[i].Key, "raw:") && i < len(got) {
							want[i].Key, want[i].Raw, got[i].Raw = got[i].Key, nil, nil // derived from other bytes
						}
					}
					for i := range got {
						got[i].Chat.ReplyToken = ""
					}
					if hook == "events" {
						for i := range want { // Slack compacts JSON within JSON
							want[i].Raw, got[i].Raw = compactJSON(want[i].Raw), compactJSON(got[i].Raw)
							if strings.HasPrefix(want[i].Key, "raw:") {
								want[i].Key = got[i].Key
							}
						}
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("message differs between webhook and Socket Mode (-webhook +socket):\n%s", diff)
					}
				})
			})
		}
	}
}

func compactJSON(raw []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return raw
	}
	return b.Bytes()
}

// TestSocket_DuplicateOfWebhook checks that a message received by webhook and by Socket Mode is stored once.
func TestSocket_DuplicateOfWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		kept := &adaptertest.Store{}
		adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		synctest.Wait()
		for _, name := range []string{
			"events/im_text.json", "events/mention_claim.json", "commands/claim_in_im.form", "interactivity/button_in_im.form",
		} {
			hook, _, _ := strings.Cut(name, "/")
			body := readRecording(t, name)
			in, err := receive(t, endpoint(), hook, body)
			if err != nil {
				t.Fatal(err)
			}
			if err := kept.Add(t.Context(), in.Messages, ""); err != nil {
				t.Fatal(err)
			}
			before := len(kept.Messages())
			kind, payload, _ := socketPayload(hook, body)
			for range 2 {
				if d, _, err := s.DeliverEnvelope(t.Context(), appID, kind, payload); err != nil || !d.Accepted() {
					t.Errorf("%s: %+v, %v", name, d, err)
				}
			}
			if n := len(kept.Messages()); n != before || before == 0 {
				t.Errorf("%s is stored %d times", name, n-before+1)
			}
		}
	})
}

// TestSocket_ForgedEnvelopes checks that envelopes of other apps and workspaces are neither stored nor
// acknowledged, and that unusual genuine ones are.
func TestSocket_ForgedEnvelopes(t *testing.T) {
	said := func(envelope string) string {
		return `{` + envelope + `,"type":"event_callback","event_id":"Ev1","event":{"type":"message","channel":"D1",
			"channel_type":"im","user":"U061F7AUR","text":"claim WDJBMJ","ts":"1.1"}}`
	}
	command := func(team, app, more string) string {
		return `{"team_id":"` + team + `","api_app_id":"` + app + `","user_id":"U061F7AUR",
			"command":"/claim","text":"WDJBMJ","trigger_id":"1.2.a"` + more + `}`
	}
	press := func(team, app, user string) string {
		return `{"type":"block_actions","api_app_id":"` + app + `","trigger_id":"2.a",
			"team":{"id":"` + team + `"},"user":{"id":"U1","team_id":"` + user + `"},"channel":{"id":"D1"},
			"actions":[{"value":"yes","action_ts":"1.1"}]}`
	}
	const here = `"team_id":"` + teamID + `","authorizations":[{"team_id":"` + teamID + `"}]`
	for name, c := range map[string]struct {
		kind, payload string
		kept          bool
		sender        string
		unproven      adapters.UnprovenReason
		kindOf        adapters.Kind
	}{
		"other team": {
			simulator.SlackEvents, said(`"team_id":"T9","authorizations":[{"team_id":"T9"}]`), false, "", "", "",
		},
		"other by authorization": {
			simulator.SlackEvents, said(`"team_id":"` + teamID + `","authorizations":[{"team_id":"T9"}]`), false, "", "", "",
		},
		"other app":          {simulator.SlackEvents, said(here + `,"api_app_id":"A9"`), false, "", "", ""},
		"other apps command": {simulator.SlackCommands, command(teamID, "A9", ""), false, "", "", ""},
		"other apps press":   {simulator.SlackInteractive, press(teamID, "A9", teamID), false, "", "", ""},
		"other app unreadable": {
			simulator.SlackEvents, `{"api_app_id":"A9","type":"event_callback","event_id":7}`, false, "", "", "",
		},

		"ours": {simulator.SlackEvents, said(here), true, steve.Chat(), "", adapters.Text},
		"ours by authorization": {
			simulator.SlackEvents, said(`"team_id":"T9","authorizations":[{"team_id":"` + teamID + `"}]`), true, steve.Chat(),
			"", adapters.Text,
		},
		"ours without app": {simulator.SlackCommands, command(teamID, "", ""), true, steve.Chat(), "", adapters.Text},
		"ours with null": {
			simulator.SlackCommands, command(teamID, appID, `,"enterprise_id":null,"is_enterprise_install":false`), true,
			steve.Chat(), "", adapters.Text,
		},
		"ours pressed": {
			simulator.SlackInteractive, press(teamID, appID, teamID), true, teamID + ":U1", "", adapters.Callback,
		},

		// Messages of other organizations are stored as unproven.
		"foreign message": {
			simulator.SlackEvents, said(here + `,"is_ext_shared_channel":true`), true, "", "external", adapters.Text,
		},
		"foreign command": {
			simulator.SlackCommands, command("T9", appID, ""), true, "T9:U061F7AUR", "external", adapters.Text,
		},
		"foreign enterprise": {
			simulator.SlackCommands, command("T9", appID, `,"enterprise_id":"E1","is_enterprise_install":true`), true,
			"T9:U061F7AUR", "external", adapters.Text,
		},
		"foreign press": {
			simulator.SlackInteractive, press(teamID, appID, "T9"), true, "T9:U1", "external", adapters.Callback,
		},

		// Parsers may disagree about duplicate or mistyped fields.
		"two users": {
			simulator.SlackCommands, command(teamID, appID, `,"user_id":"U2"`), true, "", "", adapters.Undecodable,
		},
		"object user": {
			simulator.SlackCommands, `{"team_id":"` + teamID + `","command":"/claim","user_id":{"id":"U1"}}`, true, "", "",
			adapters.Undecodable,
		},
		"no object": {simulator.SlackCommands, `["command"]`, true, "", "", adapters.Undecodable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a := newSocketSimulator(t)
				kept := &adaptertest.Store{}
				adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
				synctest.Wait()
				d, _, err := s.DeliverEnvelope(t.Context(), appID, c.kind, json.RawMessage(c.payload))
				if err != nil || d.Accepted() != c.kept {
					t.Fatalf("acknowledged: %v, %v, want %v", d.Accepted(), err, c.kept)
				}
				ms := kept.Messages()
				if !c.kept {
					if len(ms) != 0 || kept.Calls() != 0 {
						t.Errorf("stored %+v in %d calls, want none", ms, kept.Calls())
					}
					return
				}
				if len(ms) != 1 || ms[0].Sender.ID != c.sender || ms[0].UnprovenReason != c.unproven || ms[0].Kind != c.kindOf {
					t.Errorf("stored %+v, want %s of %q, unproven %q", ms, c.kindOf, c.sender, c.unproven)
				}
			})
		})
	}
}

func TestSocket_MalformedFrames(t *testing.T) {
	longest := `{"envelope_id":"e1","type":"brand_new","payload":{"text":"` + strings.Repeat("a", 2564<<10-61) + `"}}`
	huge := `{"envelope_id":"e1","type":"events_api","payload":{"text":"` + strings.Repeat("a", 3<<20) + `"}}`
	for name, c := range map[string]struct {
		frame string
		acked string // the envelope acknowledged, if it can be
		raw   int    // bytes stored; -1: the whole frame
		cut   bool   // the connection is closed
	}{
		"not JSON":     {"garbage", "", -1, false},
		"array":        {`["events_api"]`, "", -1, false},
		"number":       {`7`, "", -1, false},
		"half a frame": {`{"envelope_id":"e1","type":"events_api","payload":{"a":`, "e1", -1, false},
		"raw control": {
			"{\"envelope_id\":\"e1\",\"type\":\"events_api\",\"payload\":{\"a\":\"\x00\"}}", "e1", -1, false,
		},
		"too deep": {
			`{"envelope_id":"e1","type":"events_api","payload":` + strings.Repeat("[", 20_000) +
				strings.Repeat("]", 20_000) + `}`,
			"e1", -1, false,
		},
		"ID after the error": {`{"payload":{"a":`, "", -1, false},
		"unknown kind":       {`{"envelope_id":"e1","type":"brand_new","payload":{"a":1}}`, "e1", -1, false},
		"no kind":            {`{"envelope_id":"e1","payload":{"a":1}}`, "e1", -1, false},
		"kind is an object":  {`{"envelope_id":"e1","type":{"a":1},"payload":{}}`, "e1", -1, false},
		"no payload":         {`{"envelope_id":"e1","type":"events_api"}`, "e1", -1, false},
		"payload is text":    {`{"envelope_id":"e1","type":"events_api","payload":"x"}`, "e1", 3, false},
		"ID is a number":     {`{"envelope_id":1,"type":"brand_new"}`, "", -1, false},
		"ID is huge":         {`{"envelope_id":"` + strings.Repeat("e", 4096) + `","type":"brand_new"}`, "", -1, false},
		"ID is markup":       {`{"envelope_id":"<a>\n","type":"brand_new"}`, "", -1, false},
		"ID in the payload":  {`{"type":"events_api","payload":{"envelope_id":"e1"},`, "", -1, false},
		"longest":            {longest, "e1", -1, false},
		"huge":               {huge, "e1", 2560 << 10, false},
		"endless":            {`{"envelope_id":"e1","a":"` + strings.Repeat("a", 9<<20), "", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a := newSocketSimulator(t)
				kept := &adaptertest.Store{}
				adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
				synctest.Wait()
				s.ExpectAck("e1")
				s.SendFrame(appID, []byte(c.frame))
				s.SendFrame(appID, nil)
				adaptertest.Advance(2 * time.Second)
				if got := strings.Join(s.AckedEnvelopes(), " "); got != c.acked {
					t.Errorf("acknowledged %q, want %q", got, c.acked)
				}
				ms := kept.Messages()
				switch {
				case c.cut && len(ms) != 0:
					t.Errorf("stored %d messages, want 0", len(ms))
				case c.cut:
				case len(ms) != 1 || ms[0].Kind != adapters.Undecodable || ms[0].Sender.ID != "":
					t.Fatalf("stored %.200v, want one undecodable message without a sender", ms)
				case c.raw == -1 && string(ms[0].Raw) != c.frame || c.raw >= 0 && len(ms[0].Raw) != c.raw:
					t.Errorf("stored %d raw bytes of %d, want %d (-1: all)", len(ms[0].Raw), len(c.frame), c.raw)
				}
				if d := <-sendText(t, s, "hello"); !d.Accepted() || !strings.HasSuffix(kept.Texts(), "hello") {
					t.Errorf("no message is received after it: %+v, %.200q", d, kept.Texts())
				}
			})
		})
	}
}

// TestSocket_UndecodableStoredOnce checks that an undecodable payload, redelivered with other envelope IDs,
// is stored once.
func TestSocket_UndecodableStoredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newSocketSimulator(t)
		kept := &adaptertest.Store{}
		adaptertest.StartPolling(t, a, socketEndpoint(), "", kept.Add)
		synctest.Wait()
		s.DropAcks(true)
		d, _, err := s.DeliverEnvelope(t.Context(), appID, "brand_new", json.RawMessage(`{"a":1}`))
		if err != nil || len(d.Attempts) != 4 || d.Accepted() {
			t.Fatalf("%+v, %v", d, err)
		}
		if n := len(kept.Messages()); n != 1 || kept.Calls() != 4 {
			t.Errorf("stored %d of %d deliveries, want 1 of 4", n, kept.Calls())
		}
	})
}
