package harness

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// A Cluster is a world that carries messages on all channels while something breaks: the
// people, pretend providers and an agent in this process, the gateway in others.
type Cluster struct {
	*gatewayRunner
	T        *testing.T
	*DB      // not through the proxy
	postgres bool
	Proxies  map[string]*Proxy // by which the gateway reaches "postgres" and "redis"
	*Providers
	Webhooks          *webhookLog
	App               *FakeApp
	InstanceID        string // with SMS, Slack and Telegram by webhook
	PollingInstanceID string // with Telegram that is polled
	LoadCount         int
	CodesIssued       int // people who were given a code

	// Gateways that run beside each other have a spool each: between texts of which one
	// was spooled there is no order then, as there is none on their way through carriers.
	Replicated bool
}

const (
	PollingBot   = "acme_polled_bot"
	PollingToken = "7000003:AAE0123456789abcdefghijklmnopqrstuv"
)

// A ClusterOptions is what a storm stands on. Empty fields are the servers of the tests.
type ClusterOptions struct {
	Fault            Fault
	Env              []string                                  // more settings
	DatabaseURL      string                                    // a URL, or a file
	WebhookTransport func(http.RoundTripper) http.RoundTripper // what webhooks go through
}

// StartCluster opens the world, with one gateway in it that runs until the test is over or
// it is ended.
func StartCluster(t *testing.T, c ClusterOptions) (*Cluster, *Process) {
	t.Helper()
	if c.DatabaseURL == "" {
		c.DatabaseURL = CreateDatabase(t, TestPostgresURL(t))
	}
	s := &Cluster{gatewayRunner: newGatewayRunner(t, c.Fault), T: t, Proxies: map[string]*Proxy{}, postgres: sqldb.IsPostgres(c.DatabaseURL), Webhooks: &webhookLog{}, App: &FakeApp{ReplyText: "re {text}"}}
	s.API.HTTP.Timeout = 10 * time.Second
	s.env = append(s.env, "HYDRAGATE_MASTER_KEYS="+keyring.GenerateKey("k1"))
	if s.postgres {
		s.env = append(s.env, "HYDRAGATE_DATABASE_URL="+s.proxied("postgres", c.DatabaseURL), "HYDRAGATE_REDIS_URL="+s.proxied("redis", TestRedisURL(t)))
	} else {
		s.env = append(s.env, "HYDRAGATE_DATABASE_URL="+c.DatabaseURL, "HYDRAGATE_DATA_DIR="+filepath.Dir(c.DatabaseURL))
	}
	s.env = append(s.env, c.Env...)
	s.startProviders(c.WebhookTransport)
	p, err := s.Start(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, s.log.String())
	}
	t.Cleanup(p.Kill)
	s.DB = OpenDatabase(t, c.DatabaseURL)
	s.setUp()
	return s, p
}

// proxied puts a wire before the server that a URL names, and gives the URL of the wire.
func (s *Cluster) proxied(name, server string) string {
	u := mustParseURL(s.T, server)
	w, err := NewProxy(u.Host)
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(w.Close)
	s.Proxies[name] = w
	u.Host = w.Addr()
	return u.String()
}

// ProxiedAgain puts a second wire before a server that has one, and gives the URL of a
// database by way of it.
func (s *Cluster) ProxiedAgain(name string) string {
	for _, setting := range s.env {
		if of, ok := strings.CutPrefix(setting, "HYDRAGATE_DATABASE_URL="); ok && name == "postgres" {
			u := mustParseURL(s.T, of)
			u.Host = s.Proxies[name].Targets[0]
			return s.proxied(name+" again", u.String())
		}
	}
	s.T.Fatalf("no wire leads to %s", name)
	return ""
}

// startProviders starts pretend providers, who are as impatient as a proof needs, and
// take a moment for each message so that there is something to interrupt.
func (s *Cluster) startProviders(through func(http.RoundTripper) http.RoundTripper) {
	s.Providers = StartProviders(s.T.Cleanup, 5*time.Millisecond)
	s.Telegram.RetryScale, s.Slack.RetryScale, s.Slack.Timeout = 0.02, 0.01, 6*time.Second
	if through == nil {
		through = func(rt http.RoundTripper) http.RoundTripper { return rt }
	}
	for channel, c := range map[string]*http.Client{"telegram": s.Telegram.WebhookClient, "sms": s.Twilio.WebhookClient, "slack": s.Slack.Client} {
		c.Transport = through(s.Webhooks.transport(s.T, channel))
	}
	s.env = append(s.env, s.Providers.Env()...)
	s.App.URL = ServeHTTP(s.T.Cleanup, s.App)
}

// setUp does what staff do: two instances, with a seat on every channel.
func (s *Cluster) setUp() {
	s.T.Helper()
	s.AddAccounts()
	s.Telegram.AddBot(PollingToken, PollingBot)
	for _, at := range []*string{&s.InstanceID, &s.PollingInstanceID} {
		var i struct{ ID string }
		s.MustCall("POST", "/v1/instances", map[string]string{"name": "acme", "agent_url": s.App.URL}, http.StatusCreated, &i)
		*at = i.ID
	}
	s.ConnectChannel(s.InstanceID, "telegram", map[string]string{"bot_token": TelegramToken, "mode": "webhook"})
	s.ConnectChannel(s.InstanceID, "sms", map[string]string{"account_sid": TwilioAccount, "auth_token": TwilioToken, "phone_number": SMSBotNumber})
	seat := s.ConnectChannel(s.InstanceID, "slack", map[string]string{"bot_token": SlackToken, "signing_secret": SlackSecret})
	s.Slack.AddApp(NewSlackApp(seat["webhook_url"].(string), seat["commands_url"].(string)))
	s.ConnectChannel(s.PollingInstanceID, "telegram", map[string]string{"bot_token": PollingToken, "mode": "polling"})
}

func (s *Cluster) ConnectChannel(instance, channel string, body map[string]string) (seat map[string]any) {
	s.T.Helper()
	s.MustCall("POST", "/v1/instances/"+instance+"/channels/"+channel, body, http.StatusOK, &seat)
	if seat["status"] != "active" {
		s.T.Fatalf("%s is not active: %v", channel, seat)
	}
	return seat
}

// MustCall calls the API, which must answer this.
func (s *Cluster) MustCall(method, path string, body any, want int, into any) {
	s.T.Helper()
	s.API.MustCall(s.T, method, path, body, want, into)
}

// LogTail returns the end of the log of all gateways.
func (s *Cluster) LogTail() string { return s.log.Tail(30) }

// ExpireLeases lets the time pass that the dead still hold what they worked on.
func (s *Cluster) ExpireLeases(ctx context.Context) {
	for _, q := range []string{
		`update lanes set lease_until = now(), due_at = now() - interval '1 second' where lease_until > now()`,
		`update endpoints set poll_until = now() where poll_until > now()`,
	} {
		for ctx.Err() == nil {
			if _, err := s.DB.ExecContext(ctx, q); err == nil {
				break
			}
			sleepBriefly(ctx)
		}
	}
}

// WaitIdle waits until nothing is left to do: every message that waited at Telegram is
// fetched, what was spooled is in the database, all is worked and handed over, and every
// reply has left. It gives false when that takes too long.
func (s *Cluster) WaitIdle(within time.Duration) bool {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), within)
	defer cancel()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for still := 0; still < 6; still++ { // longer than the spool takes to tell
		select {
		case <-look.C:
		case <-ctx.Done():
			return false
		}
		var left int
		err := s.DB.QueryRowContext(ctx, `select (select count(*) from messages where state = 'new') + (select count(*) from deliveries where status = 'pending')
			+ (select count(*) from outbox where status in ('queued', 'sending'))`).Scan(&left)
		if err != nil || left > 0 || s.hasSpooled(ctx) || len(s.Telegram.PendingUpdates(TelegramBot))+len(s.Telegram.PendingUpdates(PollingBot)) > 0 {
			still = -1
		}
	}
	return true
}

// hasSpooled reports whether a gateway still has messages on its own disk, or does not say.
func (s *Cluster) hasSpooled(ctx context.Context) bool {
	s.Front.mu.Lock()
	gateways := slices.Clone(s.Front.Targets)
	s.Front.mu.Unlock()
	for _, addr := range gateways {
		c := Client{URL: "http://" + addr, HTTP: s.API.HTTP}
		res, err := c.Do(ctx, http.MethodGet, "/metrics", nil, "")
		if err != nil || !strings.Contains(res.Body, "\nhydragate_spool_messages 0\n") {
			return true
		}
	}
	return false
}

// CheckLog fails the test if a gateway panicked or had a data race.
func (s *Cluster) CheckLog() {
	s.T.Helper()
	if err := CheckLog(s.log.String()); err != nil {
		s.T.Error(err)
	}
}

// Sleep keeps the test where it is for a while.
func (s *Cluster) Sleep(d time.Duration) { EveryInterval(d)(s.T.Context(), 0) }

// Terminate asks a gateway to end and waits until it has.
func (s *Cluster) Terminate(p *Process) {
	p.Signal(s.T, syscall.SIGTERM)
	<-p.Exited
}

// Restart starts a gateway in place of one that ended.
func (s *Cluster) Restart() *Process {
	s.T.Helper()
	p, err := s.Start(s.T.Context())
	if err != nil {
		s.T.Fatalf("%v\n%s", err, s.LogTail())
	}
	s.T.Cleanup(p.Kill)
	return p
}
