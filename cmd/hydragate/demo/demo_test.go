package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
)

// demoTimeout is longer than any demo in these tests takes, on any machine.
const demoTimeout = 5 * time.Minute

// TestMain checks that the demos leave no files behind.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "demo-test-")
	if err != nil {
		panic(err)
	}
	if err := os.Setenv("TMPDIR", dir); err != nil {
		panic(err)
	}
	code := m.Run()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		fmt.Fprintf(os.Stderr, "the demos left %v behind: %v\n", left, err)
		code = 1
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func TestDemo_Script(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	var out, logs bytes.Buffer
	c := &Options{Script: true, LogLevel: "warn"}
	if err := c.Run(ctx, app.Console{In: strings.NewReader(""), Out: &out, Err: &logs}); err != nil {
		t.Fatalf("%v\n%s%s", err, &out, &logs)
	}
	output := out.String()
	for _, title := range []string{"\nTelegram\n", "\nSMS\n", "\nSlack\n"} {
		_, after, ok := strings.Cut(output, title)
		if !ok {
			t.Fatalf("no section %q", title)
		}
		at := 0
		for _, line := range []string{
			"What is my balance?", "I do not know you yet", ", role unknown", "among the unknown senders", "issues a code",
			"stranger → bot", "That code did not work.", "That code did not work.", "issues a new code",
			"You are now verified as S…e.",
			"role_override owner", "identity.verified", "1,250.00 EUR", ", role owner",
		} {
			i := strings.Index(after[at:], line)
			if i < 0 {
				t.Fatalf("%q is missing, or not in its place, in\n%s", line, after)
			}
			at += i + len(line)
		}
	}
	if strings.Contains(output, "\x1b") {
		t.Error("the output has colors, but is not a terminal")
	}
	if logs.Len() > 0 {
		t.Errorf("the gateway logged warnings: %s", &logs)
	}
}

// TestDemo_ScriptDetectsDeviation plays scenarios that deviate from the script. The script must fail.
func TestDemo_ScriptDetectsDeviation(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	whoami := func(string) string { return "/whoami" }
	err := runDemo(ctx, t, nil, func(ctx context.Context, d *Environment) error {
		for _, tt := range []struct {
			name    string
			channel int // in scenarios; a different one in each case
			change  func(*scenario)
			want    string
		}{
			{
				"stranger sends no code", 0, func(a *scenario) { a.strangerText = whoami },
				`the reply to stranger should contain "That code did not work."`,
			},
			{
				"code not revoked", 1,
				func(a *scenario) { a.strangerText = func(string) string { return "/claim BBBCCC" } },
				`the reply to Steve should contain "That code did not work."`,
			},
			{
				"Steve sends no code", 2, func(a *scenario) { a.validText = whoami },
				`the reply to Steve should contain "You are now verified as S…e."`,
			},
		} {
			a := scenarios()[tt.channel]
			tt.change(&a)
			s := &scriptRun{Environment: d, printer: newPrinter(io.Discard), control: d.Providers.NewControl()}
			if err := s.runScenario(ctx, a); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: runScenario = %v, want an error that contains %q", tt.name, err, tt.want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestScriptRun_CheckNoCodeLeaked(t *testing.T) {
	for _, tt := range []struct {
		name  string
		event AppEvent
		want  string
	}{
		{
			"code reaches the application",
			AppEvent{ID: "1", Data: appEventData{Text: "my code is wdj bmj"}},
			"the application received a code",
		},
		{
			"stranger reaches the application",
			AppEvent{ID: "1", Type: eventReceived, Data: appEventData{
				Channel: "sms", Sender: appSender{ExternalID: strangerAccount(adapters.SMS)},
			}},
			"should not have received the message of the stranger",
		},
	} {
		s := &scriptRun{Environment: &Environment{App: NewSampleApp()}, issuedCodes: []string{"WDJBMJ"}}
		if err := s.checkNoCodeLeaked(); err != nil {
			t.Errorf("%s: checkNoCodeLeaked before = %v, want nil", tt.name, err)
		}
		s.App.record(tt.event)
		if err := s.checkNoCodeLeaked(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: checkNoCodeLeaked = %v, want an error that contains %q", tt.name, err, tt.want)
		}
	}
}

// runDemo runs a demo and calls f when it is set up. It calls inject, if not nil, before the set-up.
func runDemo(
	ctx context.Context, t *testing.T, inject func(*simulator.Providers), f func(context.Context, *Environment) error,
) error {
	t.Helper()
	p, err := simulator.StartProviders(0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if inject != nil {
		inject(p)
	}
	d := &Environment{Console: app.Console{Out: io.Discard, Err: io.Discard}, Providers: p, App: NewSampleApp()}
	application, err := simulator.StartServer(anyPort, d.App)
	if err != nil {
		t.Fatal(err)
	}
	defer application.Close()
	d.AppURL = application.URL
	s := (&Options{Script: true, LogLevel: "error"}).GatewaySettings(t.TempDir(), p)
	return d.RunWithGateway(ctx, s, func(ctx context.Context) error { return f(ctx, d) })
}

func TestDemo_SetUpFailure(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	inject := func(p *simulator.Providers) {
		p.Slack.Arm("auth.test", simulator.Fault{Status: 200, Body: `{"ok":false,"error":"account_inactive"}`})
	}
	err := runDemo(ctx, t, inject, func(context.Context, *Environment) error {
		return errors.New("set up despite the fault")
	})
	if err == nil || !strings.Contains(err.Error(), "connect the sample channels") ||
		!strings.Contains(err.Error(), "account_inactive") {
		t.Errorf("set-up error = %v, want one about the channels with account_inactive", err)
	}
}

func TestDemo_ScriptInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &triggerBuffer{trigger: "stranger", onTrigger: cancel}
	err := (&Options{Script: true, LogLevel: "error"}).Run(ctx, app.Console{Out: out, Err: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("Run of an interrupted script = %v, want an error that says so", err)
	}
}

// TestDemo_DetailedAccounts connects every channel in every mode with the accounts that the demo
// prints, and checks that the bot then receives messages.
func TestDemo_DetailedAccounts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	err := runDemo(ctx, t, nil, func(ctx context.Context, d *Environment) error {
		text := d.detailText(identityResponse{})
		for n, tt := range []struct {
			name, mode string
			channel    adapters.Channel
			sockets    int
			as         func(n int) string
		}{
			{"Telegram, polled", "polling", adapters.Telegram, 0, func(n int) string { return fmt.Sprint(424200 + n) }},
			{"Telegram", "webhook", adapters.Telegram, 0, func(n int) string { return fmt.Sprint(424200 + n) }},
			{"Slack, connected", "socket", adapters.Slack, 1, func(n int) string { return fmt.Sprint("U0MATT", n) }},
			{"Slack", "webhook", adapters.Slack, 0, func(n int) string { return fmt.Sprint("U0MATT", n) }},
			{"SMS", "", adapters.SMS, 0, func(n int) string { return fmt.Sprint("+1202555019", n) }},
			{"WhatsApp", "", adapters.WhatsApp, 0, func(n int) string { return fmt.Sprint("+1202555018", n) }},
		} {
			body := regexp.MustCompile(`\n  ` + tt.name + ` +({\S+})\n`).FindStringSubmatch(text)
			if body == nil {
				t.Fatalf("no account %s in:\n%s", tt.name, text)
			}
			var endpoint struct{ Status, Mode string }
			path := "/v1/instances/" + d.InstanceID + "/channels/" + string(tt.channel)
			if err := d.API.Call(ctx, "POST", path, json.RawMessage(body[1]), &endpoint); err != nil {
				return err
			}
			if endpoint.Status != "active" || endpoint.Mode != tt.mode {
				t.Errorf("%s: endpoint = %+v, want active, mode %q", tt.name, endpoint, tt.mode)
			}
			for d.Providers.Slack.SocketCount(simulator.DemoSocketApp) != tt.sockets && ctx.Err() == nil {
				<-time.After(20 * time.Millisecond) // it takes a moment to connect
			}
			sender := tt.as(n)
			req := simulator.SendRequest{Channel: tt.channel, Sender: sender, Name: "Matt", Text: "hello"}
			if _, err := d.Providers.NewControl().Send(ctx, req); err != nil {
				return fmt.Errorf("%s: %w", tt.name, err)
			}
			if tt.channel == adapters.Slack {
				sender = simulator.DemoTeam + ":" + sender
			}
			for len(d.App.Messages(string(tt.channel), sender)) == 0 {
				if ctx.Err() != nil {
					return fmt.Errorf("%s: the application received nothing: %w", tt.name, ctx.Err())
				}
				<-time.After(20 * time.Millisecond)
			}
		}
		if !strings.Contains(text, "'"+d.API.URL+"/v1/instances/"+d.InstanceID+"/channels/slack'; echo") {
			t.Errorf("no command that connects Slack in:\n%s", text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDemo_IntroductionLength checks that the start of the demo can be read at a glance.
func TestDemo_IntroductionLength(t *testing.T) {
	d := &Environment{API: &apiClient{URL: "http://127.0.0.1:8080", Key: "key"}, controlURL: "http://127.0.0.1:1"}
	if n := strings.Count(d.introduction(identityResponse{}), "\n"); n > 20 {
		t.Errorf("the introduction has %d lines, want at most 20", n)
	}
}
