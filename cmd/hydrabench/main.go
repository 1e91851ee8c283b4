// Hydrabench measures how fast a gateway receives messages: how many it stores per second, their
// latency, and what each costs. In the same run it measures the upper limits of the machine, such as
// bare inserts into the database, because on a shared machine ratios are more reliable than absolute
// numbers.
//
// It does not measure the delivery to applications. It reads processor times from /proc, so the costs
// are available on Linux only.
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

// options are the options of the command line.
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
	settled     bool // prepopulate the database
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

// run runs the benchmark. It returns an error if something could not be measured, or if the gateway
// lost or refused messages.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	if len(args) > 0 && args[0] == bareCommand {
		return serveBare(ctx, args[1:], out)
	}
	o, err := parseOptions(args, progress)
	if err != nil {
		return err
	}
	empty := report{Warnings: []string{}, Notes: []string{}, Failures: []string{}} // encoded as [], not null
	b := &bench{options: o, progress: progress, report: empty}
	if err := b.run(ctx); err != nil {
		return err
	}
	if o.asJSON {
		err = b.report.writeJSON(out)
	} else {
		err = b.report.writeText(out)
	}
	if err == nil && len(b.report.Failures) > 0 {
		err = fmt.Errorf("%d failures: %s", len(b.report.Failures), strings.Join(b.report.Failures, "; "))
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
	f.DurationVar(&o.duration, "duration", 10*time.Second,
		"duration of each measurement, after a warm-up of a quarter of it")
	f.IntVar(&o.connections, "connections", 64, "concurrent connections, also of the bare inserts")
	f.StringVar(&senders, "senders", "1,10000",
		"numbers of senders to measure with, separated by commas; at most 10000 each")
	f.StringVar(&channels, "channels", "telegram,sms,slack", "channels to measure, separated by commas")
	f.StringVar(&rates, "rates", "100,1000", "messages per second of the open loop, separated by commas")
	f.StringVar(&engine, "engine", "both", "postgres, sqlite or both")
	f.StringVar(&o.postgres, "postgres", os.Getenv("HYDRAGATE_TEST_POSTGRES"),
		"`URL` of a PostgreSQL server on which a database is created and dropped; default: $HYDRAGATE_TEST_POSTGRES")
	f.StringVar(&o.redis, "redis", os.Getenv("HYDRAGATE_TEST_REDIS"),
		"`URL` of a Redis for the gateway on PostgreSQL; default: $HYDRAGATE_TEST_REDIS, otherwise the embedded Redis")
	f.StringVar(&o.binary, "binary", "", "path of the gateway to measure; default: build it from this module")
	f.BoolVar(&o.settled, "settled", false,
		"first send a message from every sender and analyze the tables, as on a gateway that has run for a while")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
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
			return o, fmt.Errorf("--channels must be from %s", strings.Join(allChannels(), ", "))
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
			return errors.New("--postgres or HYDRAGATE_TEST_POSTGRES must be the URL of a PostgreSQL server; " +
				"or use --engine sqlite")
		}
	}
	if o.duration < 100*time.Millisecond || o.connections < 1 || o.connections > 1000 {
		return errors.New("--duration must be at least 100ms, and --connections from 1 to 1000")
	}
	return nil
}

func parseNumbers(name, list string, limit int) ([]int, error) {
	var ns []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 || n > limit {
			return nil, fmt.Errorf("%s must be numbers from 1 to %d, separated by commas", name, limit)
		}
		ns = append(ns, n)
	}
	return ns, nil
}
