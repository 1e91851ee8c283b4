package incidents

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/cmd/hydragate/demo"
	"hydragate/e2e/harness"
	"hydragate/store/keyring"
)

func TestMain(m *testing.M) { harness.RunMain(m, nil) }

// replayIncident replays an incident of another product against a gateway with every channel, on
// each engine.
func replayIncident(t *testing.T, run func(s *incidentFixture)) {
	harness.ParallelUnlessFull(t)
	forEachIncidentFixture(t, run)
}

// An incidentFixture is a running gateway with every channel, a sample application, an API client
// and access to the database.
type incidentFixture struct {
	*demo.Environment
	t           *testing.T
	db          *harness.DB
	client      *harness.Client
	nextID      int64
	appRequests *recordingApp
}

// forEachIncidentFixture calls f with a gateway on SQLite and the embedded Redis, and with one on
// Postgres and a Redis server.
func forEachIncidentFixture(t *testing.T, f func(s *incidentFixture)) {
	t.Run("sqlite+embedded", func(t *testing.T) { runWithIncidentFixture(t, app.Settings{}, f) })
	t.Run("postgres+redis", func(t *testing.T) {
		runWithIncidentFixture(t, app.Settings{
			DatabaseURL: harness.CreateDatabase(t, harness.TestPostgresURL(t)),
			RedisURL:    harness.TestRedisURL(t),
			MasterKeys:  keyring.GenerateKey("k1"),
		}, f)
	})
}

// runWithIncidentFixture starts fake providers, a sample application and a gateway, calls f and
// stops them.
func runWithIncidentFixture(t *testing.T, servers app.Settings, f func(s *incidentFixture)) {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	p, err := simulator.StartProviders(0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Slack.RetryScale, p.Telegram.RetryScale = 0.01, 0.1
	s := &incidentFixture{
		t: t, nextID: 600_000, client: harness.NewClient("", "", harness.EventTimeout), appRequests: &recordingApp{},
		Environment: &demo.Environment{
			Console: app.Console{Out: io.Discard, Err: io.Discard}, Providers: p, App: demo.NewSampleApp(),
		},
	}
	s.appRequests.next = s.App
	application := httptest.NewServer(s.appRequests)
	defer application.Close()
	s.AppURL = application.URL
	settings := (&demo.Options{Script: true, LogLevel: "error"}).GatewaySettings(t.TempDir(), p)
	settings.DatabaseURL, settings.RedisURL = servers.DatabaseURL, servers.RedisURL
	settings.MasterKeys = servers.MasterKeys
	dsn := cmp.Or(servers.DatabaseURL, filepath.Join(settings.DataDir, "hydragate.db"))
	err = s.RunWithGateway(ctx, settings, func(context.Context) error {
		s.db = harness.OpenDatabase(t, dsn)
		f(s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A recordingApp records the headers and bodies of the requests to the application.
type recordingApp struct {
	next http.Handler
	mu   sync.Mutex
	seen bytes.Buffer
}

func (r *recordingApp) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	fmt.Fprintf(&r.seen, "%v\n%s\n", req.Header, body)
	r.mu.Unlock()
	req.Body = io.NopCloser(bytes.NewReader(body))
	r.next.ServeHTTP(w, req)
}

func (r *recordingApp) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen.String()
}

// noError fails the test if err is not nil.
func (s *incidentFixture) noError(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// newExternalID returns the external ID of an account on c that no test has used.
func (s *incidentFixture) newExternalID(c adapters.Channel) (external string) {
	s.nextID++
	switch c {
	case adapters.SMS, adapters.WhatsApp:
		return fmt.Sprintf("+1202555%04d", s.nextID%10_000)
	case adapters.Slack:
		return fmt.Sprintf("%s:U%d", simulator.DemoTeam, s.nextID)
	}
	return strconv.FormatInt(s.nextID, 10)
}

// A linkedAccount is the account of a customer on a channel.
type linkedAccount struct {
	channel                            adapters.Channel
	customerID, identityID, externalID string
}

// path returns the path of the identity in the API.
func (p linkedAccount) path() string {
	return "/v1/customers/" + p.customerID + "/identities/" + p.identityID
}

// createCustomer creates a customer and returns its ID.
func (s *incidentFixture) createCustomer() (id string) {
	s.t.Helper()
	var created struct{ ID string }
	s.noError(s.API.Call(s.t.Context(), "POST", "/v1/customers", demo.JSONObject{"first_name": "Steve"}, &created))
	return created.ID
}

// createLinked creates a customer and links a new, unverified account on c.
func (s *incidentFixture) createLinked(c adapters.Channel) linkedAccount {
	s.t.Helper()
	return s.linkAnother(s.createCustomer(), c)
}

// linkAnother links a new account on c to an existing customer.
func (s *incidentFixture) linkAnother(customer string, c adapters.Channel) linkedAccount {
	s.t.Helper()
	p := linkedAccount{channel: c, customerID: customer, externalID: s.newExternalID(c)}
	i, err := s.API.LinkIdentity(s.t.Context(), customer, s.InstanceID, c, p.externalID, "")
	s.noError(err)
	p.identityID = i.ID
	return p
}

// createVerified creates a customer with an account on c and verifies the account with a code.
func (s *incidentFixture) createVerified(c adapters.Channel) linkedAccount {
	s.t.Helper()
	p := s.createLinked(c)
	s.redeem(p)
	return p
}

// redeem issues a code for the account and redeems it.
func (s *incidentFixture) redeem(p linkedAccount) {
	s.t.Helper()
	s.sendAndExpect(p.channel, p.externalID, "/claim "+s.issueCode(p), demo.ReplyVerified)
}

// issueCode issues a claim code for the account.
func (s *incidentFixture) issueCode(p linkedAccount) string {
	s.t.Helper()
	c, err := s.API.IssueCode(s.t.Context(), p.customerID, p.identityID)
	s.noError(err)
	return c.Code
}

// isVerified reports whether the API shows the identity as verified.
func (s *incidentFixture) isVerified(p linkedAccount) bool {
	s.t.Helper()
	i, err := s.API.GetIdentity(s.t.Context(), p.customerID, p.identityID)
	s.noError(err)
	return i.Verified
}

// sendText sends a text message and returns after the gateway has acknowledged it.
func (s *incidentFixture) sendText(c adapters.Channel, external, text string) {
	s.t.Helper()
	_, err := s.Providers.NewControl().Send(s.t.Context(), simulator.SendRequest{Channel: c, Sender: external, Text: text})
	s.noError(err)
}

// sendAndExpect sends a text message, waits for the next reply and fails the test unless the reply
// contains want.
func (s *incidentFixture) sendAndExpect(c adapters.Channel, external, text, want string) (reply string) {
	s.t.Helper()
	transcript, chat, err := s.Providers.NewControl().Conversation(c, external)
	s.noError(err)
	s.waitIdle() // replies to earlier messages must not be counted
	n := len(transcript.Replies(chat))
	s.sendText(c, external, text)
	ctx, cancel := demo.WithStepTimeout(s.t.Context())
	defer cancel()
	line, err := transcript.WaitReply(ctx, chat, n)
	s.noError(err)
	if !strings.Contains(line.Text, want) {
		s.t.Fatalf("reply to %q = %q, want it to contain %q", text, line.Text, want)
	}
	return line.Text
}

// replyCount returns the number of replies that the bot sent to an account.
func (s *incidentFixture) replyCount(c adapters.Channel, external string) int {
	s.t.Helper()
	transcript, chat, err := s.Providers.NewControl().Conversation(c, external)
	s.noError(err)
	return len(transcript.Replies(chat))
}

// lastRole waits until the application has received n messages of an account and returns the role
// of the sender of the last one.
func (s *incidentFixture) lastRole(c adapters.Channel, external string, n int) string {
	s.t.Helper()
	var messages []demo.AppEvent
	harness.Eventually(s.t, "the application receives a message from "+external, func() bool {
		messages = s.App.Messages(string(c), external)
		return len(messages) >= n
	})
	return messages[len(messages)-1].Data.Sender.Role
}

// waitIdle waits until no message, delivery or reply is pending.
func (s *incidentFixture) waitIdle() {
	s.t.Helper()
	harness.Eventually(s.t, "all messages, deliveries and replies are processed", func() bool {
		var n int
		s.noError(s.db.QueryRowContext(s.t.Context(), `
			select (select count(*) from messages where state = 'new')
				+ (select count(*) from deliveries where status = 'pending')
				+ (select count(*) from outbox where status in ('queued', 'sending') and cause <> 'reminder')`).Scan(&n))
		return n == 0
	})
}

// stateDump returns the row counts of the tables that a message can change, and the state of every
// identity.
func (s *incidentFixture) stateDump() string {
	s.t.Helper()
	s.waitIdle()
	var b strings.Builder
	fmt.Fprintln(&b,
		s.db.RowCounts("customers", "identities", "messages", "deliveries", "outbox", "audit_events", "claim_failures",
			"conversations"))
	fmt.Fprintln(&b, s.db.QueryTexts(`
		select cast(id as text) || ' ' || coalesce(cast(customer_id as text), '')
			|| ' ' || coalesce(cast(verified_at as text), '') || ' ' || coalesce(role_override, '')
			|| ' ' || cast(claim_gen as text)
		from identities order by id`))
	return b.String()
}

// A signedRequest is a webhook request as a provider would send it.
type signedRequest struct {
	url    string
	header http.Header
	body   string
}

// post sends r and returns the status of the response.
func (s *incidentFixture) post(r signedRequest) int {
	s.t.Helper()
	return s.do(http.MethodPost, r.url, r.header, r.body).Status
}

// do sends a request and returns the response. It fails the test if there is none.
func (s *incidentFixture) do(method, url string, header http.Header, body string) harness.Response {
	s.t.Helper()
	res, err := s.client.Do(s.t.Context(), method, url, header, body)
	s.noError(err)
	return res
}

// telegramRequest returns the webhook request with which Telegram sends update.
func (s *incidentFixture) telegramRequest(update string) signedRequest {
	at, secret := s.Providers.Telegram.Webhook(simulator.DemoBot)
	return signedRequest{
		at, http.Header{"Content-Type": {"application/json"}, "X-Telegram-Bot-Api-Secret-Token": {secret}}, update,
	}
}

// telegramUpdate returns an update for a text message in a private chat, with a new update ID.
func (s *incidentFixture) telegramUpdate(from, username, text string) string {
	s.nextID++
	return fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":%d,"chat":{"id":%s,"type":"private"},
		"from":{"id":%s,"is_bot":false,"first_name":"Steve","username":%q},"text":%q}}`,
		900_000_000+s.nextID, s.nextID, time.Now().Unix(), from, from, username, text)
}

// twilioRequest returns the webhook request with which Twilio sends form, signed for the URL
// signedFor.
func (s *incidentFixture) twilioRequest(signedFor string, form url.Values) signedRequest {
	at, _, _ := strings.Cut(s.WebhookURLs[adapters.SMS], "#")
	return signedRequest{at, http.Header{
		"Content-Type":       {"application/x-www-form-urlencoded"},
		"X-Twilio-Signature": {harness.TwilioSignature(s.Providers.TwilioToken, signedFor, form)},
	}, form.Encode()}
}

// smsForm returns the webhook form of an SMS message, with a new message SID.
func (s *incidentFixture) smsForm(from, body string) url.Values {
	s.nextID++
	return url.Values{
		"MessageSid": {fmt.Sprintf("SM%032x", s.nextID)}, "AccountSid": {s.Providers.TwilioSID},
		"From": {from}, "To": {simulator.DemoSMSNumber}, "Body": {body}, "NumMedia": {"0"},
	}
}

// smsURL returns the URL of the SMS webhook.
func (s *incidentFixture) smsURL() string {
	at, _, _ := strings.Cut(s.WebhookURLs[adapters.SMS], "#")
	return at
}

// slackRequest returns a signed request to one of the Slack webhooks (events, commands or
// interactivity).
func (s *incidentFixture) slackRequest(webhook, contentType, body string) signedRequest {
	at := strings.TrimSuffix(s.WebhookURLs[adapters.Slack], "/events") + "/" + webhook
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	return signedRequest{at, http.Header{
		"Content-Type":              {contentType},
		"X-Slack-Request-Timestamp": {stamp},
		"X-Slack-Signature":         {harness.SlackSignature(s.Providers.SlackSecret, stamp, body)},
	}, body}
}

// slackDirectMessage returns the event of a direct message in Slack, with a new event ID.
func (s *incidentFixture) slackDirectMessage(user, text string) string {
	s.nextID++
	team, id, _ := strings.Cut(user, ":")
	b, _ := json.Marshal(demo.JSONObject{
		"token": "deprecated", "team_id": team, "api_app_id": simulator.DemoApp, "type": "event_callback",
		"event_id": fmt.Sprintf("Ev%d", s.nextID), "event_time": time.Now().Unix(),
		"authorizations": []demo.JSONObject{
			{"team_id": simulator.DemoTeam, "user_id": simulator.DemoBotUser, "is_bot": true},
		},
		"event": demo.JSONObject{
			"type": "message", "channel_type": "im", "channel": "D" + id, "user": id, "team": team, "text": text,
			"ts": fmt.Sprintf("%d.%06d", time.Now().Unix(), s.nextID),
		},
	})
	return string(b)
}

// request calls the API and returns the status and the body of the response.
func (s *incidentFixture) request(method, path string, header http.Header, body string) (int, string) {
	s.t.Helper()
	res := s.do(method, s.API.URL+path, header, body)
	return res.Status, res.Body
}

// createKey creates an API key with the given scopes and returns its token.
func (s *incidentFixture) createKey(scopes ...string) (token string) {
	s.t.Helper()
	var created struct{ Key string }
	s.noError(s.API.Call(s.t.Context(), "POST", "/v1/keys", demo.JSONObject{"name": "incident", "scopes": scopes},
		&created))
	return created.Key
}
