// Package demo implements the commands demo and chat: a gateway with simulated providers, a sample
// application and a sample customer in one process, and a client that writes to it as any person.
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

// Options are the options of the command demo.
type Options struct {
	Script       bool   `help:"Play and check the whole story of a claim on Telegram, SMS and Slack, then exit."`
	Details      bool   `help:"Also print the ids, the webhook URLs, the accounts of the simulated providers, and more commands to try."`
	Listen       string `env:"HYDRAGATE_LISTEN" placeholder:"ADDR" help:"Address of the gateway. Default: 127.0.0.1:8080, or a free port if that is in use; with --script, a free port."`
	Control      string `placeholder:"ADDR" help:"Local address for hydragate chat. Default: 127.0.0.1:8089, or a free port if that is in use."`
	ProviderPort int    `name:"provider-port" placeholder:"PORT" help:"Port of the simulated Telegram. Twilio and Slack use the next two. Default: free ports."`
	AdminKey     string `name:"admin-key" env:"HYDRAGATE_ADMIN_KEY" placeholder:"KEY" help:"API key with all scopes, at least 32 characters. Default: a new key, which is printed."`
	LogLevel     string `name:"log-level" env:"HYDRAGATE_LOG_LEVEL" default:"warn" placeholder:"LEVEL" help:"Least severe level that the gateway logs to standard error: debug, info, warn or error."`
}

// Help implements kong.HelpProvider.
func (*Options) Help() string {
	return `The demo runs a gateway with an embedded database, simulated Telegram, Twilio and Slack servers, a
sample application, and a sample customer, Steve. Nothing leaves this machine, and all data is removed at the
end.

Without --script it runs until Ctrl-C. It prints three steps to follow, and then what happens. Use hydragate
chat in another terminal to write to the bot.

With --script it sends every message through the real webhooks and checks each step. It exits with 0 if
everything happened as described, otherwise with 1 and one sentence that says what did not.`
}

const (
	defaultListen  = "127.0.0.1:8080"
	defaultControl = "127.0.0.1:8089"
	anyPort        = "127.0.0.1:0"

	stepTimeout = 10 * time.Second // for anything that the demo waits for
)

// Run runs the demo until ctx ends, or until the script has been played.
func (o *Options) Run(ctx context.Context, con app.Console) error {
	dir, err := os.MkdirTemp("", "hydragate-demo-")
	if err != nil {
		return fmt.Errorf("create a directory for the data of the demo: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d := &Environment{Console: con, App: NewSampleApp()}
	if d.Providers, err = simulator.StartProviders(o.ProviderPort); err != nil {
		return err
	}
	defer d.Providers.Close()
	application, err := simulator.StartServer(anyPort, d.App)
	if err != nil {
		return fmt.Errorf("start the sample application: %w", err)
	}
	defer application.Close()
	d.AppURL = application.URL
	s := o.GatewaySettings(dir, d.Providers)
	if err := s.Check(); err != nil {
		return err
	}
	if o.Script {
		return d.RunWithGateway(ctx, s, d.runScript)
	}
	control, err := o.startControl(d.Providers.NewControl())
	if err != nil {
		return err
	}
	defer control.Close()
	d.controlURL, d.details = control.URL, o.Details
	if err := d.RunWithGateway(ctx, s, d.runInteractive); ctx.Err() == nil {
		return err
	}
	return nil // Ctrl-C
}

// startControl starts the server for hydragate chat.
func (o *Options) startControl(h http.Handler) (*simulator.Server, error) {
	control, err := simulator.StartServer(cmp.Or(o.Control, defaultControl), h)
	if err != nil && o.Control == "" {
		control, err = simulator.StartServer(anyPort, h)
	}
	if err != nil {
		return nil, fmt.Errorf("--control: %w", err)
	}
	return control, nil
}

// listenAddr returns the address on which the gateway listens.
func (o *Options) listenAddr() string {
	switch {
	case o.Listen != "":
		return o.Listen
	case o.Script: // several may run concurrently
		return anyPort
	}
	return preferAddr(defaultListen)
}

// GatewaySettings returns the settings of a gateway that uses the simulated providers and stores
// its data in dir.
func (o *Options) GatewaySettings(dir string, p *simulator.Providers) *app.Settings {
	s := &app.Settings{
		Listen:            o.listenAddr(),
		DataDir:           dir,
		AdminKey:          o.AdminKey,
		LogLevel:          o.LogLevel,
		AgentAllowPrivate: "true",
		TelegramAPIURL:    p.Servers["Telegram"].URL,
		TwilioAPIURL:      p.Servers["Twilio"].URL,
		SlackAPIURL:       p.Slack.APIURL(),
	}
	if s.AdminKey == "" {
		s.AdminKey = identity.NewToken("hg_live_")
	}
	if addr := dialAddr(s.Listen); addr != s.Listen {
		if _, port, _ := net.SplitHostPort(addr); port != "0" {
			s.PublicURL = "http://" + addr
		}
	}
	return s
}

// An Environment is what surrounds the gateway of a demo: providers, an application, and a client
// of the API.
type Environment struct {
	app.Console
	Providers  *simulator.Providers
	App        *SampleApp
	API        *apiClient
	AppURL     string
	controlURL string
	details    bool // print all details at the start

	InstanceID, CustomerID string
	WebhookURLs            map[adapters.Channel]string
}

// RunWithGateway runs a gateway, sets it up, and calls f. When f returns, it stops the gateway. If
// the gateway stops first, it cancels the context of f.
func (d *Environment) RunWithGateway(ctx context.Context, s *app.Settings, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ready, stopped := make(chan string, 1), make(chan error, 1)
	o := app.Options{Ready: func(url, _ string) { ready <- url }}
	go func() {
		err := app.Serve(ctx, s, io.Discard, s.Logger(d.Err), o)
		cancel(err)
		stopped <- err
	}()
	select {
	case url := <-ready:
		d.API = &apiClient{URL: cmp.Or(s.PublicURL, url), Key: s.AdminKey}
	case err := <-stopped:
		return err
	}
	err := d.setUp(ctx)
	if err == nil {
		err = f(ctx)
	}
	cancel(nil)
	if serveErr := <-stopped; serveErr != nil {
		return serveErr
	}
	return err
}

// setUp creates the instance and the customer and connects the channels, through the API.
func (d *Environment) setUp(ctx context.Context) (err error) {
	var secret string
	if d.InstanceID, secret, err = d.API.CreateInstance(ctx, d.AppURL); err != nil {
		return fmt.Errorf("create the sample instance: %w", err)
	}
	if err := d.App.setSecret(secret); err != nil {
		return err
	}
	d.WebhookURLs = map[adapters.Channel]string{}
	for _, a := range d.Providers.ChannelAccounts() {
		if d.WebhookURLs[a.Channel] != "" {
			continue // use the first account of each channel
		}
		if d.WebhookURLs[a.Channel], err = d.API.connectChannel(ctx, d.InstanceID, a.Channel, a.Body); err != nil {
			return fmt.Errorf("connect the sample channels: %w", err)
		}
	}
	d.Providers.SetWebhookURLs(d.WebhookURLs)
	if err := d.Providers.Slack.Verify(ctx, simulator.DemoApp); err != nil {
		return fmt.Errorf("register the events URL with Slack: %w", err)
	}
	if d.CustomerID, err = d.API.createCustomer(ctx); err != nil {
		return fmt.Errorf("create the sample customer: %w", err)
	}
	return nil
}

// preferAddr returns addr, or a free port of its host if addr is in use.
func preferAddr(addr string) string {
	l, err := net.Listen("tcp", addr) //nolint:noctx // closed immediately
	if err != nil {
		host, _, _ := net.SplitHostPort(addr)
		return net.JoinHostPort(host, "0")
	}
	_ = l.Close()
	return addr
}

// dialAddr returns the address at which a client on this machine reaches a server that listens on
// addr, which may stand for all interfaces.
func dialAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if a, perr := netip.ParseAddr(host); err == nil && (host == "" || perr == nil && a.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// steveAccount returns the account of Steve, the customer of the demo, on a channel.
func steveAccount(c adapters.Channel) string {
	return map[adapters.Channel]string{
		adapters.Telegram: "12345",
		adapters.SMS:      "+12025550123",
		adapters.WhatsApp: "+12025550123",
		adapters.Slack:    simulator.DemoTeam + ":U0STEVE",
	}[c]
}

// strangerAccount returns the account of another person on a channel.
func strangerAccount(c adapters.Channel) string {
	return map[adapters.Channel]string{
		adapters.Telegram: "67890",
		adapters.SMS:      "+12025550167",
		adapters.WhatsApp: "+12025550167",
		adapters.Slack:    simulator.DemoTeam + ":U0OTHER",
	}[c]
}
