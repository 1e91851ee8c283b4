//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
)

// TestIncidents replays what went wrong at others, each under the name by which it is
// known, against a whole gateway with every channel: what let somebody in there lets
// nobody in here, and what turned away genuine messages there is taken here. What
// needs two processes or broken engines is in TestIncidentsOfStores.
func TestIncidents(t *testing.T) {
	alongside(t)
	for name, incidents := range map[string][]incident{
		"senders": incidentsOfSenders, "hooks": incidentsOfHooks, "claims": incidentsOfClaims, "API": incidentsOfTheAPI,
	} {
		t.Run(name, func(t *testing.T) {
			onScenes(t, func(t *testing.T, s *scene) {
				for _, i := range incidents {
					t.Run(i.name, func(t *testing.T) {
						defer s.within(t)()
						i.replay(s)
					})
				}
			})
		})
	}
}

// An incident is something that happened elsewhere. Its name is the one it is known by.
type incident struct {
	name   string
	replay func(s *scene)
}

// A scene is a running gateway with every channel, an agent, staff, and a look into
// the database.
type scene struct {
	*demo
	t      *testing.T
	sql    *sql.DB
	people int64
	hops   *relay
}

// onScenes opens a scene on SQLite with the Redis built in, and one on Postgres with
// a Redis server.
func onScenes(t *testing.T, play func(t *testing.T, s *scene)) {
	t.Run("sqlite+embedded", func(t *testing.T) {
		openScene(t, func(c *settings) string { return filepath.Join(c.DataDir, "hydragate.db") }, play)
	})
	t.Run("postgres+redis", func(t *testing.T) {
		openScene(t, func(c *settings) string {
			c.DatabaseURL, c.RedisURL, c.MasterKeys = freshDatabase(t, testPostgres(t)), testRedis(t), "k1:"+base64.StdEncoding.EncodeToString(make([]byte, 32))
			return c.DatabaseURL
		}, play)
	})
}

func openScene(t *testing.T, on func(*settings) (database string), play func(t *testing.T, s *scene)) {
	ctx, cancel := context.WithTimeout(t.Context(), demoTime)
	defer cancel()
	p, err := pretend(0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.slack.Scale, p.telegram.Scale = 0.01, 0.1
	s := &scene{t: t, people: 600_000, hops: &relay{}, demo: &demo{console: console{out: io.Discard, err: io.Discard}, pretence: p, agent: newSampleAgent()}}
	s.hops.to = s.agent
	agent := httptest.NewServer(s.hops)
	defer agent.Close()
	s.agentURL = agent.URL
	settings := (&demoCmd{Script: true, LogLevel: "error"}).settings(t.TempDir(), p)
	database := on(settings)
	err = s.beside(ctx, settings, func(context.Context) error {
		s.sql = openDatabase(t, database)
		play(t, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A relay keeps what the agent was sent, whole.
type relay struct {
	to   http.Handler
	mu   sync.Mutex
	seen bytes.Buffer
}

func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	fmt.Fprintf(&r.seen, "%v\n%s\n", req.Header, body)
	r.mu.Unlock()
	req.Body = io.NopCloser(bytes.NewReader(body))
	r.to.ServeHTTP(w, req)
}

func (r *relay) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen.String()
}

func (s *scene) within(t *testing.T) (done func()) {
	outer := s.t
	s.t = t
	return func() { s.t = outer }
}

// must fails the test for an error.
func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// somebody gives an account on a channel that was never used.
func (s *scene) somebody(c adapters.Channel) (external string) {
	s.people++
	switch c {
	case adapters.SMS, adapters.WhatsApp:
		return fmt.Sprintf("+1202555%04d", s.people%10_000)
	case adapters.Slack:
		return fmt.Sprintf("%s:U%d", demoTeam, s.people)
	}
	return strconv.FormatInt(s.people, 10)
}

// A sceneSteve is a customer with an account on a channel.
type sceneSteve struct {
	channel                      adapters.Channel
	customer, identity, external string
}

// path is where the API has the identity.
func (p sceneSteve) path() string { return "/v1/customers/" + p.customer + "/identities/" + p.identity }

// customer makes a customer.
func (s *scene) customer() (id string) {
	s.t.Helper()
	var made struct{ ID string }
	s.must(s.staff.call(s.t.Context(), "POST", "/v1/customers", object{"first_name": "Steve"}, &made))
	return made.ID
}

// linked gives a customer with a new account on a channel, not verified.
func (s *scene) linked(c adapters.Channel) sceneSteve {
	s.t.Helper()
	return s.another(s.customer(), c)
}

// another links one more account to a customer.
func (s *scene) another(customer string, c adapters.Channel) sceneSteve {
	s.t.Helper()
	p := sceneSteve{channel: c, customer: customer, external: s.somebody(c)}
	i, err := s.staff.link(s.t.Context(), customer, s.instance, c, p.external, "")
	s.must(err)
	p.identity = i.ID
	return p
}

// verified gives a customer who has claimed.
func (s *scene) verified(c adapters.Channel) sceneSteve {
	s.t.Helper()
	p := s.linked(c)
	s.claims(p)
	return p
}

func (s *scene) claims(p sceneSteve) {
	s.t.Helper()
	s.ask(p.channel, p.external, "/claim "+s.code(p), saysVerified)
}

// code issues a code.
func (s *scene) code(p sceneSteve) string {
	s.t.Helper()
	c, err := s.staff.issue(s.t.Context(), p.customer, p.identity)
	s.must(err)
	return c.Code
}

// isVerified asks the API.
func (s *scene) isVerified(p sceneSteve) bool {
	s.t.Helper()
	i, err := s.staff.identity(s.t.Context(), p.customer, p.identity)
	s.must(err)
	return i.Verified
}

// say types a text and returns when the gateway has taken it.
func (s *scene) say(c adapters.Channel, external, text string) {
	s.t.Helper()
	_, err := s.pretence.control().Say(s.t.Context(), simulator.Saying{Channel: c, As: external, Text: text})
	s.must(err)
}

// ask types a text and waits for the next answer, which must hold want.
func (s *scene) ask(c adapters.Channel, external, text, want string) (answer string) {
	s.t.Helper()
	transcript, chat, err := s.pretence.control().Conversation(c, external)
	s.must(err)
	s.settle() // what was said before is answered
	n := len(transcript.Answers(chat))
	s.say(c, external, text)
	ctx, cancel := inTime(s.t.Context())
	defer cancel()
	line, err := transcript.Answer(ctx, chat, n)
	s.must(err)
	if !strings.Contains(line.Text, want) {
		s.t.Fatalf("%q is answered %q; want %q", text, line.Text, want)
	}
	return line.Text
}

// answered counts what the bot has said to somebody.
func (s *scene) answered(c adapters.Channel, external string) int {
	s.t.Helper()
	transcript, chat, err := s.pretence.control().Conversation(c, external)
	s.must(err)
	return len(transcript.Answers(chat))
}

// role gives the right with which the agent saw the last message of somebody, after
// n of them.
func (s *scene) role(c adapters.Channel, external string, n int) string {
	s.t.Helper()
	var es []agentEvent
	eventually(s.t, "the agent hears "+external, func() bool {
		es = s.agent.messages(string(c), external)
		return len(es) >= n
	})
	return es[len(es)-1].Data.Sender.Role
}

// settle waits until nothing is to be done.
func (s *scene) settle() {
	s.t.Helper()
	eventually(s.t, "nothing is left to do", func() bool {
		var n int
		s.must(s.sql.QueryRowContext(s.t.Context(), `
			select (select count(*) from messages where state = 'new') + (select count(*) from deliveries where status = 'pending')
				+ (select count(*) from outbox where status in ('queued', 'sending') and cause <> 'reminder')`).Scan(&n))
		return n == 0
	})
}

// kept gives every row of the tables that a message could leave something in.
func (s *scene) kept() string {
	s.t.Helper()
	s.settle()
	h := &proofHouse{t: s.t, sql: s.sql}
	var b strings.Builder
	for _, table := range []string{"customers", "identities", "messages", "deliveries", "outbox", "audit_events", "claim_failures", "conversations"} {
		var n int
		h.scan(`select count(*) from `+table, nil, &n)
		fmt.Fprintln(&b, table, n)
	}
	fmt.Fprintln(&b, h.texts(`select cast(id as text) || ' ' || coalesce(cast(customer_id as text), '') || ' ' || coalesce(cast(verified_at as text), '') || ' ' || coalesce(role_override, '') || ' ' || cast(claim_gen as text)
		from identities order by id`))
	return b.String()
}

// A hook request is what a provider would post.
type hookRequest struct {
	url    string
	header http.Header
	body   string
}

// post posts it and gives the status.
func (s *scene) post(r hookRequest) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, r.url, strings.NewReader(r.body))
	s.must(err)
	req.Header = r.header.Clone()
	if host := r.header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := http.DefaultClient.Do(req)
	s.must(err)
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// telegramPost is an update as Telegram posts it.
func (s *scene) telegramPost(update string) hookRequest {
	at, secret := s.pretence.telegram.Webhook(demoBot)
	return hookRequest{at, http.Header{"Content-Type": {"application/json"}, "X-Telegram-Bot-Api-Secret-Token": {secret}}, update}
}

// written is an update of a text in a private chat, with an id of its own.
func (s *scene) written(from, username, text string) string {
	s.people++
	return fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":%d,"chat":{"id":%s,"type":"private"},"from":{"id":%s,"is_bot":false,"first_name":"Steve","username":%q},"text":%q}}`,
		900_000_000+s.people, s.people, time.Now().Unix(), from, from, username, text)
}

// twilioPost is a text as Twilio posts it, signed for the URL given.
func (s *scene) twilioPost(signedFor string, form url.Values) hookRequest {
	at, _, _ := strings.Cut(s.hooks[adapters.SMS], "#")
	mac := hmac.New(sha1.New, []byte(s.pretence.twilioToken))
	_, _ = io.WriteString(mac, signedFor)
	for _, k := range slices.Sorted(maps.Keys(form)) {
		_, _ = io.WriteString(mac, k+form.Get(k))
	}
	return hookRequest{at, http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}, "X-Twilio-Signature": {base64.StdEncoding.EncodeToString(mac.Sum(nil))},
	}, form.Encode()}
}

// texted is the form of a text from somebody.
func (s *scene) texted(from, body string) url.Values {
	s.people++
	return url.Values{
		"MessageSid": {fmt.Sprintf("SM%032x", s.people)}, "AccountSid": {s.pretence.twilioSID}, "From": {from}, "To": {demoSMSNumber}, "Body": {body}, "NumMedia": {"0"},
	}
}

func (s *scene) smsURL() string {
	at, _, _ := strings.Cut(s.hooks[adapters.SMS], "#")
	return at
}

// slackPost is a body as Slack posts it to one of the hooks.
func (s *scene) slackPost(hook, contentType, body string) hookRequest {
	at := strings.TrimSuffix(s.hooks[adapters.Slack], "/events") + "/" + hook
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(s.pretence.slackSecret))
	_, _ = io.WriteString(mac, "v0:"+stamp+":"+body)
	return hookRequest{at, http.Header{
		"Content-Type": {contentType}, "X-Slack-Request-Timestamp": {stamp}, "X-Slack-Signature": {"v0=" + hex.EncodeToString(mac.Sum(nil))},
	}, body}
}

// directed is an event of a direct message in Slack.
func (s *scene) directed(user, text string) string {
	s.people++
	team, id, _ := strings.Cut(user, ":")
	b, _ := json.Marshal(object{
		"token": "deprecated", "team_id": team, "api_app_id": demoApp, "type": "event_callback", "event_id": fmt.Sprintf("Ev%d", s.people), "event_time": time.Now().Unix(),
		"authorizations": []object{{"team_id": demoTeam, "user_id": demoBotUser, "is_bot": true}},
		"event": object{"type": "message", "channel_type": "im", "channel": "D" + id, "user": id, "team": team, "text": text,
			"ts": fmt.Sprintf("%d.%06d", time.Now().Unix(), s.people)},
	})
	return string(b)
}

// try makes one call with the headers given and gives the answer's status and body.
func (s *scene) try(method, path string, header http.Header, body string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.staff.url+path, strings.NewReader(body))
	s.must(err)
	if header != nil {
		req.Header = header.Clone()
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	s.must(err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	s.must(err)
	return resp.StatusCode, string(b)
}

// key makes an API key that may do what scopes say.
func (s *scene) key(scopes ...string) (token string) {
	s.t.Helper()
	var made struct{ Key string }
	s.must(s.staff.call(s.t.Context(), "POST", "/v1/keys", object{"name": "incident", "scopes": scopes}, &made))
	return made.Key
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
