package api

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"hydragate/cmd/hydragate/app"
	"hydragate/cmd/hydragate/app/tracetest"
	"hydragate/e2e/harness"
	"hydragate/identity"
)

// A canary is a secret that must not appear in any output.
type canary struct {
	name, secret string
	stored       bool // may be in the database in plain text
}

// secretEncodings returns six encodings of a secret: plain, URL, base64, hex, JSON and the other
// letter case.
func secretEncodings(secret string) map[string]string {
	quoted, _ := json.Marshal(secret)
	otherCase := strings.ToUpper(secret)
	if otherCase == secret {
		otherCase = strings.ToLower(secret)
	}
	return map[string]string{
		"plain":      secret,
		"URL":        url.QueryEscape(secret),
		"base64":     strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "=")[:len(secret)],
		"hex":        hex.EncodeToString([]byte(secret)),
		"JSON":       strings.Trim(string(quoted), `"`),
		"other case": otherCase,
	}
}

// findSecrets returns a description of each canary that occurs in a place where it must not, and where it
// occurs.
func findSecrets(canaries []canary, places map[string][]byte) map[string]string {
	found := map[string]string{}
	for place, content := range places {
		names := map[string][]string{} // of the canaries and encodings, by encoded secret
		for _, c := range canaries {
			if c.stored && (place == "database" || place == "files") {
				continue
			}
			for encoding, s := range secretEncodings(c.secret) {
				names[s] = append(names[s], foundSecret(c.name, encoding, place))
			}
		}
		harness.FindTexts(content, slices.Collect(maps.Keys(names)), func(s string, at int) {
			for _, name := range names[s] {
				found[name] = string(content[max(0, at-80):at])
			}
		})
	}
	return found
}

func foundSecret(name, encoding, place string) string {
	return fmt.Sprintf("%s, %s, in %s", name, encoding, place)
}

// TestNoSecretLeaks runs the gateway at log level debug with known secrets, sends valid and
// invalid requests to every route, and lets providers repeat the secrets in their responses. It
// then searches logs, traces, responses, the database and Redis for the secrets in six encodings.
// As a control, a secret planted in each place must be found.
func TestNoSecretLeaks(t *testing.T) {
	harness.ParallelUnlessFull(t)
	for _, c := range []struct {
		engine harness.Engine
		format string
	}{{harness.SQLite, "json"}, {harness.Postgres, "text"}} {
		t.Run(string(c.engine)+","+c.format, func(t *testing.T) {
			t.Parallel()
			testSecretLeaks(t, c.engine, c.format)
		})
	}
}

// An echoingProvider is a provider that rejects every call and repeats the request in the
// response.
type echoingProvider struct {
	mu    sync.Mutex
	calls int
}

func (p *echoingProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.calls++
	n := p.calls
	p.mu.Unlock()
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	auth := r.Header.Get("Authorization")
	_, password, _ := r.BasicAuth()
	echo := fmt.Sprintf("%s %s %s %s %s", r.URL.Path, auth, password, strings.TrimPrefix(auth, "Bearer "), body)
	status := []int{400, 401, 403, 404, 429, 500, 503}[n%7]
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"ok": false, "error_code": status, "description": echo, "error": echo,
		"code": 20003, "message": echo, "more_info": echo, "status": status,
	})
}

// testSecretLeaks runs TestNoSecretLeaks on one engine with one log format.
func testSecretLeaks(t *testing.T, engine harness.Engine, format string) {
	collector := tracetest.NewCollector(t)
	echo := &echoingProvider{}
	echoURL := harness.ServeHTTP(t.Cleanup, echo)
	admin := "canary-" + identity.NewToken("hg_admin_")
	h := harness.NewAPIFixture(t, harness.Options{Engine: engine, Settings: func(s *app.Settings) {
		s.AdminKey, s.LogLevel, s.LogFormat, s.OTLPEndpoint = admin, "debug", format, collector.URL
	}})
	h.AdminKey = admin
	_, masterKey, _ := strings.Cut(h.Settings.MasterKeys, ":")
	f := &secretScan{APIFixture: h, errorBodies: &bytes.Buffer{}, canaries: []canary{
		{"admin key", h.AdminKey, false},
		{"master key", masterKey, false},
		{"bot token", harness.TelegramToken, false},
		{"auth token", harness.TwilioToken, false},
		{"Slack token", harness.SlackToken, false},
		{"signing secret", harness.SlackSecret, false},
	}}
	f.callAll()
	f.exchangeMessages()
	h.Must(h.Replicas()[0].Stop())

	// Repeat the requests with providers that reject every call and repeat it.
	echoing := app.Settings{
		TelegramAPIURL: echoURL, TwilioAPIURL: echoURL, SlackAPIURL: echoURL + "/api/",
	}
	second := h.Restart(harness.Env(echoing)...)
	f.callAll()
	for range 7 { // an echoingProvider has seven statuses
		for _, op := range h.Operations {
			if strings.HasPrefix(op.ID, "set_up_") {
				f.recordResponse(f.Send(f.ValidRequest(op, f.CreateEntities(harness.TestTenantID))))
			}
		}
	}
	f.readPublicPages()
	h.Must(second.Stop())
	if echo.calls < 28 {
		t.Errorf("calls to providers = %d, want at least 28", echo.calls)
	}
	if routes := len(f.called); routes != len(h.Operations) {
		t.Errorf("called routes = %d, want %d", routes, len(h.Operations))
	}

	places := f.collectPlaces(collector)
	for name, before := range findSecrets(f.canaries, places) {
		t.Errorf("%s after %q", name, before)
	}
	// Control: a planted secret must be found in every place and encoding.
	planted := canary{"planted", "canary-planted/+=&é\"" + h.UniqueDigits(), false}
	withSecret := map[string][]byte{}
	for place, content := range places {
		if len(content) == 0 {
			t.Errorf("%s is empty", place)
		}
		withSecret[place] = slices.Clip(content)
		for _, s := range secretEncodings(planted.secret) {
			withSecret[place] = append(withSecret[place], "\n"+s...)
		}
	}
	checks, found := 0, findSecrets([]canary{planted}, withSecret)
	for place := range places {
		for encoding := range secretEncodings(planted.secret) {
			checks++
			if _, ok := found[foundSecret(planted.name, encoding, place)]; !ok {
				t.Errorf("secret planted in %s (%s) not found", place, encoding)
			}
		}
	}
	t.Logf("%d secrets, %d places (%s), six encodings; %d planted secrets; %d requests to %d routes",
		len(f.canaries), len(places), strings.Join(harness.SortedKeys(places), ", "), checks, f.calls, len(f.called))
}

// A secretScan holds the secrets of a run and the responses in which they must not appear.
type secretScan struct {
	*harness.APIFixture
	canaries    []canary
	errorBodies *bytes.Buffer // bodies and headers of error responses
	publicPages bytes.Buffer  // responses that need no authentication
	called      map[string]bool
	calls       int
}

// add registers a secret and returns it.
func (f *secretScan) add(name, secret string, stored bool) string {
	f.canaries = append(f.canaries, canary{name, secret, stored})
	return secret
}

// callAll sends a valid request and several invalid ones with secrets to every route.
func (f *secretScan) callAll() {
	if f.called == nil {
		f.called = map[string]bool{}
	}
	admin := f.AdminKey
	defer func() { f.AdminKey = admin }()
	for _, op := range f.Operations {
		if f.called[op.ID] && !harness.FullRun() && op.Body == nil {
			continue // a route without a body is called once
		}
		th := f.CreateEntities(harness.TestTenantID)
		f.add("agent secret", th.AgentKey, false)
		// Each route has its own key, so that no key exceeds the request limit.
		f.AdminKey = f.add("API key", f.CreateScopedKey(identity.Scopes...).Token, false)
		if _, needs := op.RequiredChannel(); needs && f.called[op.ID] {
			continue // an echoingProvider rejects the set-up
		}
		valid := f.ValidRequest(op, th)
		if op.Param("Idempotency-Key") != nil {
			valid.Header.Set("Idempotency-Key", f.add("idempotency key", "idem-"+identity.NewToken(""), true))
		}
		secret := f.add("secret in an invalid request", "canary-"+identity.NewToken(""), false)
		for _, c := range f.invalidCalls(op, valid, secret) {
			f.recordResponse(f.Send(c))
		}
		a := f.Send(valid)
		f.recordResponse(a)
		f.called[op.ID] = true
		if a.Status >= 500 && a.Status != 503 {
			f.T.Errorf("%s = %d %s, want no server error but 503", op.ID, a.Status, a.Body)
		}
		var response map[string]any
		if json.Unmarshal([]byte(a.Body), &response) == nil {
			for _, name := range []string{"key", "agent_secret_key", "webhook_secret", "code"} {
				if s, ok := response[name].(string); ok {
					f.add(name+" of "+op.ID, s, false)
				}
			}
		}
	}
}

// invalidCalls returns requests that are rejected, with a secret in every part of a request.
func (f *secretScan) invalidCalls(
	op *harness.APIOperation, valid harness.APIRequest, secret string,
) []harness.APIRequest {
	with := func(change func(c *harness.APIRequest)) harness.APIRequest {
		c := valid
		c.Header = valid.Header.Clone()
		c.Header.Del("Idempotency-Key")
		change(&c)
		return c
	}
	join := map[bool]string{true: "&", false: "?"}[strings.Contains(valid.Path, "?")]
	calls := []harness.APIRequest{
		with(func(c *harness.APIRequest) {
			c.Header = http.Header{"Authorization": {"Bearer " + secret}}
			c.Path += join + "token=" + secret
		}),
		with(func(c *harness.APIRequest) {
			c.Header = http.Header{"X-Api-Key": {secret}, "Agent-Secret-Key": {secret}}
		}),
		with(func(c *harness.APIRequest) { c.Method = "PROPFIND"; c.Path += join + "q=" + secret }),
		with(func(c *harness.APIRequest) { c.Path += "/" + secret }),
		with(func(c *harness.APIRequest) { c.Path += join + "limit=" + secret; c.Body = `{"` + secret }),
	}
	if op.Body == nil {
		return calls
	}
	for _, name := range harness.SortedKeys(op.Body.Properties) {
		for n, value := range []any{map[string]any{"a": secret}, []any{secret}, secret + "\x00"} {
			if !harness.FullRun() && (n+f.calls)%3 != 0 {
				continue
			}
			if _, isMap := value.(map[string]any); isMap && op.Body.Properties[name].IsType("object") {
				continue // the request would be valid
			}
			calls = append(calls, with(func(c *harness.APIRequest) {
				c.Body = withField(f.APIFixture, c.Body, name, value)
			}))
		}
	}
	return append(calls,
		with(func(c *harness.APIRequest) { c.Body = secret }),
		with(func(c *harness.APIRequest) { c.Body = `"` + secret + `"` }),
		with(func(c *harness.APIRequest) { c.Body = strings.TrimSuffix(c.Body, "}") + `,"x":"` + secret }),
	)
}

// recordResponse counts a response and records the body and the headers of an error.
func (f *secretScan) recordResponse(a harness.Response) {
	f.calls++
	if a.Status >= 400 {
		f.errorBodies.WriteString(a.Body + "\n")
		_ = a.Header.Write(f.errorBodies)
	}
}

// exchangeMessages sends a message to the bot and waits until the application receives it, so that
// the database contains messages, deliveries and replies.
func (f *secretScan) exchangeMessages() {
	f.T.Helper()
	a := f.CallAs(f.AdminKey, "POST", "/v1/instances", f.EncodeJSON(map[string]any{
		"name": "talk", "agent_url": f.App.URL + "/events",
	}))
	created := f.DecodeObject(a.Body)
	f.App.Update(func() { f.App.Secret = fmt.Sprint(created["webhook_secret"]) })
	f.add("agent secret", fmt.Sprint(created["agent_secret_key"]), false)
	f.add("webhook secret", fmt.Sprint(created["webhook_secret"]), false)
	instance := fmt.Sprint(created["id"])
	a = f.CallAs(f.AdminKey, "POST", "/v1/instances/"+instance+"/channels/telegram",
		f.EncodeJSON(map[string]any{"bot_token": harness.TelegramToken}))
	if a.Status != 200 {
		f.T.Fatalf("set up Telegram = %d %s, want 200", a.Status, a.Body)
	}
	text := "a message canary " + identity.NewToken("")
	endpoint, err := f.Store.EndpointState(f.T.Context(), harness.TestTenantID, instance, "telegram")
	f.Must(err)
	secret := f.add("webhook secret of Telegram", endpoint.Credentials["webhook_secret"], false)
	update := `{"update_id":1,"message":{"message_id":1,"date":1763776800,"chat":{"id":4711,"type":"private"},` +
		`"from":{"id":4711,"is_bot":false,"first_name":"Steve"},"text":` + f.EncodeJSON(text) + `}}`
	webhook := harness.APIRequest{
		Method: "POST", Path: "/hooks/telegram/" + instance, Body: update,
		Header: http.Header{"X-Telegram-Bot-Api-Secret-Token": {secret}},
	}
	if a := f.Send(webhook); a.Status != 200 {
		f.T.Fatalf("webhook = %d %s, want 200", a.Status, a.Body)
	}
	harness.Eventually(f.T, "the application receives the message", func() (received bool) {
		f.App.Update(func() { received = len(f.App.Events) > 0 })
		return received
	})
	forged := webhook
	guess := f.add("forged secret", "forged-"+identity.NewToken(""), false)
	forged.Header = http.Header{"X-Telegram-Bot-Api-Secret-Token": {guess}}
	f.recordResponse(f.Send(forged))
	f.canaries = append(f.canaries, canary{"message text", text, true})
}

// readPublicPages records the pages that need no authentication.
func (f *secretScan) readPublicPages() {
	for _, path := range []string{"/metrics", "/openapi.json", "/docs", "/healthz", "/readyz"} {
		a := f.Send(harness.APIRequest{Method: "GET", Path: path, Body: "", Header: http.Header{}})
		f.publicPages.WriteString(a.Body)
	}
}

var textFieldPattern = regexp.MustCompile(`"text":"[^"]*"`)

// collectPlaces returns everything that the gateway has written, by place.
func (f *secretScan) collectPlaces(collector *tracetest.Collector) map[string][]byte {
	f.T.Helper()
	places := map[string][]byte{
		"log": []byte(f.Log.String()), "errors": f.errorBodies.Bytes(), "public pages": f.publicPages.Bytes(),
		"database": []byte(strings.Join(f.AllRows(""), "\n")),
	}
	collector.Mu.Lock()
	places["traces"] = bytes.Clone(collector.Raw)
	collector.Mu.Unlock()
	f.App.Update(func() {
		for _, e := range f.App.Events { // the text of the message is meant for the application
			places["application"] = append(places["application"], textFieldPattern.ReplaceAll(e.Body, []byte(`"text":""`))...)
		}
	})
	var err error
	if f.IsPostgres() {
		places["redis"], err = harness.DumpTestRedis()
	} else {
		places["files"], err = harness.DumpFiles(f.Settings.DataDir)
	}
	f.Must(err)
	return places
}
