package script

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
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/adapters/simulator"
	"hydragate/e2e/harness"
	"hydragate/store/keyring"
)

// appCommand hears [again] PATH=REGEXP… | answers TEXT | fails | hangs | recovers
func (w *scriptFixture) appCommand(ts *testscript.TestScript, args []string) error {
	m := w.app
	switch {
	case len(args) > 1 && args[0] == "hears" && args[1] == "again":
		return m.ExpectRedelivery(args[2:])
	case len(args) > 1 && args[0] == "hears":
		return m.ExpectEvent(args[1:])
	case len(args) == 2 && args[0] == "answers":
		m.Update(func() { m.ReplyText = args[1] })
		return nil
	case len(args) == 1 && (args[0] == "fails" || args[0] == "hangs"):
		m.Update(func() { m.Failure = args[0] })
		return nil
	case len(args) == 1 && args[0] == "recovers":
		m.Update(func() { m.Failure = "" })
		return nil
	}
	return errors.New("usage: agent hears [again] PATH=REGEXP… | answers TEXT | fails | hangs | recovers")
}

type fixtureKey struct{}

// A scriptFixture is everything around the gateway in one script: the people, the providers,
// the agent, the staff and the servers.
type scriptFixture struct {
	engine      string
	dir         string // of the script
	databaseURL string // of the database, not by way of a wire

	telegram   *simulator.Telegram
	twilio     *simulator.Twilio
	slack      *simulator.Slack
	clients    map[string]channelClient // by channel
	app        *harness.FakeApp
	senders    *telegramSenders
	smsSenders *smsSenders
	deliveries pendingDeliveries

	front, postgresProxy, redisProxy *harness.Proxy
	processes                        map[string]*harness.Process

	repliesRead   map[string]int    // lines of the bot read, by channel and person
	identityPaths map[string]string // identities, by channel and person
	codes         []string          // every code that staff was given
	secrets       []string          // every other secret
	ctx           context.Context   // ends with the script
}

// newScriptFixture makes the world of a script, with nothing running in it but the providers
// and the agent.
func newScriptFixture(t *testing.T, env *testscript.Env, engine string) error {
	ctx, stop := context.WithCancel(context.Background())
	w := &scriptFixture{
		engine: engine, dir: env.WorkDir, ctx: ctx,
		processes: map[string]*harness.Process{}, repliesRead: map[string]int{}, identityPaths: map[string]string{},
		secrets: []string{harness.AdminKey, harness.TelegramToken, harness.TwilioToken, harness.SlackToken, harness.SlackSecret, harness.SlackAppToken},
	}
	env.Values[fixtureKey{}] = w
	env.Defer(func() {
		w.killAll()
		stop()
	})
	if err := w.startProviders(env); err != nil {
		return err
	}
	w.app = &harness.FakeApp{}
	w.app.URL = w.serve(env, w.app).URL
	front, err := harness.NewProxy()
	if err != nil {
		return err
	}
	w.front = front
	env.Defer(front.Close)
	for name, value := range map[string]string{
		"HYDRAGATE_LISTEN":              "127.0.0.1:0",
		"HYDRAGATE_PUBLIC_URL":          "http://" + front.Addr(),
		"HYDRAGATE_DATA_DIR":            filepath.Join(w.dir, "data"),
		"HYDRAGATE_ADMIN_KEY":           harness.AdminKey,
		"HYDRAGATE_AGENT_ALLOW_PRIVATE": "true",
		"KEY":                           harness.AdminKey,
		"DECLINED":                      "That code did not work. Codes last 15 minutes and work once; please ask for a new one.",
		"VERIFIED":                      "Thank you! You are verified. This chat is now linked to your account.",
	} {
		env.Setenv(name, value)
	}
	if engine == "sqlite" {
		w.databaseURL = filepath.Join(w.dir, "data", "hydragate.db")
		return nil
	}
	env.Setenv("HYDRAGATE_MASTER_KEYS", keyring.GenerateKey("k1"))
	return w.useServers(t, env)
}

// startProviders starts pretend Telegram, Twilio and Slack. They are as impatient as
// a story needs: what takes them minutes takes them moments.
func (w *scriptFixture) startProviders(env *testscript.Env) error {
	w.telegram, w.twilio, w.slack = simulator.NewTelegram(), simulator.NewTwilio(), simulator.NewSlack()
	w.telegram.RetryScale, w.slack.RetryScale = 0.2, 0.02
	env.Defer(w.telegram.Close)
	env.Defer(w.twilio.Close)
	env.Setenv("HYDRAGATE_TELEGRAM_API_URL", w.serve(env, w.telegram).URL)
	env.Setenv("HYDRAGATE_TWILIO_API_URL", w.serve(env, w.twilio).URL)
	w.slack.SetURL(w.serve(env, w.slack).URL)
	env.Setenv("HYDRAGATE_SLACK_API_URL", w.slack.APIURL())
	w.clients = map[string]channelClient{
		"telegram": telegramClient{w},
		"sms":      twilioClient{w, ""},
		"whatsapp": twilioClient{w, "whatsapp:"},
		"slack":    slackClient{w},
	}
	return nil
}

// serve serves h until the script ends.
func (w *scriptFixture) serve(env *testscript.Env, h http.Handler) *httptest.Server {
	s := httptest.NewServer(h)
	env.Defer(func() {
		s.CloseClientConnections() // a long poll would keep it open
		s.Close()
	})
	return s
}

// logTail gives the end of what the gateway logged.
func (w *scriptFixture) logTail() string {
	log, _ := os.ReadFile(filepath.Join(w.dir, logFile))
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// rememberCommand NAME FILE REGEXP sets a variable to what the first group of an expression
// finds in a file, in stdout, or in the answer of the last api or http.
func (w *scriptFixture) rememberCommand(ts *testscript.TestScript, args []string) error {
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
