//go:build unix

package main

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

	"hydragate/identity"
	"hydragate/store"
)

// A canary is a secret, and where it may be seen all the same.
type canary struct {
	what, secret string
	kept         bool // in the database, as it is: it is there to be read again
}

// spelled are six ways in which a text lies about: as it is, in a URL, in base64, in hex,
// in JSON, and in the other case.
func spelled(secret string) map[string]string {
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

// sung gives where canaries are in places in which they must not be.
func sung(canaries []canary, places map[string][]byte) (where []string) {
	for place, content := range places {
		for _, c := range canaries {
			if c.kept && (place == "database" || place == "files") {
				continue
			}
			for way, s := range spelled(c.secret) {
				if at := bytes.Index(content, []byte(s)); at >= 0 {
					where = append(where, fmt.Sprintf("%s, %s, in the %s: …%q…", c.what, way, place, content[max(0, at-80):at]))
				}
			}
		}
	}
	slices.Sort(where)
	return where
}

// TestSecretsAreSungNowhere runs the program at its most talkative with secrets that are
// known here, calls every route rightly and wrongly, and has providers answer with the
// secrets that they were sent. Then it looks for them, in six spellings, in all that the
// program says and keeps. One that is planted in each place is found.
func TestSecretsAreSungNowhere(t *testing.T) {
	alongside(t)
	for _, c := range []struct{ engine, format string }{{"sqlite", "json"}, {"postgres", "text"}} {
		t.Run(c.engine+","+c.format, func(t *testing.T) {
			t.Parallel()
			testCanaries(t, c.engine, c.format)
		})
	}
}

// A parrot is a provider that refuses every call and repeats all that it was sent.
type parrot struct {
	mu    sync.Mutex
	heard int
}

func (p *parrot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.heard++
	n := p.heard
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

func testCanaries(t *testing.T, engine, format string) {
	collector := newPretendCollector(t)
	agent := &mind{}
	agentServer := httptest.NewServer(agent)
	t.Cleanup(agentServer.Close)
	birds := &parrot{}
	parrots := httptest.NewServer(birds)
	t.Cleanup(parrots.Close)

	h := &apiHouse{t: t, admin: "canary-" + identity.NewToken("hg_admin_"), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}, providers: pretendProviders(t)}
	t.Cleanup(h.client.CloseIdleConnections)
	master := store.NewMasterKey("k1")
	dir := t.TempDir()
	env := []string{"HYDRAGATE_LISTEN=127.0.0.1:0", "HYDRAGATE_DATA_DIR=" + filepath.Join(dir, "data"), "HYDRAGATE_ADMIN_KEY=" + h.admin, "HYDRAGATE_MASTER_KEYS=" + master, "HYDRAGATE_LOG_LEVEL=debug",
		"HYDRAGATE_LOG_FORMAT=" + format, "HYDRAGATE_AGENT_ALLOW_PRIVATE=true", "OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "PATH=" + os.Getenv("PATH")}
	h.url = filepath.Join(dir, "data", "hydragate.db")
	if engine == "postgres" {
		h.url = freshDatabase(t, testPostgres(t))
		env = append(env, "HYDRAGATE_DATABASE_URL="+h.url, "HYDRAGATE_REDIS_URL="+os.Getenv("HYDRAGATE_TEST_REDIS"))
	}
	log := filepath.Join(dir, "log")
	providersOf := func(s settings) []string {
		return []string{"HYDRAGATE_TELEGRAM_API_URL=" + s.TelegramAPIURL, "HYDRAGATE_TWILIO_API_URL=" + s.TwilioAPIURL, "HYDRAGATE_SLACK_API_URL=" + s.SlackAPIURL}
	}
	first := startCanary(t, append(env, providersOf(h.providers)...), log)
	h.base = "http://" + first.addr
	ring, err := store.ParseKeyRing(master)
	h.must(err)
	h.store, err = store.Open(t.Context(), h.url, ring)
	h.must(err)
	t.Cleanup(h.store.Close)
	h.sql = openDatabase(t, h.url)
	h.exec(`insert into tenants (id, name) values ($1, 'strange')`, strangeTenant)
	h.ops = readDocument(t, h.base)

	_, masterKey, _ := strings.Cut(master, ":")
	f := &flock{apiHouse: h, errors: &bytes.Buffer{}, all: []canary{
		{"admin key", h.admin, false}, {"master key", masterKey, false}, {"bot token", telegramToken, false}, {"auth token", twilioToken, false}, {"Slack token", slackToken, false}, {"signing secret", slackSecret, false},
	}}
	f.callAll()
	f.talk(agentServer.URL, agent)
	h.must(first.stop())

	// The same again, with providers who refuse and repeat what they hear.
	loud := settings{TelegramAPIURL: parrots.URL, TwilioAPIURL: parrots.URL, SlackAPIURL: parrots.URL + "/api/"}
	second := startCanary(t, append(env, providersOf(loud)...), log)
	h.base = "http://" + second.addr
	f.callAll()
	for range 7 { // a parrot refuses in seven ways
		for _, op := range h.ops {
			if strings.HasPrefix(op.id, "set_up_") {
				f.note(f.send(f.clean(op, f.furnish(proofTenant))))
			}
		}
	}
	f.scrape()
	h.must(second.stop())
	if birds.heard < 28 {
		t.Errorf("the providers heard only %d calls", birds.heard)
	}
	if routes := len(f.called); routes != len(h.ops) {
		t.Errorf("%d of %d routes were called", routes, len(h.ops))
	}

	places := f.places(dir, log, engine, collector, agent)
	for _, where := range sung(f.all, places) {
		t.Error(where)
	}
	// The control: planted anywhere, in any spelling, it is found.
	planted := canary{"planted", "canary-planted/+=&é\"" + h.unique(), false}
	ways := 0
	for place, content := range places {
		if len(content) == 0 {
			t.Errorf("nothing is in the %s", place)
		}
		for way, s := range spelled(planted.secret) {
			ways++
			if len(sung([]canary{planted}, map[string][]byte{place: append(slices.Clip(content), s...)})) == 0 {
				t.Errorf("planted in the %s, %s, it is not found", place, way)
			}
		}
	}
	t.Logf("%d secrets, %d places (%s), six spellings: 0 found; %d of %d planted found; %d calls of %d routes", len(f.all), len(places), strings.Join(sortedNames(places), ", "), ways, ways, f.calls, len(f.called))
}

// startCanary runs the program.
func startCanary(t *testing.T, env []string, logFile string) *process {
	t.Helper()
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	p := &process{cmd: exec.Command("hydragate", "serve"), ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Stderr = env, log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	line := make(chan string, 1)
	go func() {
		defer close(p.ended)
		all, buf := []byte{}, make([]byte, 1)
		for {
			n, err := out.Read(buf)
			if all = append(all, buf[:n]...); bytes.HasSuffix(all, []byte("\n")) || err != nil {
				break
			}
		}
		line <- string(all)
		_, _ = io.Copy(io.Discard, out)
		p.err = p.cmd.Wait()
	}()
	if err := p.listen(line); err != nil {
		t.Fatal(err)
	}
	return p
}

// A flock is all canaries of a run, and what was said where they flew by.
type flock struct {
	*apiHouse
	all    []canary
	errors *bytes.Buffer // bodies of answers that say no
	open   bytes.Buffer  // what anybody may read
	called map[string]bool
	calls  int
}

func (f *flock) add(what, secret string, kept bool) string {
	f.all = append(f.all, canary{what, secret, kept})
	return secret
}

// callAll calls every route rightly, and wrongly with secrets all over.
func (f *flock) callAll() {
	if f.called == nil {
		f.called = map[string]bool{}
	}
	admin := f.admin
	defer func() { f.admin = admin }()
	for _, op := range f.ops {
		if f.called[op.id] && !long() && op.body == nil {
			continue // once is enough where nothing is sent
		}
		th := f.furnish(proofTenant)
		f.add("agent secret", th.agentKey, false)
		f.admin = f.add("API key", f.holding(identity.Scopes...).token, false) // one for each, so that none calls too often
		if _, needs := op.channel(); needs && f.called[op.id] {
			continue // nothing can be set up with who refuses
		}
		right := f.clean(op, th)
		if op.param("Idempotency-Key") != nil {
			right.header.Set("Idempotency-Key", f.add("idempotency key", "idem-"+identity.NewToken(""), true))
		}
		secret := f.add("what was sent wrongly", "canary-"+identity.NewToken(""), false)
		for _, c := range f.wrongly(op, right, secret) {
			f.note(f.send(c))
		}
		a := f.send(right)
		f.note(a)
		f.called[op.id] = true
		if a.status >= 500 && a.status != 503 {
			f.t.Errorf("%s: %d %s", op.id, a.status, a.body)
		}
		var made map[string]any
		if json.Unmarshal([]byte(a.body), &made) == nil {
			for _, name := range []string{"key", "agent_secret_key", "webhook_secret", "code"} {
				if s, ok := made[name].(string); ok {
					f.add(name+" of "+op.id, s, false)
				}
			}
		}
	}
}

// wrongly gives calls that are refused, with a secret wherever one can be put.
func (f *flock) wrongly(op *apiOp, right apiCall, secret string) []apiCall {
	with := func(change func(c *apiCall)) apiCall {
		c := right
		c.header = right.header.Clone()
		c.header.Del("Idempotency-Key")
		change(&c)
		return c
	}
	join := map[bool]string{true: "&", false: "?"}[strings.Contains(right.path, "?")]
	calls := []apiCall{
		with(func(c *apiCall) {
			c.header = http.Header{"Authorization": {"Bearer " + secret}}
			c.path += join + "token=" + secret
		}),
		with(func(c *apiCall) { c.header = http.Header{"X-Api-Key": {secret}, "Agent-Secret-Key": {secret}} }),
		with(func(c *apiCall) { c.method = "PROPFIND"; c.path += join + "q=" + secret }),
		with(func(c *apiCall) { c.path += "/" + secret }),
		with(func(c *apiCall) { c.path += join + "limit=" + secret; c.body = `{"` + secret }),
	}
	if op.body == nil {
		return calls
	}
	for _, name := range sortedNames(op.body.Properties) {
		for n, value := range []any{map[string]any{"a": secret}, []any{secret}, secret + "\x00"} {
			if !long() && (n+f.calls)%3 != 0 {
				continue
			}
			if _, isMap := value.(map[string]any); isMap && op.body.Properties[name].is("object") {
				continue // it would be taken
			}
			calls = append(calls, with(func(c *apiCall) { c.body = withField(f.apiHouse, c.body, name, value) }))
		}
	}
	return append(calls, with(func(c *apiCall) { c.body = secret }), with(func(c *apiCall) { c.body = `"` + secret + `"` }), with(func(c *apiCall) { c.body = strings.TrimSuffix(c.body, "}") + `,"x":"` + secret }))
}

func (f *flock) note(a said) {
	f.calls++
	if a.status >= 400 {
		f.errors.WriteString(a.body + "\n")
		_ = a.header.Write(f.errors)
	}
}

// talk has a person write to the bot and the agent answer, so that there are messages,
// deliveries and replies.
func (f *flock) talk(agentURL string, agent *mind) {
	f.t.Helper()
	a := f.as(f.admin, "POST", "/v1/instances", f.json(map[string]any{"name": "talk", "agent_url": agentURL + "/events"}))
	made := f.fields(a.body)
	agent.set(func() { agent.secret = fmt.Sprint(made["webhook_secret"]) })
	f.add("agent secret", fmt.Sprint(made["agent_secret_key"]), false)
	f.add("webhook secret", fmt.Sprint(made["webhook_secret"]), false)
	instance := fmt.Sprint(made["id"])
	a = f.as(f.admin, "POST", "/v1/instances/"+instance+"/channels/telegram", f.json(map[string]any{"bot_token": telegramToken}))
	if a.status != 200 {
		f.t.Fatalf("set up: %d %s", a.status, a.body)
	}
	text := "a message canary " + identity.NewToken("")
	seat, err := f.store.Seat(f.t.Context(), proofTenant, instance, "telegram")
	f.must(err)
	secret := f.add("hook secret", seat.Credentials["webhook_secret"], false)
	update := `{"update_id":1,"message":{"message_id":1,"date":1763776800,"chat":{"id":4711,"type":"private"},"from":{"id":4711,"is_bot":false,"first_name":"Steve"},"text":` + f.json(text) + `}}`
	hook := apiCall{"POST", "/hooks/telegram/" + instance, update, http.Header{"X-Telegram-Bot-Api-Secret-Token": {secret}}}
	if a := f.send(hook); a.status != 200 {
		f.t.Fatalf("hook: %d %s", a.status, a.body)
	}
	eventually(f.t, "the agent hears it", func() (heard bool) {
		agent.set(func() { heard = len(agent.events) > 0 })
		return heard
	})
	forged := hook
	forged.header = http.Header{"X-Telegram-Bot-Api-Secret-Token": {f.add("forged secret", "forged-"+identity.NewToken(""), false)}}
	f.note(f.send(forged))
	f.all = append(f.all, canary{"message text", text, true})
}

// scrape reads what anybody may read.
func (f *flock) scrape() {
	for _, path := range []string{"/metrics", "/openapi.json", "/docs", "/healthz", "/readyz"} {
		a := f.send(apiCall{"GET", path, "", http.Header{}})
		f.open.WriteString(a.body)
	}
}

var spokenText = regexp.MustCompile(`"text":"[^"]*"`)

// places gives all that was said and kept.
func (f *flock) places(dir, log, engine string, collector *pretendCollector, agent *mind) map[string][]byte {
	f.t.Helper()
	places := map[string][]byte{"errors": f.errors.Bytes(), "open pages": f.open.Bytes(), "database": []byte(strings.Join(f.everyRow(""), "\n"))}
	var err error
	places["log"], err = os.ReadFile(log)
	f.must(err)
	collector.mu.Lock()
	places["traces"] = bytes.Clone(collector.raw)
	collector.mu.Unlock()
	agent.set(func() {
		for _, e := range agent.events { // what the person said is what the agent is for
			places["agent"] = append(places["agent"], spokenText.ReplaceAll(e.body, []byte(`"text":""`))...)
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
	} else if places["redis"], err = keys(); err != nil {
		f.t.Fatal(err)
	}
	return places
}
