// Hydrabench measures how fast a gateway takes messages from its channels: how many
// it stores in a second, how long each waits, and what each costs. What the same
// machine can do at best is measured in the same run, because a ratio holds where an
// absolute number on a shared machine does not.
//
// It needs Linux for the costs, which it reads from /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options say what is measured, and for how long.
type options struct {
	duration    time.Duration
	connections int
	senders     []int
	channels    []string
	engines     []string
	rates       []int
	postgres    string
	redis       string
	binary      string
	settled     bool
	asJSON      bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, "hydrabench:", err)
		os.Exit(1)
	}
}

// run is main without the process. Its error says that something could not be
// measured, or that the gateway lost or refused something.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	if len(args) > 0 && args[0] == bareCommand {
		return serveBare(ctx, args[1:], out)
	}
	o, err := parseOptions(args, progress)
	if err != nil {
		return err
	}
	b := &bench{options: o, progress: progress, report: report{Warnings: []string{}, Notes: []string{}, Failures: []string{}}}
	if err := b.run(ctx); err != nil {
		return err
	}
	if o.asJSON {
		err = b.report.writeJSON(out)
	} else {
		err = b.report.writeText(out)
	}
	if err == nil && len(b.report.Failures) > 0 {
		err = fmt.Errorf("%d things went wrong: %s", len(b.report.Failures), strings.Join(b.report.Failures, "; "))
	}
	return err
}

func parseOptions(args []string, w io.Writer) (options, error) {
	var (
		o                                options
		senders, channels, engine, rates string
	)
	f := flag.NewFlagSet("hydrabench", flag.ContinueOnError)
	f.SetOutput(w)
	f.DurationVar(&o.duration, "duration", 10*time.Second, "how long each cell is measured, after a warm-up of a quarter of it")
	f.IntVar(&o.connections, "connections", 64, "connections of the closed loop, and callers of the bare inserts")
	f.StringVar(&senders, "senders", "1,10000", "how many people write, comma-separated; at most 10000")
	f.StringVar(&channels, "channels", "telegram,sms,slack", "channels to measure, comma-separated")
	f.StringVar(&rates, "rates", "100,1000", "messages per second of the open loop, comma-separated")
	f.StringVar(&engine, "engine", "both", "postgres, sqlite or both")
	f.StringVar(&o.postgres, "postgres", os.Getenv("HYDRAGATE_TEST_POSTGRES"), "`URL` of a Postgres server where a database may be made and dropped; default: $HYDRAGATE_TEST_POSTGRES")
	f.StringVar(&o.redis, "redis", os.Getenv("HYDRAGATE_TEST_REDIS"), "`URL` of a Redis for the gateway on Postgres; default: $HYDRAGATE_TEST_REDIS, else the gateway's embedded one")
	f.StringVar(&o.binary, "binary", "", "a gateway that is built already; default: build it from this module")
	f.BoolVar(&o.settled, "settled", false, "before the cells, let everybody write once and the database learn the size of its tables, as on a gateway that has run for a while")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	var err error
	if o.senders, err = parseNumbers("--senders", senders, maxSenders); err != nil {
		return o, err
	}
	if o.rates, err = parseNumbers("--rates", rates, 100_000); err != nil {
		return o, err
	}
	o.channels = strings.Split(channels, ",")
	for _, c := range o.channels {
		if !slices.Contains(allChannels(), c) {
			return o, fmt.Errorf("--channels must be of %s", strings.Join(allChannels(), ", "))
		}
	}
	o.engines = []string{engine}
	if engine == "both" {
		o.engines = []string{enginePostgres, engineSQLite}
	}
	return o, o.validate()
}

func (o options) validate() error {
	for _, e := range o.engines {
		if e != enginePostgres && e != engineSQLite {
			return errors.New("--engine must be postgres, sqlite or both")
		}
		if e == enginePostgres && o.postgres == "" {
			return errors.New("--postgres, or HYDRAGATE_TEST_POSTGRES, must name a Postgres server; or choose --engine sqlite")
		}
	}
	if o.duration < 100*time.Millisecond || o.connections < 1 || o.connections > 1000 {
		return errors.New("--duration must be 100ms or more, and --connections from 1 to 1000")
	}
	return nil
}

func parseNumbers(name, list string, most int) ([]int, error) {
	var ns []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("%s must be numbers from 1 to %d, comma-separated", name, most)
		}
		ns = append(ns, n)
	}
	return ns, nil
}
