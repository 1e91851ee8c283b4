//go:build unix

// Package rawhttp sends webhook requests to a running gateway byte for byte, for end-to-end tests:
// genuine requests as providers sign them, forged ones that the gateway must reject, unusual ones
// that it must accept, and slow clients. It does not judge the responses; the tests do.
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

// webhookOrigin is the public URL of the gateway, which providers sign. Nothing listens there. The
// tests send requests to the gateway directly, as a reverse proxy would.
const webhookOrigin = "https://hooks.acme.example"

// WebhookAdminKey is the admin key of the gateway in a WebhookFixture.
const WebhookAdminKey = "an-admin-key-for-the-hooks-0123456789abcd"

// InstanceAccounts are the accounts of one instance at the providers, with the keys that sign
// requests.
type InstanceAccounts struct {
	InstanceID string

	TelegramSecret string

	AccountSID, AuthToken, Phone string

	TeamID, AppID, SigningSecret string
}

// A WebhookFixture is a running gateway with four instances. Acme is the one under test. Neighbor
// has a Telegram bot and a Slack app of its own, and a number of the same Twilio account.
// OtherAccount has another Twilio account. The endpoints of Keyless have no keys.
type WebhookFixture struct {
	T    *testing.T
	Addr string
	*harness.DB
	SpoolDir string
	Log      harness.LockedBuffer // after ServeInProcess
	Pid      int                  // after ServeInChild

	Acme, Neighbor, OtherAccount, Keyless InstanceAccounts
	Secrets                               []string

	api         *harness.Client
	callerCount int
}

// ForEachWebhookFixture runs a test with the embedded database, and with PostgreSQL and Redis.
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
				app.Settings{
					DatabaseURL: harness.CreateDatabase(t, harness.TestPostgresURL(t)),
					RedisURL:    harness.TestRedisURL(t),
				},
				(*WebhookFixture).ServeInProcess,
			),
		)
	})
}

// NewWebhookFixture starts a gateway with run, creates the instances and stops the gateway when
// the test ends. run is ServeInProcess or ServeInChild.
func NewWebhookFixture(t *testing.T, s app.Settings, run func(*WebhookFixture, *app.Settings)) *WebhookFixture {
	t.Helper()
	h := &WebhookFixture{T: t}
	master := keyring.GenerateKey("k1")
	s.Listen, s.PublicURL, s.DataDir = "127.0.0.1:0", webhookOrigin, t.TempDir()
	s.MasterKeys, s.AdminKey = master, WebhookAdminKey
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
	h.createInstances(p.Telegram, p.Twilio, p.Slack, master)
	return h
}

// ServeInProcess runs the gateway in the process of the test.
func (h *WebhookFixture) ServeInProcess(s *app.Settings) {
	log := slog.New(slog.NewJSONHandler(&h.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.Addr = strings.TrimPrefix(harness.ServeInProcess(h.T, s, log), "http://")
}

// ServeInChild runs the gateway in a child process.
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

// createInstances creates the instances and connects their channels.
func (h *WebhookFixture) createInstances(
	telegram *simulator.Telegram,
	twilio *simulator.Twilio,
	slack *simulator.Slack,
	master string,
) {
	const account, token = "AC0123456789abcdef0123456789abcdef", "fedcba98765432100123456789abcdef"
	const otherAccount, otherToken = "ACfedcba98765432100123456789abcdef", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
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
	h.OtherAccount = InstanceAccounts{AccountSID: otherAccount, AuthToken: otherToken, Phone: "+442079460000"}
	twilio.AddAccount(account, token)
	twilio.AddAccount(otherAccount, otherToken)
	for i, accounts := range []*InstanceAccounts{&h.Acme, &h.Neighbor, &h.OtherAccount} {
		accounts.InstanceID = h.createInstance(map[string]any{
			"name": fmt.Sprintf("instance %d", i), "unknown_senders": "forward",
		})
		twilio.AddNumber(accounts.AccountSID, accounts.Phone)
		connect := func(channel string, body map[string]any) {
			path := "/v1/instances/" + accounts.InstanceID + "/channels/" + channel
			if c := h.callAPI(http.MethodPost, path, body, http.StatusOK); c["status"] != "active" {
				h.T.Fatalf("POST %s = %v, want an active channel", path, c)
			}
		}
		phone := map[string]any{
			"account_sid": accounts.AccountSID, "auth_token": accounts.AuthToken, "phone_number": accounts.Phone,
		}
		connect("sms", phone)
		connect("whatsapp", phone)
		if accounts.AppID == "" {
			continue
		}
		bot := fmt.Sprintf("bot%d_bot", i)
		botToken := fmt.Sprintf("700000%d:AAE0123456789abcdefghijklmnopqrstuv", i)
		telegram.AddBot(botToken, bot)
		connect("telegram", map[string]any{"bot_token": botToken})
		_, accounts.TelegramSecret = telegram.Webhook(bot)
		slackToken := fmt.Sprintf("xoxb-000000000%d-hooks", i)
		slack.AddApp(
			simulator.SlackApp{
				AppID:         accounts.AppID,
				TeamID:        accounts.TeamID,
				TeamName:      "Acme",
				BotUserID:     fmt.Sprintf("U0BOT%d", i),
				Token:         slackToken,
				SigningSecret: accounts.SigningSecret,
			},
		)
		connect("slack", map[string]any{"bot_token": slackToken, "signing_secret": accounts.SigningSecret})
		h.Secrets = append(h.Secrets,
			accounts.TelegramSecret, botToken, slackToken, accounts.SigningSecret, accounts.AuthToken)
	}
	h.createKeyless(master)
	h.Secrets = append(h.Secrets, h.OtherAccount.AuthToken, WebhookAdminKey)
}

// createKeyless creates the instance without keys. Its endpoints are written to the store, with
// empty keys or none, because the API rejects them.
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
	h.Keyless.InstanceID = h.createInstance(map[string]any{"name": "keyless"})
	for channel, endpoint := range map[adapters.Channel]adapters.Endpoint{
		adapters.Telegram: {
			Address:     "7000009",
			Credentials: adapters.Credentials{adapters.BotToken: "7000009:x", adapters.WebhookSecret: ""},
		},
		adapters.SMS: {
			Address:     h.Keyless.Phone,
			Credentials: adapters.Credentials{adapters.AccountSID: h.Keyless.AccountSID, adapters.AuthToken: ""},
		},
		adapters.WhatsApp: {
			Address:     h.Keyless.Phone,
			Credentials: adapters.Credentials{adapters.AccountSID: h.Keyless.AccountSID},
		},
		adapters.Slack: {
			Address:     h.Keyless.TeamID,
			Credentials: adapters.Credentials{adapters.BotToken: "xoxb-none", adapters.SigningSecret: ""},
		},
	} {
		endpoint.TenantID, endpoint.InstanceID = harness.TestTenantID, h.Keyless.InstanceID
		endpoint.Channel, endpoint.Mode = channel, adapters.Webhook
		saved, err := s.SaveEndpoint(
			h.T.Context(),
			gateway.EndpointState{Endpoint: endpoint, Status: gateway.EndpointActive},
			time.Time{},
			identity.System,
		)
		if err != nil || saved.ID == "" {
			h.T.Fatalf("SaveEndpoint(%s) = %v, %v, want an endpoint", channel, saved, err)
		}
	}
}

// createInstance creates an instance with the API and returns its ID.
func (h *WebhookFixture) createInstance(body map[string]any) string {
	h.T.Helper()
	return fmt.Sprint(h.callAPI(http.MethodPost, "/v1/instances", body, http.StatusCreated)["id"])
}

// callAPI calls the API and returns the fields of the response. It fails the test unless the
// status is want.
func (h *WebhookFixture) callAPI(method, path string, body any, want int) (fields map[string]any) {
	h.T.Helper()
	h.api.MustCall(h.T, method, path, body, want, &fields)
	return fields
}

// MessageCount returns the number of stored messages.
func (h *WebhookFixture) MessageCount() int { return h.QueryInt(`select count(*) from messages`) }

// NewCallerAddr returns a loopback address that has sent no request yet, so that the limit
// on failed authentications does not affect the caller.
func (h *WebhookFixture) NewCallerAddr() string {
	h.callerCount++
	return fmt.Sprintf("127.1.%d.%d", h.callerCount/250, 1+h.callerCount%250)
}

// webhookURL returns the URL to which a provider sends the webhooks of a channel.
func webhookURL(channel, subpath string, accounts InstanceAccounts) string {
	return webhookOrigin + webhookPath(channel, subpath, accounts)
}

// webhookPath returns the path of webhookURL.
func webhookPath(channel, subpath string, accounts InstanceAccounts) string {
	path := "/hooks/" + channel + "/" + accounts.InstanceID
	if subpath != "" {
		path += "/" + subpath
	}
	return path
}

// formValues returns a form with the given names and values, which alternate.
func formValues(pairs ...string) url.Values {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return f
}

// StartSlowClients starts slow clients with all behaviors in equal numbers. They stop after 20
// seconds at the latest.
func (h *WebhookFixture) StartSlowClients(t *testing.T, clients int) *SlowClients {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	c := &SlowClients{Connected: make(chan struct{}), stop: stop}
	var connected sync.WaitGroup
	connected.Add(clients)
	for i := range clients {
		behavior := slowBehaviors[i%len(slowBehaviors)]
		first, rest := behavior.makes(h, 900_000+i)
		c.wg.Go(func() {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", h.Addr)
			start := time.Now()
			connected.Done()
			if err == nil {
				err = runSlowClient(ctx, conn, first, rest)
			}
			c.record(time.Since(start), behavior.name, err)
		})
	}
	go func() {
		connected.Wait()
		close(c.Connected)
	}()
	return c
}

// OpenFiles returns the number of open files of the child process.
func (h *WebhookFixture) OpenFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// goroutinePattern matches the number of goroutines in the metrics.
var goroutinePattern = regexp.MustCompile(`(?m)^go_goroutines (\d+)$`)

// Goroutines returns the number of goroutines of the gateway, from its metrics.
func (h *WebhookFixture) Goroutines(t *testing.T) int {
	t.Helper()
	p := &RawRequest{
		Method:      "GET",
		Target:      "/metrics",
		Host:        "127.0.0.1",
		HeaderLines: []string{"Authorization: Bearer " + WebhookAdminKey},
	}
	res := h.Send(t, "", p)
	m := goroutinePattern.FindStringSubmatch(res.Body)
	if m == nil {
		t.Fatalf("GET /metrics = %d %.200s, want go_goroutines", res.Status, res.Body)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}
