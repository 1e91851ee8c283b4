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
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
)

// demoTimeout is longer than any demo in these tests takes, on any machine.
const demoTimeout = 90 * time.Second

// useTempDir makes the demo create its data in a directory of the test, and checks at the end that
// it is empty.
func useTempDir(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("the demo left %d entries behind: %v", len(left), err)
		}
	})
}

func TestDemo_Script(t *testing.T) {
	useTempDir(t)
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
			"stranger → bot", "That code did not work.", "That code did not work.", "issues a new code", "You are verified",
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
	useTempDir(t)
	whoami := func(string) string { return "/whoami" }
	modified := func(change func(*scenario)) scenario {
		a := scenarios()[0]
		change(&a)
		return a
	}
	play := func(a scenario) func(context.Context, *Environment) error {
		return func(ctx context.Context, d *Environment) error {
			s := &scriptRun{Environment: d, printer: newPrinter(io.Discard), control: d.Providers.NewControl()}
			return s.runScenario(ctx, a)
		}
	}
	for _, tt := range []struct {
		name string
		play func(context.Context, *Environment) error
		want string
	}{
		{
			"stranger sends no code", play(modified(func(a *scenario) { a.strangerText = whoami })),
			`the reply to stranger should contain "That code did not work."`,
		},
		{
			"code not revoked",
			play(modified(func(a *scenario) { a.strangerText = func(string) string { return "/claim BBBCCC" } })),
			`the reply to Steve should contain "That code did not work."`,
		},
		{
			"Steve sends no code", play(modified(func(a *scenario) { a.validText = whoami })),
			`the reply to Steve should contain "You are verified"`,
		},
		{"code reaches the application", func(_ context.Context, d *Environment) error {
			d.App.record(AppEvent{ID: "1", Data: appEventData{Text: "my code is wdj bmj"}})
			s := &scriptRun{Environment: d, printer: newPrinter(io.Discard), issuedCodes: []string{"WDJBMJ"}}
			return s.checkNoCodeLeaked()
		}, "the application received a code"},
		{"stranger reaches the application", func(_ context.Context, d *Environment) error {
			sender := appSender{ExternalID: strangerAccount(adapters.SMS)}
			d.App.record(AppEvent{ID: "1", Type: eventReceived, Data: appEventData{Channel: "sms", Sender: sender}})
			return (&scriptRun{Environment: d}).checkNoCodeLeaked()
		}, "should not have received the message of the stranger"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
			defer cancel()
			err := runDemo(ctx, t, nil, tt.play)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("script error = %v, want one that contains %q", err, tt.want)
			}
		})
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
	useTempDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	inject := func(p *simulator.Providers) {
		p.Slack.Arm("auth.test", simulator.Fault{Status: 200, Body: `{"ok":false,"error":"account_inactive"}`})
	}
	err := runDemo(
		ctx,
		t,
		inject,
		func(context.Context, *Environment) error { return errors.New("set up despite the fault") },
	)
	if err == nil || !strings.Contains(err.Error(), "connect the sample channels") ||
		!strings.Contains(err.Error(), "account_inactive") {
		t.Errorf("set-up error = %v, want one about the channels with account_inactive", err)
	}
}

func TestDemo_ScriptInterrupted(t *testing.T) {
	useTempDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &triggerBuffer{trigger: "stranger", onTrigger: cancel}
	err := (&Options{Script: true, LogLevel: "error"}).Run(ctx, app.Console{Out: out, Err: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("Run of an interrupted script = %v, want an error that says so", err)
	}
}

// A triggerBuffer collects what is printed, and calls onTrigger when that contains trigger.
type triggerBuffer struct {
	mu        sync.Mutex
	buf       bytes.Buffer
	trigger   string
	onTrigger func()
}

func (o *triggerBuffer) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(p)
	if o.onTrigger != nil && strings.Contains(o.buf.String(), o.trigger) {
		o.onTrigger()
		o.onTrigger = nil
	}
	return len(p), nil
}

func (o *triggerBuffer) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// TestDemo_Chat starts a demo, follows its instructions, chats from several accounts, and stops it.
func TestDemo_Chat(t *testing.T) {
	useTempDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	up := make(chan struct{})
	guide := &triggerBuffer{trigger: "from the wrong account", onTrigger: func() { close(up) }}
	inner, interrupt := context.WithCancel(ctx)
	defer interrupt()
	stopped := make(chan error, 1)
	go func() {
		c := &Options{Details: true, Listen: anyPort, Control: anyPort, LogLevel: "error"}
		stopped <- c.Run(inner, app.Console{Out: guide, Err: io.Discard})
	}()
	select {
	case <-up:
	case err := <-stopped:
		t.Fatalf("%v\n%s", err, guide)
	case <-ctx.Done():
		t.Fatal(guide)
	}
	find := func(pattern string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(guide.String())
		if m == nil {
			t.Fatalf("the output does not match %s:\n%s", pattern, guide)
		}
		return m[1]
	}
	control := find(`--demo (\S+)`)
	chat := func(c ChatOptions, typed string) (out, errs string) {
		var o, e bytes.Buffer
		c.Demo = control
		if err := c.Run(ctx, app.Console{In: strings.NewReader(typed), Out: &o, Err: &e}); err != nil {
			t.Errorf("chat %+v: %v", c, err)
		}
		return o.String(), e.String()
	}

	out, _ := chat(ChatOptions{Channel: "telegram"}, "hello\n")
	if !strings.Contains(out, "Hello Steve! This chat is not verified yet.") || strings.Count(out, "\n") != 1 {
		t.Errorf("reply to Steve = %q, want one line that says that he is not verified", out)
	}
	client := apiClient{URL: find(`API reference +(http://[^/]+)`), Key: find(`API key +(\S+)`)}
	code, err := client.IssueCode(ctx, find(`Customer +(\S+)`), find(`Identity +(\S+)`))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(code.Instructions, "@"+simulator.DemoBot) {
		t.Errorf("the instructions do not name the bot: %s", code.Instructions)
	}
	steve := ChatOptions{Channel: "telegram", As: "12345", Name: "Steve"}
	out, _ = chat(steve, "/claim "+code.Code+"\n\nWhat is my balance?\n")
	lines := strings.Split(out, "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "You are verified") || !strings.Contains(lines[1], "1,250.00 EUR") {
		t.Errorf("replies to Steve = %q, want that he is verified, and the balance", out)
	}
	const declined = ReplyDeclined + " Codes last 15 minutes and work once; please ask for a new one.\n"
	out, _ = chat(ChatOptions{Channel: "slack", As: "U0OTHER"}, "/claim ZZXXCC\nclaim ZZXXCC")
	if out != "One moment …\n"+declined+declined {
		t.Errorf("replies to a stranger on Slack = %q", out)
	}
	out, _ = chat(ChatOptions{Channel: "whatsapp", As: "+12025550199", Name: "Matt"}, "hello")
	if !strings.HasPrefix(out, "Hello Matt! I do not know you yet") {
		t.Errorf("reply to a stranger on WhatsApp = %q", out)
	}
	if out, _ := chat(ChatOptions{Channel: "sms", As: "+12025550199"}, "STOP"); !strings.Contains(out, "unsubscribed") {
		t.Errorf("reply to STOP = %q, want that of Twilio", out)
	}
	for _, tt := range []struct {
		chat ChatOptions
		want string
	}{
		{ChatOptions{Channel: "telegram", As: "@steve", Demo: control}, "is a number"},
		{ChatOptions{Channel: "sms", As: "0170", Demo: control}, "country code"},
		{ChatOptions{Channel: "slack", As: "steve", Demo: control}, "user ID"},
		{ChatOptions{Channel: "sms", Demo: client.URL}, "is not a demo"},
		{ChatOptions{Channel: "sms", Demo: "http://127.0.0.1:1"}, "start one with hydragate demo"},
	} {
		err := tt.chat.Run(ctx, app.Console{In: strings.NewReader("hello\n"), Out: io.Discard, Err: io.Discard})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.chat, err)
		}
	}

	for _, want := range []string{"SMS        +12025550199: STOP", "identity.verified from Steve, role owner"} {
		if !strings.Contains(guide.String(), want) {
			t.Errorf("the output of the demo does not contain %q:\n%s", want, guide)
		}
	}

	// A chat is open when the demo stops.
	input, hold := io.Pipe()
	defer hold.Close()
	chatErr := make(chan error, 1)
	go func() {
		c := ChatOptions{Channel: "telegram", As: "67890", Demo: control}
		chatErr <- c.Run(ctx, app.Console{In: input, Out: io.Discard, Err: io.Discard})
	}()
	if _, err := io.WriteString(hold, "hello\n"); err != nil {
		t.Fatal(err)
	}
	interrupt()
	if err := <-stopped; err != nil {
		t.Errorf("Run of the demo = %v, want nil", err)
	}
	if err := <-chatErr; err == nil {
		t.Error("chat returned no error after the demo had stopped")
	}
}

// TestDemo_DetailedAccounts connects every channel in every mode with the accounts that the demo
// prints, and checks that the bot then receives messages.
func TestDemo_DetailedAccounts(t *testing.T) {
	useTempDir(t)
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

func TestPrinter_WrapsText(t *testing.T) {
	var out bytes.Buffer
	p := newPrinter(&out)
	p.dialogue("Steve", "bot", strings.Repeat("word ", 20))
	p.note("%s", strings.Repeat("word ", 20))
	for _, line := range strings.Split(out.String(), "\n") {
		if len([]rune(line)) > 2+speakerColumn+2+textWidth || strings.TrimRight(line, " ") != line {
			t.Errorf("%q", line)
		}
	}
	if !strings.HasPrefix(out.String(), "  Steve → bot       word word") {
		t.Errorf("%q", out.String())
	}
}

func TestSampleApp_VerifiesSignatures(t *testing.T) {
	a := NewSampleApp()
	if a.verify([]byte("{}"), nil) || a.rejectedCount() != 1 {
		t.Error("verify without a secret = true, want a rejected request")
	}
}

func TestReplyText(t *testing.T) {
	for role, want := range map[string]string{
		"owner":      "1,250.00",
		"customer":   "only tell the balance to the owner",
		"unverified": "not verified",
		"unknown":    "do not know you",
		"":           "do not know you",
	} {
		got := replyText(appSender{Role: role, DisplayName: "Steve"})
		if !strings.HasPrefix(got, "Hello Steve!") || !strings.Contains(got, want) {
			t.Errorf("replyText(role %q) = %q, want a greeting and %q", role, got, want)
		}
		if role != "owner" && strings.Contains(got, "EUR") {
			t.Errorf("replyText(role %q) = %q, which contains the balance", role, got)
		}
	}
}

// TestDemo_IntroductionLength checks that the start of the demo can be read at a glance.
func TestDemo_IntroductionLength(t *testing.T) {
	d := &Environment{API: &apiClient{URL: "http://127.0.0.1:8080", Key: "key"}, controlURL: "http://127.0.0.1:1"}
	if n := strings.Count(d.introduction(identityResponse{}), "\n"); n > 20 {
		t.Errorf("the introduction has %d lines, want at most 20", n)
	}
}
