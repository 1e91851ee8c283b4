package slack_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
	"hydragate/adapters/slack"
)

func readRecording(t *testing.T, name string) []byte {
	t.Helper()
	body, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.TrimRight(string(body), "\n"))
}

func singleMessage(t *testing.T, in adapters.Inbound, err error) adapters.Message {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Messages) != 1 {
		t.Fatalf("%d messages, want 1", len(in.Messages))
	}
	return in.Messages[0]
}

func receive(t *testing.T, ep adapters.Endpoint, hook string, body []byte) (adapters.Inbound, error) {
	t.Helper()
	a := &slack.Adapter{Now: fixedTime}
	return a.Receive(genuineRequest(ep, hook, body), ep, hook)
}

func TestReceive_SignatureAge(t *testing.T) {
	a, body := &slack.Adapter{Now: fixedTime}, readRecording(t, "events/im_text.json")
	for _, skew := range []time.Duration{-300 * time.Second, -299 * time.Second, 0, 299 * time.Second, 300 * time.Second} {
		_, err := a.Receive(signedRequest(signingSecret, fixedTime().Add(skew), "events", body), endpoint(), "events")
		if err != nil {
			t.Errorf("clock skew %v: %v", skew, err)
		}
	}
}

func TestReceive_UnusualGenuine(t *testing.T) {
	a, ep, body := &slack.Adapter{Now: fixedTime}, endpoint(), readRecording(t, "events/im_text.json")
	for name, change := range map[string]func(r *http.Request){
		"retry": func(r *http.Request) {
			r.Header.Set("X-Slack-Retry-Num", "3")
			r.Header.Set("X-Slack-Retry-Reason", "http_timeout")
		},
		"chunked": func(r *http.Request) { r.ContentLength, r.TransferEncoding = -1, []string{"chunked"} },
		"other host": func(r *http.Request) {
			r.Host = "evil.example"
			r.Header.Set("X-Forwarded-Host", "evil.example")
		},
		"no content type": func(r *http.Request) { r.Header.Del("Content-Type") },
	} {
		r := genuineRequest(ep, "events", body)
		change(r)
		if _, err := a.Receive(r, ep, "events"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReceive_SecretRotation(t *testing.T) {
	a, body := &slack.Adapter{Now: fixedTime}, readRecording(t, "events/im_text.json")
	ep := endpoint()
	ep.Credentials = adapters.Credentials{
		adapters.SigningSecret:          "the-newer-secret",
		adapters.SigningSecret + "_old": signingSecret,
	}
	for _, s := range []string{"the-newer-secret", signingSecret} {
		if _, err := a.Receive(signedRequest(s, fixedTime(), "events", body), ep, "events"); err != nil {
			t.Errorf("during rotation: %v", err)
		}
	}
	delete(ep.Credentials, adapters.SigningSecret+"_old")
	_, err := a.Receive(signedRequest(signingSecret, fixedTime(), "events", body), ep, "events")
	if !errors.Is(err, adapters.ErrForged) {
		t.Errorf("after rotation: %v, want ErrForged", err)
	}
}

func TestReceive_URLVerification(t *testing.T) {
	a, ep, body := &slack.Adapter{Now: fixedTime}, endpoint(), readRecording(t, "events/url_verification.json")
	unsigned := genuineRequest(ep, "events", body)
	unsigned.Header.Del("X-Slack-Signature")
	if _, err := a.Receive(unsigned, ep, "events"); !errors.Is(err, adapters.ErrForged) {
		t.Errorf("unsigned: %v, want ErrForged", err)
	}
	ep.Address = "" // Slack verifies the URL before the workspace is known
	in, err := receive(t, ep, "events", body)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	in.Ack(w, nil)
	if len(in.Messages) != 0 || w.Code != 200 ||
		w.Body.String() != "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P" ||
		!strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Errorf("%d messages, status %d, type %q, body %q, want only the challenge as text",
			len(in.Messages), w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	for name, c := range map[string]struct {
		challenge string
		want      error
	}{
		"punctuation": {"+/=_.-", nil}, "longest": {strings.Repeat("a", 256), nil},
		"empty": {"", adapters.ErrMalformed}, "HTML": {"<script>", adapters.ErrMalformed},
		"long": {strings.Repeat("a", 257), adapters.ErrMalformed}, "two lines": {"a\nb", adapters.ErrMalformed},
	} {
		body, err := json.Marshal(map[string]string{"type": "url_verification", "challenge": c.challenge})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := receive(t, ep, "events", body); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestReceive_OtherInstallation(t *testing.T) {
	const said = `"type":"event_callback","event_id":"Ev1","event":{
		"type":"message","channel":"D1","channel_type":"im","user":"U1","text":"hi","ts":"1.1"
	}}`
	for name, c := range map[string]struct {
		body    string
		address string
		want    error
	}{
		"ours": {
			`{"team_id":"T1","authorizations":[{"team_id":"T1"}],"api_app_id":"A1",` + said, "T1", nil,
		},
		"ours by authorization": {`{"team_id":"T9","authorizations":[{"team_id":"T1"}],` + said, "T1", nil},
		"ours by team":          {`{"team_id":"T1","authorizations":[],` + said, "T1", nil},
		"ours by enterprise": {
			`{"team_id":"T1","authorizations":[{"team_id":null,"enterprise_id":"E1","is_enterprise_install":true}],` + said,
			"E1", nil,
		},
		"other team": {
			`{"team_id":"T9","authorizations":[{"team_id":"T9"}],` + said, "T1", adapters.ErrForged,
		},
		"other by authorization": {
			`{"team_id":"T1","authorizations":[{"team_id":"T9"}],` + said, "T1", adapters.ErrForged,
		},
		"other enterprise": {
			`{"team_id":"T1","authorizations":[{"team_id":null,"enterprise_id":"E9"}],` + said, "E1", adapters.ErrForged,
		},
		"other app": {
			`{"team_id":"T1","authorizations":[{"team_id":"T1"}],"api_app_id":"A9",` + said, "T1", adapters.ErrForged,
		},
		"unknown workspace of ours": {`{"team_id":"T1","authorizations":[{"team_id":"T1"}],` + said, "", adapters.ErrForged},
		"other team unreadable":     {`{"team_id":"T9","type":"event_callback","event_id":7}`, "T1", adapters.ErrForged},
	} {
		ep := endpoint()
		ep.Address, ep.Settings = c.address, map[string]string{adapters.AppID: "A1"}
		if _, err := receive(t, ep, "events", []byte(c.body)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestReceive_MentionEqualsMessage(t *testing.T) {
	in, err := receive(t, endpoint(), "events", readRecording(t, "events/mention_message.json"))
	message := singleMessage(t, in, err)
	in, err = receive(t, endpoint(), "events", readRecording(t, "events/mention_app_mention.json"))
	mention := singleMessage(t, in, err)
	if d := cmp.Diff(message, mention); d != "" {
		t.Errorf("message and app_mention of one post differ (-message +mention):\n%s", d)
	}
}

func TestReceive_LargeBody(t *testing.T) {
	a := &slack.Adapter{Now: fixedTime}
	for name, c := range map[string]struct {
		headers bool
		length  int64
		want    error
		most    int64
	}{
		"unsigned":          {false, -1, adapters.ErrForged, 0},
		"signed":            {true, -1, adapters.ErrTooLarge, 1 << 20},
		"signed and length": {true, 64 << 20, adapters.ErrTooLarge, 0},
	} {
		body, read := adaptertest.CountingBody(64 << 20)
		r := genuineRequest(endpoint(), "events", nil)
		r.Body, r.ContentLength = body, c.length
		if !c.headers {
			clear(r.Header)
		}
		if _, err := a.Receive(r, endpoint(), "events"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if read() > c.most {
			t.Errorf("%s: %d bytes read", name, read())
		}
	}
	exact := []byte(`"` + strings.Repeat("a", 2560<<10-2) + `"`)
	if _, err := receive(t, endpoint(), "events", exact); err != nil {
		t.Errorf("the largest body: %v", err)
	}
}

func TestAck(t *testing.T) {
	away := errors.New("database unavailable")
	for name, c := range map[string]struct {
		hook, file string
		taken      error
		status     int
		says       string
	}{
		"event stored":     {"events", "events/im_text.json", nil, 200, ""},
		"event not stored": {"events", "events/im_text.json", away, 503, ""},
		"command stored": {
			"commands", "commands/claim_in_im.form", nil, 200, `{"response_type":"ephemeral","text":"One moment …"}`,
		},
		"command not stored": {
			"commands", "commands/claim_in_im.form", away, 200,
			`{"response_type":"ephemeral","text":"Sorry, that did not work just now. Please try again."}`,
		},
		"SSL check":            {"commands", "commands/ssl_check.form", nil, 200, ""},
		"interaction stored":   {"interactivity", "interactivity/button_in_im.form", nil, 200, ""},
		"interaction unstored": {"interactivity", "interactivity/button_in_im.form", away, 503, ""},
	} {
		in, err := receive(t, endpoint(), c.hook, readRecording(t, c.file))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w := httptest.NewRecorder()
		in.Ack(w, c.taken)
		if w.Code != c.status || w.Body.String() != c.says || w.Header().Get("X-Slack-No-Retry") != "" {
			t.Errorf("%s: %d %q, want %d %q", name, w.Code, w.Body, c.status, c.says)
		}
	}
}

func TestReceive_ResponseURLHost(t *testing.T) {
	for address, want := range map[string]bool{
		"https://hooks.slack.com/commands/T1/2/x":              true,
		"http://hooks.slack.com/commands/T1/2/x":               false,
		"https://hooks.slack.com.evil.example/commands/T1/2/x": false,
		"https://hooks.slack.com@evil.example/x":               false,
		"https://steve@hooks.slack.com/x":                      false,
		"https://hooks.slack.com:8443/x":                       false,
		"https://evil.example/hooks.slack.com":                 false,
		"http://169.254.169.254/latest/meta-data":              false,
		"//hooks.slack.com/x":                                  false,
		"https:\\\\hooks.slack.com\\x":                         false,
		"":                                                     false,
	} {
		form := url.Values{
			"team_id":      {teamID},
			"user_id":      {steve.ID},
			"command":      {"/claim"},
			"text":         {"WDJBMJ"},
			"trigger_id":   {"1.2.a"},
			"response_url": {address},
		}
		in, err := receive(t, endpoint(), "commands", []byte(form.Encode()))
		if m := singleMessage(t, in, err); (m.Chat.ReplyToken != "") != want {
			t.Errorf("address %q: response URL = %q", address, m.Chat.ReplyToken)
		}
	}
}
