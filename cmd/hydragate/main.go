// Hydragate is a gateway between chat bots and the people who write to them on Telegram, SMS,
// WhatsApp and Slack.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // time zones of customers, on machines without the database

	"github.com/alecthomas/kong"

	"hydragate/cmd/hydragate/app"
)

// commands is the command line.
type commands struct {
	Serve       serveCmd         `cmd:"" help:"Run the gateway."`
	Demo        demoCmd          `cmd:"" help:"Try the gateway with simulated providers, without any account."`
	Chat        chatCmd          `cmd:"" help:"Write to the bot of a running demo."`
	Migrate     migrateCmd       `cmd:"" help:"Apply database migrations, or show their status."`
	Keys        keysCmd          `cmd:"" help:"Create, list and revoke API keys."`
	Masterkey   masterkeyCmd     `cmd:"" help:"Generate master keys and re-encrypt stored secrets."`
	Import      importCmd        `cmd:"" help:"Import customers and their identities from a CSV or JSON Lines file."`
	Export      exportCmd        `cmd:"" help:"Export all customers and their identities to a CSV or JSON Lines file."`
	Doctor      doctorCmd        `cmd:"" help:"Check the settings, the database, Redis and every channel."`
	Healthcheck healthcheckCmd   `cmd:"" help:"Exit with 0 if the gateway on this machine is ready. For containers."`
	Version     versionCmd       `cmd:"" help:"Print the version."`
	VersionFlag kong.VersionFlag `name:"version" short:"v" help:"Print the version."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal, restore the default: a second one ends the process immediately.
	context.AfterFunc(ctx, stop)
	app.IgnoreFileSizeLimit()
	err := run(ctx, os.Args[1:], app.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	if err != nil {
		if !errors.Is(err, app.ErrReported) {
			// Libraries return errors of several lines; print one.
			fmt.Fprintln(os.Stderr, "hydragate:", strings.Join(strings.Fields(err.Error()), " "))
		}
		os.Exit(1)
	}
}

const description = `Hydragate is a gateway between chat bots and the people who write to them on Telegram,
SMS, WhatsApp and Slack.

To look around, run hydragate demo. Without settings, hydragate serve stores all data in ./hydragate-data.
Each flag can also be set by the environment variable next to it.`

// run executes the command line args.
func run(ctx context.Context, args []string, c app.Console) error {
	var cli commands
	exited := false
	parser, err := kong.New(&cli,
		kong.Name("hydragate"),
		kong.Description(description),
		kong.Vars{"version": versionLine()},
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
	k, err := parser.Parse(helpArgs(args))
	if exited {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w (run %s --help for usage)", err, commandPath(err))
	}
	return k.Run()
}

// helpArgs returns args with --help in place of the word help, as in "help" or "help keys create".
// Without arguments, it returns --help.
func helpArgs(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help":
		return append(args[1:len(args):len(args)], "--help")
	}
	return args
}

// commandPath returns the command that an invalid command line was for, as far as it was parsed.
func commandPath(err error) string {
	var parseErr *kong.ParseError
	if !errors.As(err, &parseErr) || parseErr.Context == nil || parseErr.Context.Selected() == nil {
		return "hydragate"
	}
	return parseErr.Context.Selected().FullPath()
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(c app.Console) error {
	_, err := fmt.Fprintln(c.Out, versionLine())
	return err
}

func versionLine() string { return "hydragate " + app.Version() }
