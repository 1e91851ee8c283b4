package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
)

// A bench is one run of the benchmark.
type bench struct {
	options
	progress io.Writer
	report   report

	dir       string
	providers *providers
}

// run measures the bare handlers, then the gateway on each engine. Failures of the gateway are in the
// report. It returns an error if something could not be measured.
func (b *bench) run(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "hydrabench-"); err != nil {
		return err
	}
	if b.providers, err = startProviders(ctx); err != nil {
		return err
	}
	defer b.providers.close()
	defer func() { // keep the logs of a failed run
		if err == nil && len(b.report.Failures) == 0 {
			_ = os.RemoveAll(b.dir)
		} else {
			b.logf("the logs are in %s", b.dir)
		}
	}()
	b.report.Machine = fmt.Sprintf("%d processors, %s %s/%s",
		runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	b.report.Settings = fmt.Sprintf("%d connections, %v per cell", b.connections, b.duration)
	if b.settled {
		b.report.Settings += ", prepopulated database"
	} else {
		b.report.Settings += ", new database"
	}
	if b.binary == "" {
		b.logf("building the gateway")
		if b.binary, err = buildGateway(ctx, b.dir, b.progress); err != nil {
			return err
		}
	}
	if err := b.measureHandlers(ctx); err != nil {
		return err
	}
	for _, engine := range b.engines {
		if err := b.measureEngine(ctx, engine); err != nil {
			return fmt.Errorf("measure on %s: %w", engine, err)
		}
	}
	b.report.evaluate()
	return nil
}

func (b *bench) logf(format string, args ...any) {
	fmt.Fprintf(b.progress, format+"\n", args...)
}

// measureHandlers measures what net/http and the protocol cost.
func (b *bench) measureHandlers(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p, err := startProcess(ctx, filepath.Join(b.dir, "bare.log"), nil, self, bareCommand, "--token", b.providers.token)
	if err != nil {
		return err
	}
	defer func() { _ = p.stop() }()
	for _, channel := range []string{telegramChannel, smsChannel} {
		w := b.providers.webhook(channel, p.url+"/"+channel)
		if w.secret == "" {
			w.secret = "unused" // the bare handler of Telegram checks none
		}
		l := load{webhooks: []webhook{w}, seq: new(atomic.Int64), senders: maxSenders, connections: b.connections}
		run := func(until time.Time, t *results) error { return l.run(ctx, until, t) }
		c, err := probe{pid: p.pid()}.measure(ctx, b.duration, run)
		if err == nil && c.Refused > 0 {
			err = fmt.Errorf("%d requests were refused", c.Refused)
		}
		if err != nil {
			return fmt.Errorf("measure the bare handler of %s: %w", channel, err)
		}
		c.Name, c.Stored = "bare handler, "+channel, 0
		b.addCell(c)
	}
	return nil
}

func (b *bench) addCell(c cell) {
	b.report.Cells = append(b.report.Cells, c)
	b.logf("%s", &c)
}

// measureEngine measures the gateway on one engine, with a new database.
func (b *bench) measureEngine(ctx context.Context, engine string) (err error) {
	dir := filepath.Join(b.dir, engine)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var d *database
	url, redis := "", ""
	if engine == enginePostgres {
		if d, err = newPostgres(ctx, b.postgres); err != nil {
			return err
		}
		url, redis = d.url, b.redis
		for _, w := range d.warnings {
			b.logf("!!! %s !!!", w)
			b.report.Warnings = append(b.report.Warnings, w)
		}
	}
	g, err := startGateway(ctx, b.binary, dir, url, redis, b.providers)
	if err != nil {
		if d != nil {
			err = errors.Join(err, d.close())
		}
		return err
	}
	if d == nil {
		d, err = openSQLite(ctx, dir)
	}
	if err == nil {
		err = b.runCells(ctx, g, d)
	}
	stopErr := g.stop()
	if ctx.Err() == nil && stopErr != nil {
		b.report.failf("stop the gateway: %v; its log is %s", stopErr, g.log.Name())
	}
	if d != nil {
		err = errors.Join(err, d.close())
	}
	return err
}

// runCells runs every measurement with one database engine. It measures plain inserts before and after
// the gateway, because the speed of the machine may change.
func (b *bench) runCells(ctx context.Context, g *gateway, d *database) error {
	redis := "embedded Redis"
	if d.engine == enginePostgres && b.redis != "" {
		redis = "Redis server"
	}
	b.report.Stores = append(b.report.Stores, d.description+"; "+redis)
	webhooks, err := g.setUpChannels(ctx, b.providers, b.channels)
	if err != nil {
		return err
	}
	r := runner{bench: b, gateway: g, database: d, webhooks: webhooks}
	for _, step := range []func(context.Context) error{
		r.prepopulate, r.measureInserts, r.measureClosedLoop, r.measureOpenLoop, r.measureInserts, r.recordMemory,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// A runner measures one gateway.
type runner struct {
	*bench
	gateway  *gateway
	database *database
	webhooks []webhook
	seq      atomic.Int64
}

// measureInserts measures bare inserts, on PostgreSQL only.
func (r *runner) measureInserts(ctx context.Context) error {
	if r.database.engine != enginePostgres {
		return nil
	}
	c, err := r.database.measureInserts(ctx, r.duration, r.connections)
	if err == nil {
		r.addCell(c)
	}
	return err
}

// prepopulate sends a message from every sender and analyzes the tables, if --settled is set. On a
// gateway that has run for minutes, PostgreSQL has analyzed them by itself.
func (r *runner) prepopulate(ctx context.Context) error {
	if !r.settled {
		return nil
	}
	r.logf("sending a message from every sender on %s", r.database.engine)
	for _, w := range r.webhooks {
		var t results
		l := load{
			webhooks: []webhook{w}, seq: &r.seq, senders: maxSenders, connections: r.connections, maxMessages: maxSenders,
		}
		if err := l.run(ctx, time.Now().Add(settleTimeout), &t); err != nil {
			return err
		}
		if t.acked.Load() < maxSenders {
			return fmt.Errorf("only %d of %d messages on %s were acknowledged", t.acked.Load(), maxSenders, w.channel)
		}
		if _, err := r.drain(ctx); err != nil {
			return err
		}
	}
	return r.database.analyze(ctx)
}

// settleTimeout bounds prepopulate, for each channel.
const settleTimeout = 2 * time.Minute

// measureClosedLoop measures the throughput of each channel, with few and with many senders.
func (r *runner) measureClosedLoop(ctx context.Context) error {
	for _, w := range r.webhooks {
		for _, senders := range r.senders {
			c := cell{Name: w.channel, Senders: senders}
			l := load{webhooks: []webhook{w}, seq: &r.seq, senders: senders, connections: r.connections}
			if err := r.measureWebhooks(ctx, c, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// measureOpenLoop measures the latency at fixed rates, with all channels.
func (r *runner) measureOpenLoop(ctx context.Context) error {
	for _, rate := range r.rates {
		c := cell{Name: strings.Join(r.channels, "+"), Senders: maxSenders, Rate: rate}
		l := load{
			webhooks: r.webhooks, seq: &r.seq, senders: maxSenders, connections: r.connections, perSecond: rate,
		}
		if err := r.measureWebhooks(ctx, c, l); err != nil {
			return err
		}
	}
	return nil
}

// measureWebhooks measures one load on the webhooks, checks that every acknowledged message is stored,
// and waits until all messages are processed.
func (r *runner) measureWebhooks(ctx context.Context, named cell, l load) error {
	before, err := r.database.countStored(ctx)
	if err != nil {
		return err
	}
	p := probe{pid: r.gateway.pid(), metrics: r.gateway.url, database: r.database}
	c, err := p.measure(ctx, r.duration, func(until time.Time, t *results) error { return l.run(ctx, until, t) })
	c.Engine, c.Name, c.Senders, c.Rate = r.database.engine, named.Name, named.Senders, named.Rate
	if err != nil && c.Failed == 0 {
		return err
	}
	after, countErr := r.database.countStored(ctx)
	if countErr != nil {
		return countErr
	}
	c.Stored = after - before
	r.report.checkCell(c, err)
	if c.DrainTime, err = r.drain(ctx); err != nil {
		return err
	}
	r.addCell(c)
	return nil
}

// drainTimeout bounds drain. The report contains a warning if messages are left then.
const drainTimeout = time.Minute

// drain waits until all messages are processed, so that a cell does not affect the next one. It
// returns the time that took, in seconds.
func (r *runner) drain(ctx context.Context) (float64, error) {
	started := time.Now()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		n, err := r.database.countPending(ctx)
		took := time.Since(started)
		if err != nil || n == 0 {
			return took.Seconds(), err
		}
		if took > drainTimeout {
			r.report.warnf("%d messages were not processed %v after a cell on %s", n, drainTimeout, r.database.engine)
			r.logf("%d messages are not processed yet", n)
			return took.Seconds(), nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// recordMemory notes the peak memory of the gateway.
func (r *runner) recordMemory(context.Context) error {
	peak, err := peakMemory(r.gateway.pid())
	if err == nil {
		r.report.notef("peak memory of the gateway on %s: %d MiB", r.database.engine, peak>>20)
	}
	return err
}
