package api

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"hydragate/cmd/hydragate/app"
	"hydragate/cmd/hydragate/app/tracetest"
	"hydragate/e2e/harness"
	"hydragate/identity"
	"hydragate/store"
	"hydragate/store/keyring"
)

// A canary is a secret, and where it may be seen all the same.
type canary struct {
	name, secret string
	stored       bool // in the database, as it is: it is there to be read again
}

// secretEncodings are six ways in which a text lies about: as it is, in a URL, in base64, in hex,
// in JSON, and in the other case.
func secretEncodings(secret string) map[string]string {
	quoted, _ := json.Marshal(secret)
	turned := strings.ToUpper(secret)
	if turned == secret {
		turned = strings.ToLower(secret)
	}
	return map[string]string{
		"as it is": secret, "in a URL": url.QueryEscape(secret), "in base64": strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "=")[:len(secret)],
		"in hex": hex.EncodeToString([]byte(secret)), "in JSON": strings.Trim(string(quoted), `"`), "in the other case": turned,
	}
}

// findSecrets gives where canaries are in places in which they must not be.
func findSecrets(canaries []canary, places map[string][]byte) (where []string) {
	for place, content := range places {
		for _, c := range canaries {
			if c.stored && (place == "database" || place == "files") {
				continue
			}
			for way, s := range secretEncodings(c.secret) {
				if at := bytes.Index(content, []byte(s)); at >= 0 {
					where = append(where, fmt.Sprintf("%s, %s, in the %s: …%q…", c.name, way, place, content[max(0, at-80):at]))
				}
			}
		}
	}
	slices.Sort(where)
	return where
}

// TestNoSecretLeaks runs the program at its most talkative with secrets that are
// known here, calls every route rightly and wrongly, and has providers answer with the
// secrets that they were sent. Then it looks for them, in six spellings, in all that the
// program says and keeps. One that is planted in each place is found.
func TestNoSecretLeaks(t *testing.T) {
	harness.ParallelUnlessFull(t)
	for _, c := range []struct{ engine, format string }{{"sqlite", "json"}, {"postgres", "text"}} {
		t.Run(c.engine+","+c.format, func(t *testing.T) {
			t.Parallel()
			testSecretLeaks(t, c.engine, c.format)
		})
	}
}

// A echoingProvider is a provider that refuses every call and repeats all that it was sent.
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
	said := fmt.Sprintf("%s %s %s %s %s", r.URL.Path, auth, password, strings.TrimPrefix(auth, "Bearer "), body)
	status := []int{400, 401, 403, 404, 429, 500, 503}[n%7]
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"ok": false, "error_code": status, "description": said, "error": said, "code": 20003, "message": said, "more_info": said, "status": status})
}

func testSecretLeaks(t *testing.T, engine, format string) {
	collector := tracetest.NewCollector(t)
	agent := &harness.FakeApp{}
	agentServer := httptest.NewServer(agent)
	t.Cleanup(agentServer.Close)
	birds := &echoingProvider{}
	parrots := httptest.NewServer(birds)
	t.Cleanup(parrots.Close)

	providers := harness.StartProviders(t.Cleanup, 0)
	providers.AddAccounts()
	h := &harness.APIFixture{T: t, AdminKey: "canary-" + identity.NewToken("hg_admin_"), Providers: providers.Settings()}
	master := keyring.GenerateKey("k1")
	dir := t.TempDir()
	env := []string{"HYDRAGATE_LISTEN=127.0.0.1:0", "HYDRAGATE_DATA_DIR=" + filepath.Join(dir, "data"), "HYDRAGATE_ADMIN_KEY=" + h.AdminKey, "HYDRAGATE_MASTER_KEYS=" + master, "HYDRAGATE_LOG_LEVEL=debug",
		"HYDRAGATE_LOG_FORMAT=" + format, "HYDRAGATE_AGENT_ALLOW_PRIVATE=true", "OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "PATH=" + os.Getenv("PATH")}
	dsn := filepath.Join(dir, "data", "hydragate.db")
	if engine == "postgres" {
		dsn = harness.CreateDatabase(t, harness.TestPostgresURL(t))
		env = append(env, "HYDRAGATE_DATABASE_URL="+dsn, "HYDRAGATE_REDIS_URL="+os.Getenv("HYDRAGATE_TEST_REDIS"))
	}
	log := filepath.Join(dir, "log")
	first := startLoggedGateway(t, append(env, harness.Env(h.Providers)...), log)
	h.API = harness.NewClient("http://"+first.Addr, h.AdminKey, harness.EventTimeout)
	ring, err := keyring.Parse(master)
	h.Must(err)
	h.Store, err = store.Open(t.Context(), dsn, ring)
	h.Must(err)
	t.Cleanup(h.Store.Close)
	h.DB = harness.OpenDatabase(t, dsn)
	h.Exec(`insert into tenants (id, name) values ($1, 'strange')`, harness.OtherTenantID)
	h.Operations = harness.ReadOperations(t, h.API.URL)

	_, masterKey, _ := strings.Cut(master, ":")
	f := &secretScan{APIFixture: h, errorBodies: &bytes.Buffer{}, canaries: []canary{
		{"admin key", h.AdminKey, false}, {"master key", masterKey, false}, {"bot token", harness.TelegramToken, false}, {"auth token", harness.TwilioToken, false}, {"Slack token", harness.SlackToken, false}, {"signing secret", harness.SlackSecret, false},
	}}
	f.callAll()
	f.exchangeMessages(agentServer.URL, agent)
	h.Must(first.Stop())

	// The same again, with providers who refuse and repeat what they hear.
	loud := app.Settings{TelegramAPIURL: parrots.URL, TwilioAPIURL: parrots.URL, SlackAPIURL: parrots.URL + "/api/"}
	second := startLoggedGateway(t, append(env, harness.Env(loud)...), log)
	h.API.URL = "http://" + second.Addr
	f.callAll()
	for range 7 { // a parrot refuses in seven ways
		for _, op := range h.Operations {
			if strings.HasPrefix(op.ID, "set_up_") {
				f.recordResponse(f.Send(f.ValidRequest(op, f.CreateEntities(harness.TestTenantID))))
			}
		}
	}
	f.readPublicPages()
	h.Must(second.Stop())
	if birds.calls < 28 {
		t.Errorf("the providers heard only %d calls", birds.calls)
	}
	if routes := len(f.called); routes != len(h.Operations) {
		t.Errorf("%d of %d routes were called", routes, len(h.Operations))
	}

	places := f.collectPlaces(dir, log, engine, collector, agent)
	for _, where := range findSecrets(f.canaries, places) {
		t.Error(where)
	}
	// The control: planted anywhere, in any spelling, it is found.
	planted := canary{"planted", "canary-planted/+=&é\"" + h.UniqueDigits(), false}
	ways := 0
	for place, content := range places {
		if len(content) == 0 {
			t.Errorf("nothing is in the %s", place)
		}
		for way, s := range secretEncodings(planted.secret) {
			ways++
			if len(findSecrets([]canary{planted}, map[string][]byte{place: append(slices.Clip(content), s...)})) == 0 {
				t.Errorf("planted in the %s, %s, it is not found", place, way)
			}
		}
	}
	t.Logf("%d secrets, %d places (%s), six spellings: 0 found; %d of %d planted found; %d calls of %d routes", len(f.canaries), len(places), strings.Join(harness.SortedKeys(places), ", "), ways, ways, f.calls, len(f.called))
}

// startLoggedGateway runs the program.
func startLoggedGateway(t *testing.T, env []string, logFile string) *harness.Process {
	t.Helper()
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("hydragate", "serve")
	cmd.Env = env
	p, err := harness.StartProcess(t.Context(), cmd, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// A secretScan is all canaries of a run, and what was said where they flew by.
type secretScan struct {
	*harness.APIFixture
	canaries    []canary
	errorBodies *bytes.Buffer // bodies of answers that say no
	publicPages bytes.Buffer  // what anybody may read
	called      map[string]bool
	calls       int
}

func (f *secretScan) add(what, secret string, kept bool) string {
	f.canaries = append(f.canaries, canary{what, secret, kept})
	return secret
}

// callAll calls every route rightly, and wrongly with secrets all over.
func (f *secretScan) callAll() {
	if f.called == nil {
		f.called = map[string]bool{}
	}
	admin := f.AdminKey
	defer func() { f.AdminKey = admin }()
	for _, op := range f.Operations {
		if f.called[op.ID] && !harness.FullRun() && op.Body == nil {
			continue // once is enough where nothing is sent
		}
		th := f.CreateEntities(harness.TestTenantID)
		f.add("agent secret", th.AgentKey, false)
		f.AdminKey = f.add("API key", f.CreateScopedKey(identity.Scopes...).Token, false) // one for each, so that none calls too often
		if _, needs := op.RequiredChannel(); needs && f.called[op.ID] {
			continue // nothing can be set up with who refuses
		}
		right := f.ValidRequest(op, th)
		if op.Param("Idempotency-Key") != nil {
			right.Header.Set("Idempotency-Key", f.add("idempotency key", "idem-"+identity.NewToken(""), true))
		}
		secret := f.add("what was sent wrongly", "canary-"+identity.NewToken(""), false)
		for _, c := range f.invalidCalls(op, right, secret) {
			f.recordResponse(f.Send(c))
		}
		a := f.Send(right)
		f.recordResponse(a)
		f.called[op.ID] = true
		if a.Status >= 500 && a.Status != 503 {
			f.T.Errorf("%s: %d %s", op.ID, a.Status, a.Body)
		}
		var made map[string]any
		if json.Unmarshal([]byte(a.Body), &made) == nil {
			for _, name := range []string{"key", "agent_secret_key", "webhook_secret", "code"} {
				if s, ok := made[name].(string); ok {
					f.add(name+" of "+op.ID, s, false)
				}
			}
		}
	}
}

// invalidCalls gives calls that are refused, with a secret wherever one can be put.
func (f *secretScan) invalidCalls(op *harness.APIOperation, right harness.APIRequest, secret string) []harness.APIRequest {
	with := func(change func(c *harness.APIRequest)) harness.APIRequest {
		c := right
		c.Header = right.Header.Clone()
		c.Header.Del("Idempotency-Key")
		change(&c)
		return c
	}
	join := map[bool]string{true: "&", false: "?"}[strings.Contains(right.Path, "?")]
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
				continue // it would be taken
			}
			calls = append(calls, with(func(c *harness.APIRequest) { c.Body = withField(f.APIFixture, c.Body, name, value) }))
		}
	}
	return append(calls, with(func(c *harness.APIRequest) { c.Body = secret }), with(func(c *harness.APIRequest) { c.Body = `"` + secret + `"` }), with(func(c *harness.APIRequest) { c.Body = strings.TrimSuffix(c.Body, "}") + `,"x":"` + secret }))
}

func (f *secretScan) recordResponse(a harness.Response) {
	f.calls++
	if a.Status >= 400 {
		f.errorBodies.WriteString(a.Body + "\n")
		_ = a.Header.Write(f.errorBodies)
	}
}

// exchangeMessages has a person write to the bot and the agent answer, so that there are messages,
// deliveries and replies.
func (f *secretScan) exchangeMessages(agentURL string, agent *harness.FakeApp) {
	f.T.Helper()
	a := f.CallAs(f.AdminKey, "POST", "/v1/instances", f.EncodeJSON(map[string]any{"name": "talk", "agent_url": agentURL + "/events"}))
	made := f.DecodeObject(a.Body)
	agent.Update(func() { agent.Secret = fmt.Sprint(made["webhook_secret"]) })
	f.add("agent secret", fmt.Sprint(made["agent_secret_key"]), false)
	f.add("webhook secret", fmt.Sprint(made["webhook_secret"]), false)
	instance := fmt.Sprint(made["id"])
	a = f.CallAs(f.AdminKey, "POST", "/v1/instances/"+instance+"/channels/telegram", f.EncodeJSON(map[string]any{"bot_token": harness.TelegramToken}))
	if a.Status != 200 {
		f.T.Fatalf("set up: %d %s", a.Status, a.Body)
	}
	text := "a message canary " + identity.NewToken("")
	seat, err := f.Store.EndpointState(f.T.Context(), harness.TestTenantID, instance, "telegram")
	f.Must(err)
	secret := f.add("hook secret", seat.Credentials["webhook_secret"], false)
	update := `{"update_id":1,"message":{"message_id":1,"date":1763776800,"chat":{"id":4711,"type":"private"},"from":{"id":4711,"is_bot":false,"first_name":"Steve"},"text":` + f.EncodeJSON(text) + `}}`
	hook := harness.APIRequest{Method: "POST", Path: "/hooks/telegram/" + instance, Body: update, Header: http.Header{"X-Telegram-Bot-Api-Secret-Token": {secret}}}
	if a := f.Send(hook); a.Status != 200 {
		f.T.Fatalf("hook: %d %s", a.Status, a.Body)
	}
	harness.Eventually(f.T, "the agent hears it", func() (heard bool) {
		agent.Update(func() { heard = len(agent.Events) > 0 })
		return heard
	})
	forged := hook
	forged.Header = http.Header{"X-Telegram-Bot-Api-Secret-Token": {f.add("forged secret", "forged-"+identity.NewToken(""), false)}}
	f.recordResponse(f.Send(forged))
	f.canaries = append(f.canaries, canary{"message text", text, true})
}

// readPublicPages reads what anybody may read.
func (f *secretScan) readPublicPages() {
	for _, path := range []string{"/metrics", "/openapi.json", "/docs", "/healthz", "/readyz"} {
		a := f.Send(harness.APIRequest{Method: "GET", Path: path, Body: "", Header: http.Header{}})
		f.publicPages.WriteString(a.Body)
	}
}

var textFieldPattern = regexp.MustCompile(`"text":"[^"]*"`)

// collectPlaces gives all that was said and kept.
func (f *secretScan) collectPlaces(dir, log, engine string, collector *tracetest.Collector, agent *harness.FakeApp) map[string][]byte {
	f.T.Helper()
	places := map[string][]byte{"errors": f.errorBodies.Bytes(), "open pages": f.publicPages.Bytes(), "database": []byte(strings.Join(f.AllRows(""), "\n"))}
	var err error
	places["log"], err = os.ReadFile(log)
	f.Must(err)
	collector.Mu.Lock()
	places["traces"] = bytes.Clone(collector.Raw)
	collector.Mu.Unlock()
	agent.Update(func() {
		for _, e := range agent.Events { // what the person said is what the agent is for
			places["agent"] = append(places["agent"], textFieldPattern.ReplaceAll(e.Body, []byte(`"text":""`))...)
		}
	})
	if engine == "sqlite" {
		places["files"] = nil
		for _, name := range []string{"hydragate.db", "hydragate.db-wal"} {
			b, err := os.ReadFile(filepath.Join(dir, "data", name))
			if err == nil {
				places["files"] = append(places["files"], b...)
			}
		}
	} else if places["redis"], err = harness.DumpTestRedis(); err != nil {
		f.T.Fatal(err)
	}
	return places
}
