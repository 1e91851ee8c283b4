// Hydragate carries messages between people on their channels and an agent, and
// knows who is speaking.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // customers' time zones, on machines without the database

	"github.com/alecthomas/kong"

	"hydragate/cmd/hydragate/app"
	"hydragate/cmd/hydragate/demo"
)

// commands is the command line.
type commands struct {
	Serve       serveCmd         `cmd:"" help:"Run the gateway."`
	Demo        demo.Options     `cmd:"" help:"Run everything in one process with pretend Telegram, Twilio and Slack, to look around without an account anywhere."`
	Chat        demo.ChatOptions `cmd:"" help:"Type as a person on a pretend channel of a running demo."`
	Migrate     migrateCmd       `cmd:"" help:"Bring the database's schema up to date, or show its state."`
	Keys        keysCmd          `cmd:"" help:"Create, list and revoke API keys."`
	Masterkey   masterkeyCmd     `cmd:"" help:"Make master keys, and seal everything anew with another one."`
	Import      importCmd        `cmd:"" help:"Bring in customers and their identities from a CSV or JSON Lines file."`
	Export      exportCmd        `cmd:"" help:"Write all customers and their identities to a CSV or JSON Lines file."`
	Doctor      doctorCmd        `cmd:"" help:"Check configuration, database, Redis and the credentials of every endpoint."`
	Version     versionCmd       `cmd:"" help:"Print the version."`
	Healthcheck healthcheckCmd   `cmd:"" help:"Ask a running gateway whether it is ready; for container health checks."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default is back: a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	app.IgnoreFileLimit()
	err := run(ctx, os.Args[1:], app.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	if err != nil {
		if !errors.Is(err, app.ErrReported) {
			// One line, whatever libraries say in several.
			fmt.Fprintln(os.Stderr, "hydragate:", strings.Join(strings.Fields(err.Error()), " "))
		}
		os.Exit(1)
	}
}

// run is main without the process.
func run(ctx context.Context, args []string, c app.Console) error {
	var cli commands
	exited := false
	parser, err := kong.New(&cli,
		kong.Name("hydragate"),
		kong.Description("A gateway between bots and the people who write to them on Telegram, by SMS, WhatsApp and in Slack.\n\nWith nothing configured, everything is kept in ./hydragate-data. Every flag can be set by the environment variable beside it."),
		kong.Writers(c.Out, c.Err),
		kong.Exit(func(int) { exited = true }),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(c),
	)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if exited {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w (%s --help shows what there is)", err, commandPath(err))
	}
	return k.Run()
}

// commandPath gives the command that a wrong command line was for, as far as it can be told.
func commandPath(err error) string {
	var wrong *kong.ParseError
	if !errors.As(err, &wrong) || wrong.Context == nil || wrong.Context.Selected() == nil {
		return "hydragate"
	}
	return wrong.Context.Selected().FullPath()
}

type versionCmd struct{}

func (versionCmd) Run(c app.Console) error {
	_, err := fmt.Fprintln(c.Out, "hydragate", app.Version())
	return err
}
