package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"hydragate/adapters"
	"hydragate/identity"
)

type demoCmd struct {
	Script       bool   `help:"Play the story of a claim on Telegram, by SMS and in Slack, print it, and end."`
	Listen       string `env:"HYDRAGATE_LISTEN" placeholder:"ADDR" help:"Address of the gateway. Default: 127.0.0.1:8080, or a free port where that is taken; with --script a free port."`
	Control      string `placeholder:"ADDR" help:"Address that hydragate chat talks to, on this machine. Default: 127.0.0.1:8089, or a free port where that is taken."`
	ProviderPort int    `name:"provider-port" placeholder:"PORT" help:"Port of the pretend Telegram; Twilio and Slack take the two after it. Default: free ones."`
	AdminKey     string `name:"admin-key" env:"HYDRAGATE_ADMIN_KEY" placeholder:"KEY" help:"The API key, with every right; at least 32 characters. Default: a new one, which is shown."`
	LogLevel     string `name:"log-level" env:"HYDRAGATE_LOG_LEVEL" default:"warn" placeholder:"LEVEL" help:"What the gateway logs to standard error: debug, info, warn or error."`
}

// Help is what demo --help says more.
func (demoCmd) Help() string {
	return `One process holds the gateway with an embedded database in a new folder that is removed at the end, pretend Telegram, Twilio and Slack servers on this machine, a sample agent that answers by the role of the sender, and a sample customer, Steve. Nothing leaves this machine.

Without --script it stays until Ctrl-C and says what there is to try; hydragate chat, in another terminal, types as anybody.

With --script every step is played through the real webhooks and checked: the demo ends with status 0 when all came out as told, and else says in one sentence what did not.`
}

const (
	usualDemoListen  = "127.0.0.1:8080"
	usualDemoControl = "127.0.0.1:8089"
	freeDemoPort     = "127.0.0.1:0"

	stepTime = 10 * time.Second // how long the demo waits for anything
)

func (c *demoCmd) Run(ctx context.Context, con console) error {
	dir, err := os.MkdirTemp("", "hydragate-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demo's data: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d := &demo{console: con, agent: newSampleAgent()}
	if d.pretence, err = pretend(c.ProviderPort); err != nil {
		return err
	}
	defer d.pretence.close()
	agent, err := openLoopback(freeDemoPort, d.agent)
	if err != nil {
		return fmt.Errorf("open the sample agent: %w", err)
	}
	defer agent.close()
	d.agentURL = agent.url
	s := c.settings(dir, d.pretence)
	if err := s.check(); err != nil {
		return err
	}
	if c.Script {
		return d.beside(ctx, s, d.script)
	}
	control, err := c.openControl(d.pretence.control())
	if err != nil {
		return err
	}
	defer control.close()
	d.controlURL = control.url
	if err := d.beside(ctx, s, d.stay); ctx.Err() == nil {
		return err
	}
	return nil // Ctrl-C is how it ends
}

// openControl opens what hydragate chat talks to.
func (c *demoCmd) openControl(h http.Handler) (*loopback, error) {
	control, err := openLoopback(cmp.Or(c.Control, usualDemoControl), h)
	if err != nil && c.Control == "" {
		control, err = openLoopback(freeDemoPort, h)
	}
	if err != nil {
		return nil, fmt.Errorf("--control: %w", err)
	}
	return control, nil
}

// listen is where the gateway listens.
func (c *demoCmd) listen() string {
	switch {
	case c.Listen != "":
		return c.Listen
	case c.Script: // nobody looks for it, and several may run at once
		return freeDemoPort
	}
	return freeOr(usualDemoListen)
}

// settings are those of a gateway that knows only the pretend providers.
func (c *demoCmd) settings(dir string, p *pretence) *settings {
	s := &settings{
		Listen: c.listen(), DataDir: dir, AdminKey: c.AdminKey, LogLevel: c.LogLevel, AgentAllowPrivate: "true",
		TelegramAPIURL: p.servers["Telegram"].url, TwilioAPIURL: p.servers["Twilio"].url, SlackAPIURL: p.slack.APIURL(),
	}
	if s.AdminKey == "" {
		s.AdminKey = identity.NewToken("hg_live_")
	}
	if at := reachable(s.Listen); at != s.Listen {
		if _, port, _ := net.SplitHostPort(at); port != "0" {
			s.PublicURL = "http://" + at
		}
	}
	return s
}

// A demo is everything that stands around the gateway.
type demo struct {
	console
	pretence   *pretence
	agent      *sampleAgent
	staff      *staff
	agentURL   string
	controlURL string

	instance, steve string // ids
	hooks           map[adapters.Channel]string
}

// beside runs the gateway, and f beside it as soon as it accepts connections and is
// set up. Whichever ends first ends the other.
func (d *demo) beside(ctx context.Context, s *settings, f func(context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	up, served := make(chan string, 1), make(chan error, 1)
	quiet := console{in: d.in, out: io.Discard, err: d.err}
	go func() {
		err := serve(ctx, s, quiet, s.logger(d.err), func(url, _ string) { up <- url })
		end(err)
		served <- err
	}()
	select {
	case url := <-up:
		d.staff = &staff{url: url, key: s.AdminKey}
		if s.PublicURL != "" {
			d.staff.url = s.PublicURL
		}
	case err := <-served:
		return err
	}
	err := d.furnish(ctx)
	if err == nil {
		err = f(ctx)
	}
	end(nil)
	if broke := <-served; broke != nil {
		return broke
	}
	return err
}

// furnish sets up the instance, its channels and the customer, by the API as anybody
// would.
func (d *demo) furnish(ctx context.Context) (err error) {
	var secret string
	if d.instance, secret, err = d.staff.newInstance(ctx, d.agentURL); err != nil {
		return fmt.Errorf("make the sample instance: %w", err)
	}
	if err := d.agent.trust(secret); err != nil {
		return err
	}
	d.hooks = map[adapters.Channel]string{}
	for _, a := range d.pretence.accounts() {
		if d.hooks[a.channel] != "" {
			continue // the first way to set it up is the demo's
		}
		if d.hooks[a.channel], err = d.staff.setUp(ctx, d.instance, a.channel, a.body); err != nil {
			return fmt.Errorf("set up the sample channels: %w", err)
		}
	}
	d.pretence.connect(d.hooks)
	if err := d.pretence.slack.Verify(ctx, demoApp); err != nil {
		return fmt.Errorf("enter the URL of the events at Slack: %w", err)
	}
	if d.steve, err = d.staff.newSteve(ctx); err != nil {
		return fmt.Errorf("make the sample customer: %w", err)
	}
	return nil
}
