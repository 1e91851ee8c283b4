package slack_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
	"hydragate/adapters/simulator"
	"hydragate/adapters/slack"
)

const (
	teamID        = "T024BE7LH"
	appID         = "A0KRD7HC3"
	botUserID     = "U0LAN0Z89"
	signingSecret = "8f742231b10e8888abcd99d0e1f285a5"
	botToken      = "xoxb-2157151564-8047104812-b0tT0kenOfTheTests"
)

var steve = simulator.SlackUser{Team: teamID, ID: "U061F7AUR", Name: "Steve"}

// fixedTime is the time at which recorded requests arrive.
func fixedTime() time.Time { return time.Unix(1732190400, 0) }

func endpoint() adapters.Endpoint {
	return adapters.Endpoint{
		ID: "e1", Channel: adapters.Slack, Mode: adapters.Webhook, Address: teamID,
		Settings:    map[string]string{adapters.BotUserID: botUserID, adapters.BotID: "B0LAN0Z90", adapters.AppID: appID},
		Credentials: adapters.Credentials{adapters.BotToken: botToken, adapters.SigningSecret: signingSecret},
	}
}

func contentType(hook string) string {
	if hook == "events" {
		return "application/json"
	}
	return "application/x-www-form-urlencoded"
}

func signature(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "v0:%s:%s", timestamp, body)
	return "v0=" + hex.EncodeToString(mac.Sum(nil))
}

// signedRequest returns a request signed with a secret at a given time.
func signedRequest(secret string, at time.Time, hook string, body []byte) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/hooks/slack/i1/"+hook, strings.NewReader(string(body)))
	timestamp := strconv.FormatInt(at.Unix(), 10)
	r.Header.Set("Content-Type", contentType(hook))
	r.Header.Set("X-Slack-Request-Timestamp", timestamp)
	r.Header.Set("X-Slack-Signature", signature(secret, timestamp, body))
	return r
}

func genuineRequest(ep adapters.Endpoint, hook string, body []byte) *http.Request {
	return signedRequest(ep.Credentials[adapters.SigningSecret], fixedTime(), hook, body)
}

type forgery = func(ep adapters.Endpoint, hook string, body []byte) *http.Request

// forgeries are requests that Slack did not send, or not for this endpoint.
func forgeries() map[string]forgery {
	header := func(change func(h http.Header)) forgery {
		return func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			r := genuineRequest(ep, hook, body)
			change(r.Header)
			return r
		}
	}
	at := func(skew time.Duration) forgery {
		return func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			return signedRequest(signingSecret, fixedTime().Add(skew), hook, body)
		}
	}
	with := func(secret string) forgery {
		return func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			return signedRequest(secret, fixedTime(), hook, body)
		}
	}
	target := func(method, query string) forgery {
		return func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			r := genuineRequest(ep, hook, body)
			r.Method, r.URL.RawQuery = method, query
			return r
		}
	}
	timestamp := func(written string) forgery {
		return func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			r := genuineRequest(ep, hook, body)
			r.Header.Set("X-Slack-Request-Timestamp", written)
			r.Header.Set("X-Slack-Signature", signature(signingSecret, written, body))
			return r
		}
	}
	now := strconv.FormatInt(fixedTime().Unix(), 10)
	return map[string]forgery{
		"no headers":     header(func(h http.Header) { clear(h) }),
		"no signature":   header(func(h http.Header) { h.Del("X-Slack-Signature") }),
		"no timestamp":   header(func(h http.Header) { h.Del("X-Slack-Request-Timestamp") }),
		"two signatures": header(func(h http.Header) { h.Add("X-Slack-Signature", h.Get("X-Slack-Signature")) }),
		"without v 0":    header(func(h http.Header) { h.Set("X-Slack-Signature", h.Get("X-Slack-Signature")[3:]) }),
		"V1":             header(func(h http.Header) { h.Set("X-Slack-Signature", "v1"+h.Get("X-Slack-Signature")[2:]) }),
		"upper case hex": header(func(h http.Header) {
			h.Set("X-Slack-Signature", "v0="+strings.ToUpper(h.Get("X-Slack-Signature")[3:]))
		}),
		"other timestamp": header(
			func(h http.Header) { h.Set("X-Slack-Request-Timestamp", strconv.FormatInt(fixedTime().Unix()+1, 10)) },
		),
		"stale":                at(-301 * time.Second),
		"from the future":      at(301 * time.Second),
		"timestamp with plus":  timestamp("+" + now),
		"timestamp with blank": timestamp(now + " "),
		"timestamp in hex":     timestamp("0x6740"),
		"other secret":         with("0f742231b10e8888abcd99d0e1f285a5"),
		"empty secret":         with(""),
		"other body": func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
			r := genuineRequest(ep, hook, body)
			r.Body = http.NoBody
			return r
		},
		"GET":              target(http.MethodGet, ""),
		"query":            target(http.MethodPost, "ssl_check=1"),
		"payload in query": target(http.MethodPost, url.Values{"payload": {"{}"}}.Encode()),
		"other app": func(ep adapters.Endpoint, hook string, _ []byte) *http.Request {
			return genuineRequest(
				ep,
				hook,
				[]byte("api_app_id=A0OTHER001&team_id="+teamID+"&user_id=U061F7AUR&command=%2Fclaim&text=WDJBMJ"),
			)
		},
	}
}

// newSimulator starts a simulated Slack with the app of the tests, and returns an adapter that
// calls it.
func newSimulator(t *testing.T) (*simulator.Slack, *slack.Adapter) {
	t.Helper()
	s := simulator.NewSlack()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.SetURL(server.URL)
	s.AddApp(simulator.SlackApp{
		AppID:         appID,
		TeamID:        teamID,
		TeamName:      "Example",
		BotUserID:     botUserID,
		BotID:         "B0LAN0Z90",
		Token:         botToken,
		SigningSecret: signingSecret,
		AppToken:      appToken,
	})
	s.AddUser(steve)
	return s, &slack.Adapter{APIURL: s.APIURL(), HTTP: server.Client(), Now: fixedTime}
}

func TestAdapter(t *testing.T) {
	s, adapter := newSimulator(t)
	recorded := *adapter
	recorded.APIURL = "" // recorded requests come from Slack itself
	reports := func(code string) func() {
		return func() {
			s.Arm("chat.postMessage", simulator.Fault{Status: 200, Body: `{"ok":false,"error":"` + code + `"}`})
		}
	}
	fault := func(f simulator.Fault) func() { return func() { s.Arm("chat.postMessage", f) } }
	wait := http.Header{"Retry-After": {"30"}}
	adaptertest.Run(t, adaptertest.Subject{
		Adapter:        splitAdapter{Adapter: adapter, receiver: &recorded},
		Endpoint:       endpoint(),
		Request:        genuineRequest,
		Forgeries:      forgeries(),
		CredentialKeys: []string{adapters.SigningSecret},
		To:             steve.Chat(),
		Chat:           adapters.Chat{ID: s.DM(appID, steve)},
		SentTexts: func() []string {
			var texts []string
			for _, l := range s.Replies("") {
				texts = append(texts, l.Text)
			}
			return texts
		},
		Faults: map[string]adaptertest.Fault{
			"rate limited": {
				Arm:        fault(simulator.Fault{Status: 429, Header: wait, Body: `{"ok":false,"error":"ratelimited"}`}),
				Reason:     adapters.Throttled,
				RetryAfter: 30 * time.Second,
			},
			"rate limited no header": {Arm: fault(simulator.Fault{Status: 429}), Reason: adapters.Throttled},
			"rate limited odd wait": {
				Arm:    fault(simulator.Fault{Status: 429, Header: http.Header{"Retry-After": {"soon"}}}),
				Reason: adapters.Throttled,
			},
			"rate limited in 200": {Arm: reports("ratelimited"), Reason: adapters.Throttled},
			"internal error":      {Arm: fault(simulator.Fault{Status: 500}), Reason: adapters.Unreachable},
			"unavailable":         {Arm: fault(simulator.Fault{Status: 503, Body: "<html>"}), Reason: adapters.Unreachable},
			"HTML": {
				Arm:    fault(simulator.Fault{Status: 200, Body: "<html>maintenance</html>"}),
				Reason: adapters.Unreachable,
			},
			"ok false alone": {
				Arm:    fault(simulator.Fault{Status: 200, Body: `{"ok":false}`}),
				Reason: adapters.Unreachable,
			},
			"half": {
				Arm:    fault(simulator.Fault{Status: 200, Body: `{"ok":true,"ts":"17`}),
				Reason: adapters.Ambiguous,
			},
			"redirected": {
				Arm:    fault(simulator.Fault{Status: 302, Header: http.Header{"Location": {"http://127.0.0.1:1/"}}}),
				Reason: adapters.Refused,
			},
			"hang": {
				Arm:     fault(simulator.Fault{Hang: true}),
				Reason:  adapters.Ambiguous,
				Timeout: 300 * time.Millisecond,
			},
			"connection cut":        {Arm: fault(simulator.Fault{Cut: true}), Reason: adapters.Ambiguous},
			"fatal error":           {Arm: reports("fatal_error"), Reason: adapters.Ambiguous},
			"invalid auth":          {Arm: reports("invalid_auth"), Reason: adapters.BadSecret},
			"token revoked":         {Arm: reports("token_revoked"), Reason: adapters.BadSecret},
			"account inactive":      {Arm: reports("account_inactive"), Reason: adapters.BadSecret},
			"not authed":            {Arm: reports("not_authed"), Reason: adapters.BadSecret},
			"missing scope":         {Arm: reports("missing_scope"), Reason: adapters.BadSecret},
			"new code":              {Arm: reports("brand_new_code"), Reason: adapters.Refused},
			"code with URL":         {Arm: reports("https://evil.example/hello"), Reason: adapters.Refused},
			"user gone":             {Arm: reports("user_not_found"), Reason: adapters.Blocked},
			"user disabled":         {Arm: reports("user_disabled"), Reason: adapters.Blocked},
			"messages tab disabled": {Arm: reports("messages_tab_disabled"), Reason: adapters.Blocked},
			"cannot DM bot":         {Arm: reports("cannot_dm_bot"), Reason: adapters.Blocked},
		},
	})
}

// splitAdapter receives as if from Slack and sends to the simulator.
type splitAdapter struct {
	adapters.Adapter
	receiver adapters.Adapter
}

func (s splitAdapter) Receive(r *http.Request, ep adapters.Endpoint, hook string) (adapters.Inbound, error) {
	return s.receiver.Receive(r, ep, hook)
}
