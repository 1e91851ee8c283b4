//go:build unix

package main

import (
	"cmp"
	"context"
	"database/sql"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/adapters/simulator"
	"hydragate/store"
)

// A storm is a world that carries messages on all channels while something breaks: the
// people, pretend providers and an agent in this process, the gateway in others.
type storm struct {
	*door
	t        *testing.T
	sql      *sql.DB // not by the gateway's own way to the database
	postgres bool
	wires    map[string]*wire // by which the gateway reaches "postgres" and "redis"
	telegram *simulator.Telegram
	twilio   *simulator.Twilio
	slack    *simulator.Slack
	hooks    *hookLog
	ear      *ear
	instance string // with SMS, Slack and Telegram by webhook
	polled   string // with Telegram that is polled
	rounds   int
	claims   int // people who were given a code

	// Gateways that run beside each other have a spool each: between texts of which one
	// was spooled there is no order then, as there is none on their way through carriers.
	sideBySide bool
}

const (
	polledBot   = "acme_polled_bot"
	polledToken = "7000003:AAE0123456789abcdefghijklmnopqrstuv"
)

// A climate is what a storm stands on. Empty fields are the servers of the tests.
type climate struct {
	role     string                                    // what the gateway is; empty: the program
	database string                                    // a URL, or a file
	through  func(http.RoundTripper) http.RoundTripper // what webhooks go through
}

// newStorm opens the world, with one gateway in it that runs until the test is over or
// it is ended.
func newStorm(t *testing.T, c climate) (*storm, *mortal) {
	t.Helper()
	if c.database == "" {
		c.database = freshDatabase(t, testPostgres(t))
	}
	s := &storm{door: newDoor(t, cmp.Or(c.role, "serve")), t: t, wires: map[string]*wire{}, postgres: store.IsPostgres(c.database), hooks: &hookLog{}, ear: newEar()}
	s.http.Timeout = 10 * time.Second
	s.settings = append(s.settings, "HYDRAGATE_MASTER_KEYS="+store.NewMasterKey("k1"))
	if s.postgres {
		s.settings = append(s.settings, "HYDRAGATE_DATABASE_URL="+s.wired("postgres", c.database), "HYDRAGATE_REDIS_URL="+s.wired("redis", testRedis(t)))
	} else {
		s.settings = append(s.settings, "HYDRAGATE_DATABASE_URL="+c.database, "HYDRAGATE_DATA_DIR="+filepath.Dir(c.database))
	}
	s.openProviders(c.through)
	p, err := s.start(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, s.log.String())
	}
	t.Cleanup(p.kill)
	s.sql = openDatabase(t, c.database)
	s.setUp()
	return s, p
}

// wired puts a wire before the server that a URL names, and gives the URL of the wire.
func (s *storm) wired(name, server string) string {
	u := mustURL(s.t, server)
	w, err := newWire(u.Host)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(w.close)
	s.wires[name] = w
	u.Host = w.addr()
	return u.String()
}

// wiredAgain puts a second wire before a server that has one, and gives the URL of a
// database by way of it.
func (s *storm) wiredAgain(name string) string {
	for _, setting := range s.settings {
		if of, ok := strings.CutPrefix(setting, "HYDRAGATE_DATABASE_URL="); ok && name == "postgres" {
			u := mustURL(s.t, of)
			u.Host = s.wires[name].to[0]
			return s.wired(name+" again", u.String())
		}
	}
	s.t.Fatalf("no wire leads to %s", name)
	return ""
}

// openProviders starts pretend providers, who are as impatient as a proof needs, and
// take a moment for each message so that there is something to interrupt.
func (s *storm) openProviders(through func(http.RoundTripper) http.RoundTripper) {
	s.telegram, s.twilio, s.slack = simulator.NewTelegram(), simulator.NewTwilio(), simulator.NewSlack()
	s.telegram.Scale, s.slack.Scale, s.slack.Timeout = 0.02, 0.01, 6*time.Second
	if through == nil {
		through = func(rt http.RoundTripper) http.RoundTripper { return rt }
	}
	for channel, c := range map[string]*http.Client{"telegram": s.telegram.WebhookClient, "sms": s.twilio.WebhookClient, "slack": s.slack.Client} {
		c.Transport = through(s.hooks.transport(s.t, channel))
	}
	serve := func(h http.Handler) string {
		server := httptest.NewServer(h)
		s.t.Cleanup(func() {
			server.CloseClientConnections() // a long poll would keep it open
			server.Close()
		})
		return server.URL
	}
	s.slack.SetURL(serve(unhurried{s.slack}))
	s.settings = append(s.settings, "HYDRAGATE_TELEGRAM_API_URL="+serve(unhurried{s.telegram}), "HYDRAGATE_TWILIO_API_URL="+serve(unhurried{s.twilio}), "HYDRAGATE_SLACK_API_URL="+s.slack.APIURL())
	s.ear.url = serve(s.ear)
	s.t.Cleanup(s.telegram.Close)
	s.t.Cleanup(s.twilio.Close)
}

// unhurried answers a little after the work is done.
type unhurried struct{ http.Handler }

func (u unhurried) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.Handler.ServeHTTP(w, r)
	<-time.After(5 * time.Millisecond)
}

// setUp does what staff do: two instances, with a seat on every channel.
func (s *storm) setUp() {
	s.t.Helper()
	s.telegram.AddBot(telegramToken, telegramBot)
	s.telegram.AddBot(polledToken, polledBot)
	s.twilio.AddAccount(twilioAccount, twilioToken)
	s.twilio.AddNumber(twilioAccount, phoneBot)
	app := simulator.App{AppID: slackApp, TeamID: slackTeam, TeamName: "Acme", BotUserID: "U0BOT", Token: slackToken, SigningSecret: slackSecret}
	s.slack.AddApp(app)
	s.slack.AddRoom(slackRoom, false)
	for _, at := range []*string{&s.instance, &s.polled} {
		var i struct{ ID string }
		s.does("POST", "/v1/instances", map[string]string{"name": "acme", "agent_url": s.ear.url}, http.StatusCreated, &i)
		*at = i.ID
	}
	s.connect(s.instance, "telegram", map[string]string{"bot_token": telegramToken, "mode": "webhook"})
	s.connect(s.instance, "sms", map[string]string{"account_sid": twilioAccount, "auth_token": twilioToken, "phone_number": phoneBot})
	seat := s.connect(s.instance, "slack", map[string]string{"bot_token": slackToken, "signing_secret": slackSecret})
	app.EventsURL, app.CommandsURL = seat["webhook_url"].(string), seat["commands_url"].(string)
	s.slack.AddApp(app)
	s.connect(s.polled, "telegram", map[string]string{"bot_token": polledToken, "mode": "polling"})
}

func (s *storm) connect(instance, channel string, body map[string]string) (seat map[string]any) {
	s.t.Helper()
	s.does("POST", "/v1/instances/"+instance+"/channels/"+channel, body, http.StatusOK, &seat)
	if seat["status"] != "active" {
		s.t.Fatalf("%s is not active: %v", channel, seat)
	}
	return seat
}

// does calls the API, which must answer this.
func (s *storm) does(method, path string, body any, want int, into any) {
	s.t.Helper()
	status, answer := s.call(s.t.Context(), method, path, body)
	if status != want {
		s.t.Fatalf("%s %s: %d %s\n%s", method, path, status, answer, s.tail())
	}
	decode(s.t, string(answer), into)
}

// tail gives the end of the log of all gateways.
func (s *storm) tail() string {
	lines := strings.Split(s.log.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// exec changes the database by hand.
func (s *storm) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.sql.ExecContext(s.t.Context(), query, args...); err != nil {
		s.t.Fatal(query, err)
	}
}

// leasesEnd lets the time pass that the dead still hold what they worked on.
func (s *storm) leasesEnd(ctx context.Context) {
	for _, q := range []string{
		`update lanes set lease_until = now(), due_at = now() - interval '1 second' where lease_until > now()`,
		`update endpoints set poll_until = now() where poll_until > now()`,
	} {
		for ctx.Err() == nil {
			if _, err := s.sql.ExecContext(ctx, q); err == nil {
				break
			}
			pause(ctx)
		}
	}
}

// quiet waits until nothing is left to do: every message that waited at Telegram is
// fetched, what was spooled is in the database, all is worked and handed over, and every
// reply has left. It gives false when that takes too long.
func (s *storm) quiet(within time.Duration) bool {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), within)
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
		err := s.sql.QueryRowContext(ctx, `select (select count(*) from messages where state = 'new') + (select count(*) from deliveries where status = 'pending')
			+ (select count(*) from outbox where status in ('queued', 'sending'))`).Scan(&left)
		if err != nil || left > 0 || s.spools(ctx) || len(s.telegram.Pending(telegramBot))+len(s.telegram.Pending(polledBot)) > 0 {
			still = -1
		}
	}
	return true
}

// spools reports whether a gateway still has messages on its own disk, or does not say.
func (s *storm) spools(ctx context.Context) bool {
	s.front.mu.Lock()
	gateways := slices.Clone(s.front.to)
	s.front.mu.Unlock()
	for _, addr := range gateways {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
		if err != nil {
			return true
		}
		res, err := s.http.Do(req)
		if err != nil {
			return true
		}
		all, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || !strings.Contains(string(all), "\nhydragate_spool_messages 0\n") {
			return true
		}
	}
	return false
}

// count gives the one number that a query gives.
func (s *storm) count(query string, args ...any) (n int) {
	s.t.Helper()
	if err := s.sql.QueryRowContext(s.t.Context(), query, args...).Scan(&n); err != nil {
		s.t.Fatal(query, err)
	}
	return n
}

// healthy gives an error of the test when a gateway panicked or raced.
func (s *storm) healthy() {
	s.t.Helper()
	log := s.log.String()
	for _, sign := range []string{"DATA RACE", "panic"} {
		if _, after, found := strings.Cut(log, sign); found {
			s.t.Errorf("the log says: %s%s", sign, after[:min(len(after), 4000)])
		}
	}
}

// percentile gives the value below which the part p of all lies.
func percentile(all []time.Duration, p float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[min(len(all)-1, int(p*float64(len(all))))]
}

// alongside lets the short form of a proof run beside others: they mostly wait. A whole
// one has the machine for itself.
func alongside(t *testing.T) {
	if !long() {
		t.Parallel()
	}
}

// wholeOnly leaves a proof to those who ask for all of it: its faults are played in
// short by the scripts.
func wholeOnly(t *testing.T) {
	if !long() {
		t.Skip("played whole alone: make proof PROOF=" + t.Name())
	}
}

// share gives how much of a whole proof the short form takes.
func share(short, whole int) int {
	if long() {
		return whole
	}
	return short
}

// stay keeps the test where it is for a while.
func (s *storm) stay(d time.Duration) { each(d)(s.t.Context(), 0) }
