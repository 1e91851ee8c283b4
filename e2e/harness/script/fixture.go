//go:build unix

package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/e2e/harness"
	"hydragate/store/keyring"
)

type fixtureKey struct{}

// A scriptFixture is the environment of one script: the processes of the gateway, the fake providers
// and application, and the servers.
type scriptFixture struct {
	engine      string
	dir         string // of the script
	databaseURL string // not through the proxy

	*harness.Providers
	clients    map[string]channelClient // by channel
	app        *harness.FakeApp
	senders    *telegramSenders
	smsSenders *smsSenders
	deliveries pendingDeliveries

	front, postgresProxy, redisProxy *harness.Proxy
	processes                        map[string]*harness.Process

	repliesRead   map[string]int    // replies checked, by channel and user
	identityPaths map[string]string // paths of identities in the API, by channel and user
	codes         []string          // claim codes and invites that were issued
	secrets       []string          // other secrets
	ctx           context.Context   // canceled when the script ends
}

// newScriptFixture sets up the environment of a script with the fake providers and application. It
// starts no gateway.
func newScriptFixture(t *testing.T, env *testscript.Env, engine string) error {
	ctx, stop := context.WithCancel(context.Background())
	w := &scriptFixture{
		engine: engine, dir: env.WorkDir, ctx: ctx,
		processes: map[string]*harness.Process{}, repliesRead: map[string]int{}, identityPaths: map[string]string{},
		secrets: []string{
			harness.AdminKey,
			harness.TelegramToken,
			harness.TwilioToken,
			harness.SlackToken,
			harness.SlackSecret,
			harness.SlackAppToken,
		},
	}
	env.Values[fixtureKey{}] = w
	env.Defer(func() {
		w.killAll()
		stop()
	})
	w.startProviders(env)
	w.app = &harness.FakeApp{}
	w.app.URL = harness.ServeHTTP(env.Defer, w.app)
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
		"GORACE":                        os.Getenv("GORACE"),
		"KEY":                           harness.AdminKey,
		"DECLINED": "That code did not work. Codes last 15 minutes and work once; " +
			"please ask for a new one.",
		"VERIFIED":   `You are now verified as \p{L}…\p{L}\. This chat is linked to your account\.`,
		"NOT_PROVEN": "Please type the code again as a new message.",
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

// startProviders starts the fake providers. They retry sooner than the real ones.
func (w *scriptFixture) startProviders(env *testscript.Env) {
	w.Providers = harness.StartProviders(env.Defer, 0)
	w.Telegram.RetryScale, w.Slack.RetryScale = 0.2, 0.02
	for _, setting := range w.Env() {
		name, value, _ := strings.Cut(setting, "=")
		env.Setenv(name, value)
	}
	w.clients = map[string]channelClient{
		"telegram": telegramClient{w},
		"sms":      twilioClient{w, ""},
		"whatsapp": twilioClient{w, "whatsapp:"},
		"slack":    slackClient{w},
	}
}

// logTail returns the end of the gateway's log.
func (w *scriptFixture) logTail() string {
	log, _ := os.ReadFile(filepath.Join(w.dir, logFile))
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// captureCommand implements the command capture. It sets a variable to the first group of an
// expression in a file, in stdout, or in the response to the last api or http command (answer).
func (w *scriptFixture) captureCommand(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: capture NAME FILE REGEXP")
	}
	re, err := regexp.Compile(args[2])
	if err != nil {
		return err
	}
	m := re.FindStringSubmatch(ts.ReadFile(args[1]))
	if len(m) < 2 {
		return fmt.Errorf("%s does not match %s", args[1], args[2])
	}
	ts.Setenv(args[0], m[1])
	return nil
}

// appCommand implements the command app.
func (w *scriptFixture) appCommand(ts *testscript.TestScript, args []string) error {
	m := w.app
	switch {
	case len(args) > 0 && args[0] == "expect-redelivery":
		return m.ExpectRedelivery(args[1:])
	case len(args) > 1 && args[0] == "expect":
		return m.ExpectEvent(args[1:])
	case len(args) == 2 && args[0] == "reply":
		m.Update(func() { m.ReplyText = args[1] })
		return nil
	case len(args) == 1 && (args[0] == "fail" || args[0] == "hang"):
		m.Update(func() { m.Failure = args[0] })
		return nil
	case len(args) == 1 && args[0] == "recover":
		m.Update(func() { m.Failure = "" })
		return nil
	}
	return errors.New("usage: app expect|expect-redelivery PATH=REGEXP… | reply TEXT | fail | hang | recover")
}
