package demo

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/identity"
)

type Options struct {
	Script       bool   `help:"Play the story of a claim on Telegram, by SMS and in Slack, print it, and end."`
	Listen       string `env:"HYDRAGATE_LISTEN" placeholder:"ADDR" help:"Address of the gateway. Default: 127.0.0.1:8080, or a free port where that is taken; with --script a free port."`
	Control      string `placeholder:"ADDR" help:"Address that hydragate chat talks to, on this machine. Default: 127.0.0.1:8089, or a free port where that is taken."`
	ProviderPort int    `name:"provider-port" placeholder:"PORT" help:"Port of the pretend Telegram; Twilio and Slack take the two after it. Default: free ones."`
	AdminKey     string `name:"admin-key" env:"HYDRAGATE_ADMIN_KEY" placeholder:"KEY" help:"The API key, with every right; at least 32 characters. Default: a new one, which is shown."`
	LogLevel     string `name:"log-level" env:"HYDRAGATE_LOG_LEVEL" default:"warn" placeholder:"LEVEL" help:"What the gateway logs to standard error: debug, info, warn or error."`
}

// Help is what demo --help says more.
func (Options) Help() string {
	return `One process holds the gateway with an embedded database in a new folder that is removed at the end, pretend Telegram, Twilio and Slack servers on this machine, a sample agent that answers by the role of the sender, and a sample customer, Steve. Nothing leaves this machine.

Without --script it stays until Ctrl-C and says what there is to try; hydragate chat, in another terminal, types as anybody.

With --script every step is played through the real webhooks and checked: the demo ends with status 0 when all came out as told, and else says in one sentence what did not.`
}

const (
	defaultListen  = "127.0.0.1:8080"
	defaultControl = "127.0.0.1:8089"
	anyPort        = "127.0.0.1:0"

	stepTimeout = 10 * time.Second // how long the demo waits for anything
)

func (c *Options) Run(ctx context.Context, con app.Console) error {
	dir, err := os.MkdirTemp("", "hydragate-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demo's data: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d := &Environment{Console: con, App: NewSampleApp()}
	if d.Providers, err = simulator.StartProviders(c.ProviderPort); err != nil {
		return err
	}
	defer d.Providers.Close()
	agent, err := simulator.StartServer(anyPort, d.App)
	if err != nil {
		return fmt.Errorf("open the sample agent: %w", err)
	}
	defer agent.Close()
	d.AppURL = agent.URL
	s := c.GatewaySettings(dir, d.Providers)
	if err := s.Check(); err != nil {
		return err
	}
	if c.Script {
		return d.RunWithGateway(ctx, s, d.runScript)
	}
	control, err := c.openControl(d.Providers.NewControl())
	if err != nil {
		return err
	}
	defer control.Close()
	d.controlURL = control.URL
	if err := d.RunWithGateway(ctx, s, d.runInteractive); ctx.Err() == nil {
		return err
	}
	return nil // Ctrl-C is how it ends
}

// openControl opens what hydragate chat talks to.
func (c *Options) openControl(h http.Handler) (*simulator.Server, error) {
	control, err := simulator.StartServer(cmp.Or(c.Control, defaultControl), h)
	if err != nil && c.Control == "" {
		control, err = simulator.StartServer(anyPort, h)
	}
	if err != nil {
		return nil, fmt.Errorf("--control: %w", err)
	}
	return control, nil
}

// listenAddr is where the gateway listens.
func (c *Options) listenAddr() string {
	switch {
	case c.Listen != "":
		return c.Listen
	case c.Script: // nobody looks for it, and several may run at once
		return anyPort
	}
	return preferAddr(defaultListen)
}

// GatewaySettings are those of a gateway that knows only the pretend providers.
func (c *Options) GatewaySettings(dir string, p *simulator.Providers) *app.Settings {
	s := &app.Settings{
		Listen: c.listenAddr(), DataDir: dir, AdminKey: c.AdminKey, LogLevel: c.LogLevel, AgentAllowPrivate: "true",
		TelegramAPIURL: p.Servers["Telegram"].URL, TwilioAPIURL: p.Servers["Twilio"].URL, SlackAPIURL: p.Slack.APIURL(),
	}
	if s.AdminKey == "" {
		s.AdminKey = identity.NewToken("hg_live_")
	}
	if at := dialAddr(s.Listen); at != s.Listen {
		if _, port, _ := net.SplitHostPort(at); port != "0" {
			s.PublicURL = "http://" + at
		}
	}
	return s
}

// A Environment is everything that stands around the gateway.
type Environment struct {
	app.Console
	Providers  *simulator.Providers
	App        *sampleApp
	API        *apiClient
	AppURL     string
	controlURL string

	InstanceID, CustomerID string // ids
	WebhookURLs            map[adapters.Channel]string
}

// RunWithGateway runs the gateway, and f beside it as soon as it accepts connections and is
// set up. Whichever ends first ends the other.
func (d *Environment) RunWithGateway(ctx context.Context, s *app.Settings, f func(context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	up, served := make(chan string, 1), make(chan error, 1)
	go func() {
		err := app.Serve(ctx, s, io.Discard, s.Logger(d.Err), app.Options{Ready: func(url, _ string) { up <- url }})
		end(err)
		served <- err
	}()
	select {
	case url := <-up:
		d.API = &apiClient{URL: url, Key: s.AdminKey}
		if s.PublicURL != "" {
			d.API.URL = s.PublicURL
		}
	case err := <-served:
		return err
	}
	err := d.setUp(ctx)
	if err == nil {
		err = f(ctx)
	}
	end(nil)
	if broke := <-served; broke != nil {
		return broke
	}
	return err
}

// setUp sets up the instance, its channels and the customer, by the API as anybody
// would.
func (d *Environment) setUp(ctx context.Context) (err error) {
	var secret string
	if d.InstanceID, secret, err = d.API.CreateInstance(ctx, d.AppURL); err != nil {
		return fmt.Errorf("make the sample instance: %w", err)
	}
	if err := d.App.setSecret(secret); err != nil {
		return err
	}
	d.WebhookURLs = map[adapters.Channel]string{}
	for _, a := range d.Providers.ChannelAccounts() {
		if d.WebhookURLs[a.Channel] != "" {
			continue // the first way to set it up is the demo's
		}
		if d.WebhookURLs[a.Channel], err = d.API.setUpChannel(ctx, d.InstanceID, a.Channel, a.Body); err != nil {
			return fmt.Errorf("set up the sample channels: %w", err)
		}
	}
	d.Providers.SetWebhookURLs(d.WebhookURLs)
	if err := d.Providers.Slack.Verify(ctx, simulator.DemoApp); err != nil {
		return fmt.Errorf("enter the URL of the events at Slack: %w", err)
	}
	if d.CustomerID, err = d.API.createCustomer(ctx); err != nil {
		return fmt.Errorf("make the sample customer: %w", err)
	}
	return nil
}

// preferAddr gives addr or, where that is taken, a free port beside it.
func preferAddr(addr string) string {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		host, _, _ := net.SplitHostPort(addr)
		return net.JoinHostPort(host, "0")
	}
	_ = l.Close()
	return addr
}

// dialAddr gives addr as a client at this machine dials it: an address that stands
// for all of them is none to dial.
func dialAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if a, perr := netip.ParseAddr(host); err == nil && (host == "" || perr == nil && a.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// steveAccount gives the account of Steve, the demo's customer, on a channel.
func steveAccount(c adapters.Channel) string {
	return map[adapters.Channel]string{
		adapters.Telegram: "12345", adapters.SMS: "+12025550123", adapters.WhatsApp: "+12025550123", adapters.Slack: simulator.DemoTeam + ":U0STEVE",
	}[c]
}

// strangerAccount gives the account of another person on a channel.
func strangerAccount(c adapters.Channel) string {
	return map[adapters.Channel]string{
		adapters.Telegram: "67890", adapters.SMS: "+12025550167", adapters.WhatsApp: "+12025550167", adapters.Slack: simulator.DemoTeam + ":U0OTHER",
	}[c]
}
