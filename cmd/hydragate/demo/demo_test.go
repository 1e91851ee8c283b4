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

// demoTimeout is longer than any demo of these tests takes, on any machine.
const demoTimeout = 90 * time.Second

// useTempDir makes the demo put its data into a folder of the test, and checks at the
// end that nothing is left there.
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
	told := out.String()
	for _, title := range []string{"\nTelegram\n", "\nSMS\n", "\nSlack\n"} {
		_, after, ok := strings.Cut(told, title)
		if !ok {
			t.Fatalf("no chapter %q", title)
		}
		at := 0
		for _, line := range []string{
			"What is my balance?", "I do not know you yet", " as unknown", "among the unknown senders", "issues a code", "stranger → bot", "That code did not work.",
			"That code did not work.", "issues a new code", "You are verified", "role_override owner", "identity.verified", "1,250.00 EUR", " as owner",
		} {
			i := strings.Index(after[at:], line)
			if i < 0 {
				t.Fatalf("%q does not come, or not in its place, in\n%s", line, after)
			}
			at += i + len(line)
		}
	}
	if strings.Contains(told, "\x1b") {
		t.Error("colours where there is no terminal")
	}
	if logs.Len() > 0 {
		t.Errorf("something to warn of: %s", &logs)
	}
}

// TestDemo_ScriptDetectsDeviation plays acts in which somebody does what the
// story does not tell.
func TestDemo_ScriptDetectsDeviation(t *testing.T) {
	useTempDir(t)
	whoami := func(string) string { return "/whoami" }
	telegram := func(change func(*scenario)) scenario {
		a := scenarios()[0]
		change(&a)
		return a
	}
	playing := func(a scenario) func(context.Context, *Environment) error {
		return func(ctx context.Context, d *Environment) error {
			tell := &scriptRun{Environment: d, printer: newPrinter(io.Discard), control: d.Providers.NewControl()}
			return tell.runScenario(ctx, a)
		}
	}
	for _, tt := range []struct {
		name string
		play func(context.Context, *Environment) error
		want string
	}{
		{"StrangerDoesNotTry", playing(telegram(func(a *scenario) { a.strangerText = whoami })), `stranger should be answered "That code did not work."`},
		{"CodeIsNotBurnt", playing(telegram(func(a *scenario) { a.strangerText = func(string) string { return "/claim BBBCCC" } })), `Steve should be answered "That code did not work."`},
		{"SteveDoesNotClaim", playing(telegram(func(a *scenario) { a.validText = whoami })), `Steve should be answered "You are verified"`},
		{"CodeReachesTheAgent", func(_ context.Context, d *Environment) error {
			d.App.record(AppEvent{ID: "1", Data: appEventData{Text: "my code is wdj bmj"}})
			tell := &scriptRun{Environment: d, printer: newPrinter(io.Discard), issuedCodes: []string{"WDJBMJ"}}
			return tell.checkNoCodeLeaked()
		}, "a code was handed to the agent"},
		{"StrangerReachesTheAgent", func(_ context.Context, d *Environment) error {
			d.App.record(AppEvent{ID: "1", Type: "message.received", Data: appEventData{Channel: "sms", Sender: appSender{ExternalID: strangerAccount(adapters.SMS)}}})
			return (&scriptRun{Environment: d}).checkNoCodeLeaked()
		}, "should not have seen what the stranger wrote"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
			defer cancel()
			err := runDemo(ctx, t, nil, tt.play)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// runDemo runs a demo with f beside it; breaks breaks a provider before.
func runDemo(ctx context.Context, t *testing.T, breaks func(*simulator.Providers), f func(context.Context, *Environment) error) error {
	t.Helper()
	p, err := simulator.StartProviders(0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if breaks != nil {
		breaks(p)
	}
	d := &Environment{Console: app.Console{Out: io.Discard, Err: io.Discard}, Providers: p, App: NewSampleApp()}
	agent, err := simulator.StartServer(anyPort, d.App)
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	d.AppURL = agent.URL
	s := (&Options{Script: true, LogLevel: "error"}).GatewaySettings(t.TempDir(), p)
	return d.RunWithGateway(ctx, s, func(ctx context.Context) error { return f(ctx, d) })
}

func TestDemo_SetUpFailure(t *testing.T) {
	useTempDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	refuses := func(p *simulator.Providers) {
		p.Slack.Arm("auth.test", simulator.Fault{Status: 200, Body: `{"ok":false,"error":"account_inactive"}`})
	}
	err := runDemo(ctx, t, refuses, func(context.Context, *Environment) error { return errors.New("should not come so far") })
	if err == nil || !strings.Contains(err.Error(), "set up the sample channels") || !strings.Contains(err.Error(), "account_inactive") {
		t.Errorf("%v", err)
	}
}

func TestDemo_ScriptInterrupted(t *testing.T) {
	useTempDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &triggerBuffer{trigger: "stranger", onTrigger: cancel}
	err := (&Options{Script: true, LogLevel: "error"}).Run(ctx, app.Console{Out: out, Err: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("%v", err)
	}
}

// A triggerBuffer keeps what is printed, and does something when it comes to a word.
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

// TestDemo_Chat starts a demo as somebody at a terminal would, types from others,
// follows its own advice, and ends it.
func TestDemo_Chat(t *testing.T) {
	useTempDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	up := make(chan struct{})
	guide := &triggerBuffer{trigger: "the wrong person", onTrigger: func() { close(up) }}
	inner, interrupt := context.WithCancel(ctx)
	defer interrupt()
	ended := make(chan error, 1)
	go func() {
		c := &Options{Listen: anyPort, Control: anyPort, LogLevel: "error"}
		ended <- c.Run(inner, app.Console{Out: guide, Err: io.Discard})
	}()
	select {
	case <-up:
	case err := <-ended:
		t.Fatalf("%v\n%s", err, guide)
	case <-ctx.Done():
		t.Fatal(guide)
	}
	find := func(pattern string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(guide.String())
		if m == nil {
			t.Fatalf("the guide does not tell %s:\n%s", pattern, guide)
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

	if out, _ := chat(ChatOptions{Channel: "telegram"}, "hello\n"); !strings.Contains(out, "Hello Steve! This chat is not verified yet.") || strings.Count(out, "\n") != 1 {
		t.Errorf("Steve reads %q", out)
	}
	issued := apiClient{URL: find(`API reference +(http://[^/]+)`), Key: find(`Admin key +(\S+)`)}
	code, err := issued.IssueCode(ctx, find(`Customer +(\S+)`), find(`Identity +(\S+)`))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(code.Instructions, "@"+simulator.DemoBot) {
		t.Errorf("the instructions do not name the bot: %s", code.Instructions)
	}
	out, _ := chat(ChatOptions{Channel: "telegram", As: "12345", Name: "Steve"}, "/claim "+code.Code+"\n\nWhat is my balance?\n")
	if lines := strings.Split(out, "\n"); len(lines) != 3 || !strings.Contains(lines[0], "You are verified") || !strings.Contains(lines[1], "1,250.00 EUR") {
		t.Errorf("Steve reads %q", out)
	}
	if out, _ := chat(ChatOptions{Channel: "slack", As: "U0OTHER"}, "/claim ZZXXCC\nclaim ZZXXCC"); out != "One moment …\n"+ReplyDeclined+" Codes last 15 minutes and work once; please ask for a new one.\n"+ReplyDeclined+" Codes last 15 minutes and work once; please ask for a new one.\n" {
		t.Errorf("a stranger on Slack reads %q", out)
	}
	if out, _ := chat(ChatOptions{Channel: "whatsapp", As: "+12025550199", Name: "Matt"}, "hello"); !strings.HasPrefix(out, "Hello Matt! I do not know you yet") {
		t.Errorf("a stranger on WhatsApp reads %q", out)
	}
	if out, _ := chat(ChatOptions{Channel: "sms", As: "+12025550199"}, "STOP"); !strings.Contains(out, "unsubscribed") {
		t.Errorf("who stops reads %q", out)
	}
	for _, tt := range []struct {
		chat ChatOptions
		want string
	}{
		{ChatOptions{Channel: "telegram", As: "@steve", Demo: control}, "have a number"},
		{ChatOptions{Channel: "sms", As: "0170", Demo: control}, "country code"},
		{ChatOptions{Channel: "slack", As: "steve", Demo: control}, "user id"},
		{ChatOptions{Channel: "sms", Demo: issued.URL}, "is not a demo"},
		{ChatOptions{Channel: "sms", Demo: "http://127.0.0.1:1"}, "start one with hydragate demo"},
	} {
		err := tt.chat.Run(ctx, app.Console{In: strings.NewReader("hello\n"), Out: io.Discard, Err: io.Discard})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.chat, err)
		}
	}

	// Somebody still listens when the demo ends.
	typing, hold := io.Pipe()
	defer hold.Close()
	listening := make(chan error, 1)
	go func() {
		c := ChatOptions{Channel: "telegram", As: "67890", Demo: control}
		listening <- c.Run(ctx, app.Console{In: typing, Out: io.Discard, Err: io.Discard})
	}()
	if _, err := io.WriteString(hold, "hello\n"); err != nil {
		t.Fatal(err)
	}
	interrupt()
	if err := <-ended; err != nil {
		t.Errorf("the demo ends with %v", err)
	}
	if err := <-listening; err == nil {
		t.Error("chat does not say that the demo is gone")
	}
}

// TestDemo_GuideCommands follows the guide: what it names of the pretend providers
// sets every channel up, in every way there is, and the bot hears people by it.
func TestDemo_GuideCommands(t *testing.T) {
	useTempDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	err := runDemo(ctx, t, nil, func(ctx context.Context, d *Environment) error {
		guide := d.guide(identityResponse{})
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
			body := regexp.MustCompile(`\n  ` + tt.name + ` +({\S+})\n`).FindStringSubmatch(guide)
			if body == nil {
				t.Fatalf("the guide does not tell of %s:\n%s", tt.name, guide)
			}
			var is struct{ Status, Mode string }
			if err := d.API.Call(ctx, "POST", "/v1/instances/"+d.InstanceID+"/channels/"+string(tt.channel), json.RawMessage(body[1]), &is); err != nil {
				return err
			}
			if is.Status != "active" || is.Mode != tt.mode {
				t.Errorf("%s: %+v", tt.name, is)
			}
			for d.Providers.Slack.SocketCount(simulator.DemoSocketApp) != tt.sockets && ctx.Err() == nil {
				<-time.After(20 * time.Millisecond) // it takes a moment to connect
			}
			who := tt.as(n)
			if _, err := d.Providers.NewControl().Send(ctx, simulator.SendRequest{Channel: tt.channel, Sender: who, Name: "Matt", Text: "hello"}); err != nil {
				return fmt.Errorf("%s: %w", tt.name, err)
			}
			if tt.channel == adapters.Slack {
				who = simulator.DemoTeam + ":" + who
			}
			for len(d.App.Messages(string(tt.channel), who)) == 0 {
				if ctx.Err() != nil {
					return fmt.Errorf("%s: the agent hears nothing: %w", tt.name, ctx.Err())
				}
				<-time.After(20 * time.Millisecond)
			}
		}
		if !strings.Contains(guide, "'"+d.API.URL+"/v1/instances/"+d.InstanceID+"/channels/slack'; echo") || !strings.Contains(guide, "known to the providers above and to nobody else") {
			t.Errorf("the guide does not say what to call, or that all is pretended:\n%s", guide)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPrinter_WrapsText(t *testing.T) {
	var out bytes.Buffer
	tell := newPrinter(&out)
	tell.dialogue("Steve", "bot", strings.Repeat("word ", 20))
	tell.note("%s", strings.Repeat("word ", 20))
	for _, line := range strings.Split(out.String(), "\n") {
		if len([]rune(line)) > 2+speakerColumn+2+textWidth || strings.TrimRight(line, " ") != line {
			t.Errorf("%q", line)
		}
	}
	if !strings.HasPrefix(out.String(), "  Steve → bot       word word") {
		t.Errorf("%q", out.String())
	}
}

// TestSampleApp_VerifiesSignatures holds what a sample must show first.
func TestSampleApp_VerifiesSignatures(t *testing.T) {
	for role, want := range map[string]string{"owner": "1,250.00", "customer": "owner alone", "unverified": "not verified", "unknown": "do not know you", "": "do not know you"} {
		if got := replyText(appSender{Role: role, DisplayName: "Steve"}); !strings.HasPrefix(got, "Hello Steve!") || !strings.Contains(got, want) || role != "owner" && strings.Contains(got, "EUR") {
			t.Errorf("%s: %s", role, got)
		}
	}
	a := NewSampleApp()
	if a.verify([]byte("{}"), nil) || a.rejectedCount() != 1 {
		t.Error("trusts before there is a secret")
	}
}
