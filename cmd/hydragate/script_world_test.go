package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/adapters/simulator"
	"hydragate/store"
)

type worldKey struct{}

// patience is how long a script waits for anything that has no limit of its own: for
// longer than a conversation is held by a gateway that died.
const patience = 70 * time.Second

// Every secret of the stories, so that a leak is found.
const (
	adminKey      = "an-admin-key-for-the-stories-0123456789"
	telegramToken = "7000001:AAE0123456789abcdefghijklmnopqrstuv"
	twilioAccount = "AC0123456789abcdef0123456789abcdef"
	twilioToken   = "fedcba98765432100123456789abcdef"
	slackToken    = "xoxb-0123456789-stories"
	slackSecret   = "8f742231b10e8888abcd99yyyzzz85a5"
	slackAppToken = "xapp-1-A0ACME-0123456789-stories"
)

// A world is everything around the gateway in one script: the people, the providers,
// the agent, the staff and the servers.
type world struct {
	engine string
	dir    string // of the script
	dsn    string // of the database, not by way of a wire

	telegram *simulator.Telegram
	twilio   *simulator.Twilio
	slack    *simulator.Slack
	lines    map[string]line // by channel
	mind     *mind
	crowd    *crowd
	texters  *texters
	mailbag  mailbag

	front, toPostgres, toRedis *wire
	processes                  map[string]*process

	read    map[string]int    // lines of the bot read, by channel and person
	ids     map[string]string // identities, by channel and person
	codes   []string          // every code that staff was given
	secrets []string          // every other secret
	ctx     context.Context   // ends with the script
}

// newWorld makes the world of a script, with nothing running in it but the providers
// and the agent.
func newWorld(t *testing.T, env *testscript.Env, engine string) error {
	ctx, stop := context.WithCancel(context.Background())
	w := &world{
		engine: engine, dir: env.WorkDir, ctx: ctx,
		processes: map[string]*process{}, read: map[string]int{}, ids: map[string]string{},
		secrets: []string{adminKey, telegramToken, twilioToken, slackToken, slackSecret, slackAppToken},
	}
	env.Values[worldKey{}] = w
	env.Defer(func() {
		w.killAll()
		stop()
	})
	if err := w.openProviders(env); err != nil {
		return err
	}
	w.mind = &mind{}
	w.mind.url = w.serve(env, w.mind).URL
	front, err := newWire()
	if err != nil {
		return err
	}
	w.front = front
	env.Defer(front.close)
	for name, value := range map[string]string{
		"HYDRAGATE_LISTEN":              "127.0.0.1:0",
		"HYDRAGATE_PUBLIC_URL":          "http://" + front.addr(),
		"HYDRAGATE_DATA_DIR":            filepath.Join(w.dir, "data"),
		"HYDRAGATE_ADMIN_KEY":           adminKey,
		"HYDRAGATE_AGENT_ALLOW_PRIVATE": "true",
		"KEY":                           adminKey,
		"DECLINED":                      "That code did not work. Codes last 15 minutes and work once; please ask for a new one.",
		"VERIFIED":                      "Thank you, you are verified. This chat now belongs to your account.",
	} {
		env.Setenv(name, value)
	}
	if engine == "sqlite" {
		w.dsn = filepath.Join(w.dir, "data", "hydragate.db")
		return nil
	}
	env.Setenv("HYDRAGATE_MASTER_KEYS", store.NewMasterKey("k1"))
	return w.openServers(t, env)
}

// openProviders starts pretend Telegram, Twilio and Slack. They are as impatient as
// a story needs: what takes them minutes takes them moments.
func (w *world) openProviders(env *testscript.Env) error {
	w.telegram, w.twilio, w.slack = simulator.NewTelegram(), simulator.NewTwilio(), simulator.NewSlack()
	w.telegram.Scale, w.slack.Scale = 0.2, 0.02
	env.Defer(w.telegram.Close)
	env.Defer(w.twilio.Close)
	env.Setenv("HYDRAGATE_TELEGRAM_API_URL", w.serve(env, w.telegram).URL)
	env.Setenv("HYDRAGATE_TWILIO_API_URL", w.serve(env, w.twilio).URL)
	w.slack.SetURL(w.serve(env, w.slack).URL)
	env.Setenv("HYDRAGATE_SLACK_API_URL", w.slack.APIURL())
	w.lines = map[string]line{
		"telegram": telegramLine{w},
		"sms":      twilioLine{w, ""},
		"whatsapp": twilioLine{w, "whatsapp:"},
		"slack":    slackLine{w},
	}
	return nil
}

// serve serves h until the script ends.
func (w *world) serve(env *testscript.Env, h http.Handler) *httptest.Server {
	s := httptest.NewServer(h)
	env.Defer(func() {
		s.CloseClientConnections() // a long poll would keep it open
		s.Close()
	})
	return s
}

// logTail gives the end of what the gateway logged.
func (w *world) logTail() string {
	const most = 40
	b, _ := os.ReadFile(filepath.Join(w.dir, logFile))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// remember NAME FILE REGEXP sets a variable to what the first group of an expression
// finds in a file, in stdout, or in the answer of the last api or http.
func (w *world) remember(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: remember NAME FILE REGEXP")
	}
	re, err := regexp.Compile(args[2])
	if err != nil {
		return err
	}
	m := re.FindStringSubmatch(ts.ReadFile(args[1]))
	if len(m) < 2 {
		return fmt.Errorf("nothing in %s matches %s", args[1], args[2])
	}
	ts.Setenv(args[0], m[1])
	return nil
}

// A bell tells everybody who listens that something changed. The zero value is ready.
type bell struct {
	mu   sync.Mutex
	rung chan struct{}
}

// next gives a channel that is closed when the bell is rung next.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung == nil {
		b.rung = make(chan struct{})
	}
	return b.rung
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung != nil {
		close(b.rung)
		b.rung = nil
	}
}

// until waits for done, looking again whenever the bell rings, and now and then for
// what rings no bell. After within it gives the error that done gave last.
func (b *bell) until(within time.Duration, done func() error) error {
	over, again := time.After(within), time.NewTicker(100*time.Millisecond)
	defer again.Stop()
	for {
		rung := b.next()
		err := done()
		if err == nil {
			return nil
		}
		select {
		case <-rung:
		case <-again.C:
		case <-over:
			return fmt.Errorf("after %s: %w", within, err)
		}
	}
}
