//go:build unix

// Package harness runs gateways for end-to-end tests, with the servers they need, fake providers and
// a fake application. Start is the entry point. Fault injects defects for the controls of the tests.
//
// Package cases adds recorded messages of the channels, package rawhttp forged and unusual webhook
// requests, package script the commands of the test scripts.
package harness

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/store"
	"hydragate/store/keyring"
)

// Options configure Start. The zero value runs one gateway on a new Postgres database and Redis.
type Options struct {
	// Engine is Postgres, with a Redis server, if it is empty. With SQLite Redis is embedded.
	Engine Engine
	// Replicas is the number of gateways on the same database and Redis. Several gateways need
	// Postgres. Each has its own spool. Requests of Harness.API and of the providers are balanced, so
	// that gateways can be replaced without failing a request. If it is 0, there is one gateway, and
	// all requests pass Front.
	Replicas int
	// InProcess runs the gateways in the process of the test, which is cheaper. They cannot be killed,
	// stopped by a signal or run as commands.
	InProcess bool
	// APIOnly is like InProcess, and only requests are served: messages are stored but not processed,
	// the rates of API keys are not limited, and requests do not pass a proxy.
	APIOnly bool
	// Modify, if not nil, is called with each gateway that runs in this process before it starts.
	Modify func(*app.Gateway) error
	// Log, if not nil, is the logger of the gateways that run in this process. Otherwise they
	// write to Harness.Log.
	Log *slog.Logger
	// DatabaseURL is a Postgres database. If it is empty, a new one is created.
	DatabaseURL string
	// MasterKeys are generated if they are empty.
	MasterKeys string
	// Settings, if not nil, changes the settings of the gateways.
	Settings func(*app.Settings)
	// Env are more environment variables of the gateways.
	Env []string
	// Fault is injected into the gateways.
	Fault Fault
	// NoChannels leaves out the instances and channels.
	NoChannels bool
	// WebhookTransport, if not nil, wraps the transport of the providers' webhooks.
	WebhookTransport func(http.RoundTripper) http.RoundTripper
}

// An Engine is the kind of database that a gateway uses.
type Engine string

// The engines.
const (
	Postgres Engine = "postgres"
	SQLite   Engine = "sqlite"
)

// ForEachEngine runs test on each engine, one after the other.
func ForEachEngine(t *testing.T, test func(t *testing.T, engine Engine)) {
	for _, engine := range []Engine{SQLite, Postgres} {
		t.Run(string(engine), func(t *testing.T) { test(t, engine) })
	}
}

// A Harness is a gateway and its environment: fake providers and a fake application in this process,
// gateways behind a proxy, and proxies in front of Postgres and Redis.
type Harness struct {
	T        *testing.T
	*DB      // not through the proxy
	API      *Client
	Settings app.Settings // of the gateways
	Fault    Fault        // of gateways that are started from now on
	Log      LockedBuffer // of all gateways

	Front   *Proxy            // in front of the gateways
	Proxies map[string]*Proxy // in front of "postgres" and "redis"
	*Providers
	Webhooks *webhookLog
	App      *FakeApp

	InstanceID        string // has SMS, Slack, and Telegram by webhook
	WebhookSecret     string // of the instance
	AgentKey          string // Agent-Secret-Key of the instance
	PollingInstanceID string // has Telegram by polling

	LoadCount   int
	codesIssued atomic.Int64

	// Replicated is set by tests that run several gateways at a time. Each has its own spool, so the
	// order of texts is undefined if one of them was spooled.
	Replicated bool

	options  Options
	replicas replicas
}

// The bot of the polling instance.
const (
	PollingBot   = "acme_polled_bot"
	PollingToken = "7000003:AAE0123456789abcdefghijklmnopqrstuv"
)

// Start starts gateways and their environment until the test ends. Unless the options say otherwise
// it connects all channels. It returns the first gateway.
func Start(t *testing.T, o Options) (*Harness, *Process) {
	t.Helper()
	front, err := NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	h := &Harness{
		T: t, Fault: o.Fault, Front: front, Proxies: map[string]*Proxy{}, Webhooks: &webhookLog{},
		App: &FakeApp{ReplyText: "re {text}"}, API: NewClient("http://"+front.Addr(), AdminKey, time.Minute), options: o,
	}
	t.Cleanup(h.API.HTTP.CloseIdleConnections)
	h.App.URL = ServeHTTP(t.Cleanup, h.App)
	h.startProviders(o.WebhookTransport)
	dsn := h.configure(o)
	p := h.startReplicas()
	h.DB = OpenDatabase(t, dsn)
	if !o.NoChannels {
		h.connectChannels()
	}
	return h, p
}

// startReplicas starts the gateways and returns the first.
func (h *Harness) startReplicas() *Process {
	h.T.Helper()
	if h.options.Replicas > 1 && h.options.Engine == SQLite {
		h.T.Fatal("several gateways need Postgres")
	}
	h.Replicated = h.options.Replicas > 1
	p := h.Restart()
	h.changeReplicas(func([]*Process) []*Process { return []*Process{p} })
	for range h.options.Replicas - 1 {
		h.AddReplica()
	}
	switch {
	case h.options.APIOnly:
		h.API.URL, h.API.HTTP.Timeout = "http://"+p.Addr, EventTimeout
	case h.options.Replicas > 0:
		h.API.HTTP.Transport = balancer{h, h.API.HTTP.Transport}
		for _, c := range h.webhookClients() {
			c.Transport = balancer{h, c.Transport}
		}
	}
	return p
}

// configure sets h.Settings. It returns the DSN of the database.
func (h *Harness) configure(o Options) (dsn string) {
	h.T.Helper()
	s := h.Providers.Settings()
	s.Listen, s.PublicURL, s.DataDir = "127.0.0.1:0", h.API.URL, h.T.TempDir()
	s.AdminKey, s.AgentAllowPrivate, s.SendLimits, s.LogLevel = AdminKey, "true", "false", "info"
	s.MasterKeys = cmp.Or(o.MasterKeys, keyring.GenerateKey("k1"))
	if o.Engine == SQLite {
		dsn = filepath.Join(s.DataDir, "hydragate.db")
	} else {
		if dsn = o.DatabaseURL; dsn == "" {
			dsn = CreateDatabase(h.T, TestPostgresURL(h.T))
		}
		s.DatabaseURL, s.RedisURL = dsn, TestRedisURL(h.T)
		if !o.APIOnly {
			s.DatabaseURL, s.RedisURL = h.proxied("postgres", dsn), h.proxied("redis", s.RedisURL)
		}
	}
	if o.Settings != nil {
		o.Settings(&s)
	}
	h.Settings = s
	return dsn
}

// OpenStore opens the store of the gateways until the test ends.
func (h *Harness) OpenStore() *store.Store {
	h.T.Helper()
	keys, err := keyring.Parse(h.Settings.MasterKeys)
	if err != nil {
		h.T.Fatal(err)
	}
	s, err := store.Open(h.T.Context(), h.DSN, keys)
	if err != nil {
		h.T.Fatal(err)
	}
	h.T.Cleanup(s.Close)
	return s
}

// proxied starts a proxy in front of a server. It returns the URL with the address of the proxy.
func (h *Harness) proxied(name, server string) string {
	u := mustParseURL(h.T, server)
	p, err := NewProxy(u.Host)
	if err != nil {
		h.T.Fatal(err)
	}
	h.T.Cleanup(p.Close)
	h.Proxies[name] = p
	u.Host = p.Addr()
	return u.String()
}

// SecondPostgresProxy starts another proxy in front of Postgres. It returns the URL of the database
// through it.
func (h *Harness) SecondPostgresProxy() string { return h.proxied("postgres again", h.DSN) }

// DelayedPostgresURL starts a proxy that delays the responses of Postgres. It returns the URL of the
// database through it.
func (h *Harness) DelayedPostgresURL(delay time.Duration) string {
	h.T.Helper()
	u := mustParseURL(h.T, h.DSN)
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		h.T.Fatal(err)
	}
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(StartDelayProxy(h.T, port, delay)))
	return u.String()
}

// startProviders starts fake providers that retry soon. If gateways can be killed, the responses are
// delayed so that a test can interrupt a request.
func (h *Harness) startProviders(wrap func(http.RoundTripper) http.RoundTripper) {
	delay := 5 * time.Millisecond
	if h.inProcess() {
		delay = 0
	}
	h.Providers = StartProviders(h.T.Cleanup, delay)
	h.Telegram.RetryScale, h.Slack.RetryScale = 0.02, 0.01
	h.Slack.Timeout = time.Duration(Scaled(30, 6)) * time.Second
	for channel, c := range h.webhookClients() {
		c.Transport = h.Webhooks.transport(h.T, channel)
		if wrap != nil {
			c.Transport = wrap(c.Transport)
		}
	}
	h.AddAccounts()
	h.Telegram.AddBot(PollingToken, PollingBot)
}

// webhookClients returns the clients of the providers by channel.
func (h *Harness) webhookClients() map[string]*http.Client {
	return map[string]*http.Client{
		"telegram": h.Telegram.WebhookClient, "sms": h.Twilio.WebhookClient, "slack": h.Slack.Client,
	}
}

// connectChannels creates two instances and connects their channels.
func (h *Harness) connectChannels() {
	h.T.Helper()
	var instance struct {
		ID             string `json:"id"`
		WebhookSecret  string `json:"webhook_secret"`
		AgentSecretKey string `json:"agent_secret_key"`
	}
	body := map[string]string{"name": "acme", "agent_url": h.App.URL}
	h.MustCall("POST", "/v1/instances", body, http.StatusCreated, &instance)
	h.InstanceID, h.WebhookSecret, h.AgentKey = instance.ID, instance.WebhookSecret, instance.AgentSecretKey
	h.MustCall("POST", "/v1/instances", body, http.StatusCreated, &instance)
	h.PollingInstanceID = instance.ID
	h.ConnectChannel(h.InstanceID, "telegram", map[string]string{"bot_token": TelegramToken, "mode": "webhook"})
	h.ConnectChannel(h.InstanceID, "sms", map[string]string{
		"account_sid": TwilioAccount, "auth_token": TwilioToken, "phone_number": SMSBotNumber,
	})
	slack := h.ConnectChannel(
		h.InstanceID,
		"slack",
		map[string]string{"bot_token": SlackToken, "signing_secret": SlackSecret},
	)
	h.Slack.AddApp(NewSlackApp(slack["webhook_url"].(string), slack["commands_url"].(string)))
	h.ConnectChannel(h.PollingInstanceID, "telegram", map[string]string{"bot_token": PollingToken, "mode": "polling"})
}

// ConnectChannel sets up a channel, which must become active. It returns the channel.
func (h *Harness) ConnectChannel(instance, channel string, body map[string]string) (fields map[string]any) {
	h.T.Helper()
	h.MustCall("POST", "/v1/instances/"+instance+"/channels/"+channel, body, http.StatusOK, &fields)
	if fields["status"] != "active" {
		h.T.Fatalf("%s is not active: %v", channel, fields)
	}
	return fields
}

// CodesIssued returns the number of users who were issued a code.
func (h *Harness) CodesIssued() int { return int(h.codesIssued.Load()) }

// MustCall calls the API. It fails the test if the status is not want.
func (h *Harness) MustCall(method, path string, body any, want int, into any) {
	h.T.Helper()
	h.API.MustCall(h.T, method, path, body, want, into)
}

// Command returns a command with the settings of the gateways. Settings given as environment
// variables take precedence.
func (h *Harness) Command(program string, settings []string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = slices.Concat(os.Environ(), Env(h.Settings), h.options.Env, settings)
	return cmd
}

// StartReplica starts a gateway and routes all requests to it. Settings given as environment
// variables take precedence.
func (h *Harness) StartReplica(ctx context.Context, settings ...string) (p *Process, err error) {
	if h.inProcess() {
		p, err = h.startInProcess(settings)
	} else {
		p, err = StartProcess(ctx, h.Command(h.Fault.Program(), settings, "serve"), &h.Log)
	}
	if err == nil {
		h.Front.SetTargets(p.Addr)
	}
	return p, err
}

// Restart starts a gateway in place of one that has ended. It is like StartReplica, and fails the
// test if the gateway does not start.
func (h *Harness) Restart(settings ...string) *Process {
	h.T.Helper()
	p, err := h.StartReplica(h.T.Context(), settings...)
	if err != nil {
		h.T.Fatalf("%v\n%s", err, h.LogTail())
	}
	h.T.Cleanup(p.Kill)
	return p
}

// Terminate sends SIGTERM to a gateway and waits until it has ended.
func (h *Harness) Terminate(p *Process) {
	h.T.Helper()
	if err := p.terminate(); err != nil {
		h.T.Fatal(err)
	}
	<-p.Exited
}

// LogTail returns the end of the log.
func (h *Harness) LogTail() string { return h.Log.Tail(30) }

// CheckLog fails the test if a gateway panicked or had a data race.
func (h *Harness) CheckLog() {
	h.T.Helper()
	if err := CheckLog(h.Log.String()); err != nil {
		h.T.Error(err)
	}
}

// ExpireLeases ends all leases, such as those of a gateway that was killed.
func (h *Harness) ExpireLeases(ctx context.Context) {
	for _, q := range []string{
		`update lanes set lease_until = now(), due_at = now() - interval '1 second' where lease_until > now()`,
		`update endpoints set poll_until = now() where poll_until > now()`,
	} {
		for ctx.Err() == nil {
			if _, err := h.ExecContext(ctx, q); err == nil {
				break
			}
			sleepBriefly(ctx)
		}
	}
}

// WaitIdle waits until the gateways have no work left: no update is pending at Telegram, the spools
// are empty, and all messages, deliveries and replies are processed. It reports whether that was so
// in time.
func (h *Harness) WaitIdle(timeout time.Duration) bool {
	h.T.Helper()
	ctx, cancel := context.WithTimeout(h.T.Context(), timeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for idle := 0; idle < 6; idle++ { // longer than the interval at which the metric of the spool changes
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
		if h.hasWork(ctx) || h.hasSpooled(ctx) {
			idle = -1
		}
	}
	return true
}

// hasWork reports whether work is left in the database or at Telegram. It returns true if the
// database is unavailable.
func (h *Harness) hasWork(ctx context.Context) bool {
	var left int
	err := h.QueryRowContext(ctx, `select (select count(*) from messages where state = 'new')
		+ (select count(*) from deliveries where status = 'pending')
		+ (select count(*) from outbox where status in ('queued', 'sending'))`).Scan(&left)
	return err != nil || left+len(h.Telegram.PendingUpdates(TelegramBot))+len(h.Telegram.PendingUpdates(PollingBot)) > 0
}

// hasSpooled reports whether the spool of a gateway is not empty or unknown.
func (h *Harness) hasSpooled(ctx context.Context) bool {
	h.Front.mu.Lock()
	gateways := slices.Clone(h.Front.Targets)
	h.Front.mu.Unlock()
	for _, addr := range gateways {
		c := Client{URL: "http://" + addr, HTTP: h.API.HTTP}
		res, err := c.Do(ctx, http.MethodGet, "/metrics", BearerHeader(AdminKey), "")
		if err != nil || !strings.Contains(res.Body, "\nhydragate_spool_messages 0\n") {
			return true
		}
	}
	return false
}

// Sleep pauses the test.
func (h *Harness) Sleep(d time.Duration) { EveryInterval(d)(h.T.Context(), 0) }
