package demo

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"

	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
)

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

// find returns the first group of a pattern in what was printed.
func (o *triggerBuffer) find(t *testing.T, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(o.String())
	if m == nil {
		t.Fatalf("the output does not match %s:\n%s", pattern, o)
	}
	return m[1]
}

// TestDemo_Chat starts a demo, follows its instructions, chats from several accounts, and stops it.
func TestDemo_Chat(t *testing.T) {
	t.Parallel()
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
	control := guide.find(t, `--demo (\S+)`)
	chat := func(c ChatOptions, typed, want string) {
		var out bytes.Buffer
		c.Demo = control
		if err := c.Run(ctx, app.Console{In: strings.NewReader(typed), Out: &out, Err: io.Discard}); err != nil {
			t.Errorf("chat %+v: %v", c, err)
		}
		if !regexp.MustCompile(`^` + want + `$`).Match(out.Bytes()) {
			t.Errorf("chat %+v: replies to %q = %q, want %s", c, typed, &out, want)
		}
	}

	chat(ChatOptions{Channel: "telegram"}, "hello\n", ".*Hello Steve! This chat is not verified yet.*\n")
	client := apiClient{URL: guide.find(t, `API reference +(http://[^/]+)`), Key: guide.find(t, `API key +(\S+)`)}
	code, err := client.IssueCode(ctx, guide.find(t, `Customer +(\S+)`), guide.find(t, `Identity +(\S+)`))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(code.Instructions, "@"+simulator.DemoBot) {
		t.Errorf("the instructions do not name the bot: %s", code.Instructions)
	}
	declined := regexp.QuoteMeta(ReplyDeclined + " Codes last 15 minutes and work once; please ask for a new one.\n")
	var chats sync.WaitGroup
	for _, tt := range []struct {
		chat        ChatOptions
		typed, want string
	}{
		{
			ChatOptions{Channel: "telegram", As: "12345", Name: "Steve"},
			"/claim " + code.Code + "\n\nWhat is my balance?\n", ".*You are now verified as S…e\\..*\n.*1,250.00 EUR.*\n",
		},
		{
			ChatOptions{Channel: "slack", As: "U0OTHER"},
			"/claim ZZXXCC\nclaim ZZXXCC", "One moment …\n" + declined + declined,
		},
		{
			ChatOptions{Channel: "whatsapp", As: "+12025550199", Name: "Matt"},
			"hello", "Hello Matt! I do not know you yet.*\n",
		},
		{ChatOptions{Channel: "sms", As: "+12025550199"}, "STOP", ".*unsubscribed.*\n"}, // Twilio's reply
	} {
		chats.Go(func() { chat(tt.chat, tt.typed, tt.want) })
	}
	chats.Wait()
	for _, want := range []string{"SMS        +12025550199: STOP", "identity.verified from Steve, role owner"} {
		if !strings.Contains(guide.String(), want) {
			t.Errorf("the output of the demo does not contain %q:\n%s", want, guide)
		}
	}

	wrongAddress := ChatOptions{Channel: "sms", Demo: client.URL} // of the gateway
	err = wrongAddress.Run(ctx, app.Console{In: strings.NewReader("hello\n"), Out: io.Discard, Err: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "is not a demo") {
		t.Errorf("chat with the gateway = %v, want an error that says that it is not a demo", err)
	}

	// A chat is open when the demo stops.
	input, hold := io.Pipe()
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
	_ = hold.Close()
}

func TestChatOptions_Invalid(t *testing.T) {
	t.Parallel()
	p, err := simulator.StartProviders(0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	control, err := simulator.StartServer(anyPort, p.NewControl())
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	for _, tt := range []struct {
		chat ChatOptions
		want string
	}{
		{ChatOptions{Channel: "telegram", As: "@steve", Demo: control.URL}, "is a number"},
		{ChatOptions{Channel: "sms", As: "0170", Demo: control.URL}, "country code"},
		{ChatOptions{Channel: "slack", As: "steve", Demo: control.URL}, "user ID"},
		{ChatOptions{Channel: "sms", Demo: "http://127.0.0.1:1"}, "start one with hydragate demo"},
	} {
		err := tt.chat.Run(t.Context(), app.Console{In: strings.NewReader("hello\n"), Out: io.Discard, Err: io.Discard})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: Run = %v, want an error that contains %q", tt.chat, err, tt.want)
		}
	}
}
