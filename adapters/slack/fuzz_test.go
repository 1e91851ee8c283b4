package slack_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
	"hydragate/adapters/slack"
)

// maxReadTime is the maximum time for reading one request.
const maxReadTime = 30 * time.Second

// FuzzReceive checks that every signed request yields at most one storable message, and the same
// one each time.
func FuzzReceive(f *testing.F) {
	hooks := []string{"events", "commands", "interactivity"}
	for i, hook := range hooks {
		for _, pattern := range []string{"*.json", "*.form"} {
			files, err := filepath.Glob("testdata/" + hook + "/" + pattern)
			if err != nil {
				f.Fatal(err)
			}
			for _, file := range files {
				body, err := os.ReadFile(file)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(byte(i), []byte(strings.TrimRight(string(body), "\n")))
			}
		}
	}
	a, ep := &slack.Adapter{Now: fixedTime}, endpoint()
	f.Fuzz(func(t *testing.T, which byte, body []byte) {
		hook := hooks[int(which)%len(hooks)]
		begun := time.Now()
		in, err := a.Receive(genuineRequest(ep, hook, body), ep, hook)
		if took := time.Since(begun); took > maxReadTime {
			t.Errorf("reading %d bytes took %v", len(body), took)
		}
		if err != nil {
			if !errors.Is(err, adapters.ErrForged) && !errors.Is(err, adapters.ErrMalformed) &&
				!errors.Is(err, adapters.ErrTooLarge) {
				t.Errorf("%v is not an expected error", err)
			}
			return
		}
		adaptertest.CheckInbound(t, in)
		if len(in.Messages) > 1 {
			t.Errorf("%d messages", len(in.Messages))
		}
		again, err := a.Receive(genuineRequest(ep, hook, body), ep, hook)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(in.Messages, again.Messages) {
			t.Errorf("the second call returned another message:\n%s", cmp.Diff(in.Messages, again.Messages))
		}
	})
}

// FuzzSignature checks that a request is accepted only with the signature that Slack's
// documentation specifies for its timestamp and body, and with a recent timestamp.
func FuzzSignature(f *testing.F) {
	now := strconv.FormatInt(fixedTime().Unix(), 10)
	body := []byte(`{"type":"event_callback","team_id":"T024BE7LH","event_id":"Ev1","event":{"type":"x"}}`)
	right := signature(signingSecret, now, body)
	f.Add(right, now, body)
	f.Add(strings.ToUpper(right), now, body)
	f.Add(right, "+"+now, body)
	f.Add(right, " "+now, body)
	f.Add(signature(signingSecret, "1", body), "1", body)
	f.Add(signature("", now, body), now, body)
	f.Add("v0=", now, body)
	f.Add("", "", body)
	a, ep := &slack.Adapter{Now: fixedTime}, endpoint()
	f.Fuzz(func(t *testing.T, given, stamp string, body []byte) {
		for _, proof := range []string{given, signature(signingSecret, stamp, body)} { // the second is always right
			r := genuineRequest(ep, "events", body)
			r.Header["X-Slack-Signature"], r.Header["X-Slack-Request-Timestamp"] = []string{proof}, []string{stamp}
			_, err := a.Receive(r, ep, "events")
			if errors.Is(err, adapters.ErrForged) || errors.Is(err, adapters.ErrTooLarge) {
				continue
			}
			at, perr := strconv.ParseInt(stamp, 10, 64)
			off := fixedTime().Unix() - at
			if proof != signature(signingSecret, stamp, body) || perr != nil || off > 300 || off < -300 || stamp[0] == '+' {
				t.Errorf("signature %q at %q is accepted: %v", proof, stamp, err)
			}
		}
	})
}
