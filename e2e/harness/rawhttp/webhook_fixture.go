//go:build unix

package rawhttp

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store"
	"hydragate/store/keyring"
)

// webhookOrigin is what providers call in these tests. Nobody listens there: requests go
// to the program itself, as if a proxy had passed them on.
const webhookOrigin = "https://hooks.acme.example"

const WebhookAdminKey = "an-admin-key-for-the-hooks-0123456789abcd"

// A InstanceAccounts is what there is to know about one instance: enough to sign for it.
type InstanceAccounts struct {
	InstanceID string

	TelegramSecret string

	AccountSID, AuthToken, Phone string

	TeamID, AppID, SigningSecret string
}

// A WebhookFixture is the whole program with everything a stranger may mistake for
// something else: acme; a neighbour with a bot, a number of the same Twilio account and
// an app of its own; a foreigner at another account; and one without any key.
type WebhookFixture struct {
	T    *testing.T
	Addr string
	*harness.DB
	SpoolDir string               // folder of what waits beside the database
	Log      harness.LockedBuffer // of a program in this process
	Pid      int                  // of one in another

	Acme, Neighbor, OtherAccount, Keyless InstanceAccounts
	Secrets                               []string

	api         *harness.Client
	callerCount int
}

// ForEachWebhookFixture runs test on the whole program, embedded and with servers.
func ForEachWebhookFixture(t *testing.T, test func(t *testing.T, h *WebhookFixture)) {
	t.Run(
		"sqlite+embedded",
		func(t *testing.T) { test(t, NewWebhookFixture(t, app.Settings{}, (*WebhookFixture).ServeInProcess)) },
	)
	t.Run("postgres+redis", func(t *testing.T) {
		test(
			t,
			NewWebhookFixture(
				t,
				app.Settings{DatabaseURL: harness.CreateDatabase(t, harness.TestPostgresURL(t)), RedisURL: harness.TestRedisURL(t)},
				(*WebhookFixture).ServeInProcess,
			),
		)
	})
}

// NewWebhookFixture runs the program until the test ends: in this process, or as one of its own.
func NewWebhookFixture(t *testing.T, s app.Settings, run func(*WebhookFixture, *app.Settings)) *WebhookFixture {
	t.Helper()
	h := &WebhookFixture{T: t}
	master := keyring.GenerateKey("k1")
	s.Listen, s.PublicURL, s.DataDir, s.MasterKeys, s.AdminKey = "127.0.0.1:0", webhookOrigin, t.TempDir(), master, WebhookAdminKey
	s.LogLevel, s.LogFormat, s.AgentAllowPrivate = "debug", "json", "true"
	p := harness.StartProviders(t.Cleanup, 0)
	urls := p.Settings()
	s.TelegramAPIURL, s.TwilioAPIURL, s.SlackAPIURL = urls.TelegramAPIURL, urls.TwilioAPIURL, urls.SlackAPIURL
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	run(h, &s)
	h.SpoolDir = filepath.Join(s.DataDir, "spool")
	h.DB = harness.OpenDatabase(t, cmp.Or(s.DatabaseURL, filepath.Join(s.DataDir, "hydragate.db")))
	h.api = harness.NewClient("http://"+h.Addr, WebhookAdminKey, harness.EventTimeout)
	h.setUp(p.Telegram, p.Twilio, p.Slack, master)
	return h
}

// ServeInProcess runs the program in this process.
func (h *WebhookFixture) ServeInProcess(s *app.Settings) {
	log := slog.New(slog.NewJSONHandler(&h.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.Addr = strings.TrimPrefix(harness.ServeInProcess(h.T, s, log), "http://")
}

// ServeInChild runs the program as a process of its own.
func (h *WebhookFixture) ServeInChild(s *app.Settings) {
	log, err := os.Create(filepath.Join(h.T.TempDir(), "log"))
	if err != nil {
		h.T.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("hydragate", "serve")
	cmd.Dir, cmd.Env = h.T.TempDir(), append(harness.Env(*s), "PATH="+os.Getenv("PATH"))
	p, err := harness.StartProcess(h.T.Context(), cmd, log)
	if err != nil {
		h.T.Fatal(err)
	}
	h.Addr, h.Pid = p.Addr, p.Cmd.Process.Pid
	h.T.Cleanup(func() {
		if err := p.Stop(); err != nil {
			h.T.Error(err)
		}
	})
}

func (h *WebhookFixture) setUp(
	telegram *simulator.Telegram,
	twilio *simulator.Twilio,
	slack *simulator.Slack,
	master string,
) {
	const account, token = "AC0123456789abcdef0123456789abcdef", "fedcba98765432100123456789abcdef"
	const foreignAccount, foreignToken = "ACfedcba98765432100123456789abcdef", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
	h.Acme = InstanceAccounts{
		AccountSID:    account,
		AuthToken:     token,
		Phone:         "+14155550100",
		TeamID:        "T0ACME",
		AppID:         "A0ACME",
		SigningSecret: "8f742231b10e8888abcd99aaabbb85a5",
	}
	h.Neighbor = InstanceAccounts{
		AccountSID:    account,
		AuthToken:     token,
		Phone:         "+14155550109",
		TeamID:        "T0NEXT",
		AppID:         "A0NEXT",
		SigningSecret: "17c2d8f00000aaaa1111bbbb2222cccc",
	}
	h.OtherAccount = InstanceAccounts{AccountSID: foreignAccount, AuthToken: foreignToken, Phone: "+442079460000"}
	twilio.AddAccount(account, token)
	twilio.AddAccount(foreignAccount, foreignToken)
	for i, s := range []*InstanceAccounts{&h.Acme, &h.Neighbor, &h.OtherAccount} {
		s.InstanceID = fmt.Sprint(
			h.callAPI(http.MethodPost, "/v1/instances", map[string]any{"name": fmt.Sprintf("instance %d", i), "unknown_senders": "forward"}, http.StatusCreated)["id"],
		)
		twilio.AddNumber(s.AccountSID, s.Phone)
		connect := func(channel string, body map[string]any) {
			if c := h.callAPI(http.MethodPost, "/v1/instances/"+s.InstanceID+"/channels/"+channel, body, http.StatusOK); c["status"] != "active" {
				h.T.Fatalf("%s of instance %d: %v", channel, i, c)
			}
		}
		phone := map[string]any{"account_sid": s.AccountSID, "auth_token": s.AuthToken, "phone_number": s.Phone}
		connect("sms", phone)
		connect("whatsapp", phone)
		if s.AppID == "" {
			continue
		}
		bot, botToken := fmt.Sprintf("bot%d_bot", i), fmt.Sprintf("700000%d:AAE0123456789abcdefghijklmnopqrstuv", i)
		telegram.AddBot(botToken, bot)
		connect("telegram", map[string]any{"bot_token": botToken})
		_, s.TelegramSecret = telegram.Webhook(bot)
		slackToken := fmt.Sprintf("xoxb-000000000%d-hooks", i)
		slack.AddApp(
			simulator.SlackApp{
				AppID:         s.AppID,
				TeamID:        s.TeamID,
				TeamName:      "Acme",
				BotUserID:     fmt.Sprintf("U0BOT%d", i),
				Token:         slackToken,
				SigningSecret: s.SigningSecret,
			},
		)
		connect("slack", map[string]any{"bot_token": slackToken, "signing_secret": s.SigningSecret})
		h.Secrets = append(h.Secrets, s.TelegramSecret, botToken, slackToken, s.SigningSecret, s.AuthToken)
	}
	h.createKeyless(master)
	h.Secrets = append(h.Secrets, h.OtherAccount.AuthToken, WebhookAdminKey)
}

// createKeyless makes the keyless instance. The API refuses a channel without a key, so its
// seats are put where seats are kept: with empty keys, and with none at all.
func (h *WebhookFixture) createKeyless(master string) {
	h.T.Helper()
	keys, err := keyring.Parse(master)
	if err != nil {
		h.T.Fatal(err)
	}
	s, err := store.Open(h.T.Context(), h.DSN, keys)
	if err != nil {
		h.T.Fatal(err)
	}
	defer s.Close()
	h.Keyless = InstanceAccounts{
		AccountSID: "AC00000000000000000000000000000000",
		Phone:      "+14155550777",
		TeamID:     "T0NONE",
		AppID:      "A0NONE",
	}
	h.Keyless.InstanceID = fmt.Sprint(
		h.callAPI(http.MethodPost, "/v1/instances", map[string]any{"name": "keyless"}, http.StatusCreated)["id"],
	)
	for channel, seat := range map[adapters.Channel]adapters.Endpoint{
		adapters.Telegram: {Address: "7000009", Credentials: adapters.Credentials{adapters.BotToken: "7000009:x", adapters.WebhookSecret: ""}},
		adapters.SMS:      {Address: h.Keyless.Phone, Credentials: adapters.Credentials{adapters.AccountSID: h.Keyless.AccountSID, adapters.AuthToken: ""}},
		adapters.WhatsApp: {Address: h.Keyless.Phone, Credentials: adapters.Credentials{adapters.AccountSID: h.Keyless.AccountSID}},
		adapters.Slack:    {Address: h.Keyless.TeamID, Credentials: adapters.Credentials{adapters.BotToken: "xoxb-none", adapters.SigningSecret: ""}},
	} {
		seat.TenantID, seat.InstanceID, seat.Channel, seat.Mode = harness.TestTenantID, h.Keyless.InstanceID, channel, adapters.Webhook
		kept, err := s.SaveEndpoint(
			h.T.Context(),
			gateway.EndpointState{Endpoint: seat, Status: gateway.EndpointActive},
			time.Time{},
			identity.System,
		)
		if err != nil || kept.ID == "" {
			h.T.Fatalf("%s without a key: %v", channel, err)
		}
	}
}

func (h *WebhookFixture) callAPI(method, path string, body any, want int) (fields map[string]any) {
	h.T.Helper()
	h.api.MustCall(h.T, method, path, body, want, &fields)
	return fields
}

// MessageCount returns the number of stored messages.
func (h *WebhookFixture) MessageCount() int { return h.QueryInt(`select count(*) from messages`) }

// NewCallerAddr gives an address that nobody has called from yet, so that nobody is refused
// for what another did.
func (h *WebhookFixture) NewCallerAddr() string {
	h.callerCount++
	return fmt.Sprintf("127.1.%d.%d", h.callerCount/250, 1+h.callerCount%250)
}

// webhookURL is where a provider delivers to a seat, as it was told.
func webhookURL(channel, hook string, s InstanceAccounts) string {
	return webhookOrigin + webhookPath(channel, hook, s)
}

func webhookPath(channel, hook string, s InstanceAccounts) string {
	path := "/hooks/" + channel + "/" + s.InstanceID
	if hook != "" {
		path += "/" + hook
	}
	return path
}

// formValues copies a form, so that it can be changed.
func formValues(pairs ...string) url.Values {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return f
}

func (h *WebhookFixture) StartSlowClients(t *testing.T, clients int) *slowClients {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	c := &slowClients{Connected: make(chan struct{}), stop: stop}
	var connected sync.WaitGroup
	connected.Add(clients)
	for i := range clients {
		way := slowBehaviors[i%len(slowBehaviors)]
		atOnce, rest := way.makes(h, 900_000+i)
		c.wg.Go(func() {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", h.Addr)
			begun := time.Now()
			connected.Done()
			if err == nil {
				err = runSlowClient(ctx, conn, atOnce, rest)
			}
			c.record(time.Since(begun), way.name, err)
		})
	}
	go func() {
		connected.Wait()
		close(c.Connected)
	}()
	return c
}

func (h *WebhookFixture) OpenFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

var goroutinePattern = regexp.MustCompile(`(?m)^go_goroutines (\d+)$`)

func (h *WebhookFixture) Goroutines(t *testing.T) int {
	t.Helper()
	p := &RawRequest{
		Method:      "GET",
		Target:      "/metrics",
		Host:        "127.0.0.1",
		HeaderLines: []string{"Authorization: Bearer " + WebhookAdminKey},
	}
	a := h.Send(t, "", p)
	m := goroutinePattern.FindStringSubmatch(a.Body)
	if m == nil {
		t.Fatalf("no count of goroutines: %d %.200s", a.Status, a.Body)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}
