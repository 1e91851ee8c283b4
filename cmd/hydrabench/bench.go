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

// A bench is one run of everything.
type bench struct {
	options
	progress io.Writer
	report   report

	dir       string
	providers *providers
}

// run measures the bare handlers, then the gateway on each engine. What the gateway
// did wrong is in the report; an error says that nothing could be measured.
func (b *bench) run(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "hydrabench-"); err != nil {
		return err
	}
	if b.providers, err = startProviders(); err != nil {
		return err
	}
	defer b.providers.close()
	defer func() { // the logs stay for whoever wants to know why
		if err == nil && len(b.report.Failures) == 0 {
			_ = os.RemoveAll(b.dir)
		} else {
			b.logf("the logs are in %s", b.dir)
		}
	}()
	b.report.Machine = fmt.Sprintf("%d processors, %s %s/%s", runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	b.report.Settings = fmt.Sprintf("%d connections, %v a cell", b.connections, b.duration)
	if b.settled {
		b.report.Settings += ", everybody has written before"
	} else {
		b.report.Settings += ", a new database"
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

// measureHandlers measures what net/http and the protocol cost by themselves.
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
		h := b.providers.webhook(channel, p.url+"/"+channel)
		if h.secret == "" {
			h.secret = "unused" // the bare handler of Telegram checks none
		}
		l := load{webhooks: []webhook{h}, seq: new(atomic.Int64), senders: maxSenders, connections: b.connections}
		c, err := probe{pid: p.pid()}.measure(ctx, b.duration, func(until time.Time, t *results) error { return l.run(ctx, until, t) })
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
	b.logf("%s", c)
}

// measureEngine measures the gateway on one engine, with a database made for this.
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
	stopped := g.stop()
	if ctx.Err() == nil && stopped != nil {
		stopped = fmt.Errorf("stop the gateway: %w", stopped)
		b.report.fail("%v; its log is %s", stopped, g.log.Name())
	}
	if d != nil {
		err = errors.Join(err, d.close())
	}
	return err
}

// runCells runs every cell of one engine. The bare inserts come before and after the
// gateway's cells, since a machine does not stay the same.
func (b *bench) runCells(ctx context.Context, g *gateway, d *database) error {
	redis := "Redis embedded in the gateway"
	if d.engine == enginePostgres && b.redis != "" {
		redis = "Redis as a server"
	}
	b.report.Stores = append(b.report.Stores, d.description+"; "+redis)
	hooks, err := g.setUpChannels(ctx, b.providers, b.channels)
	if err != nil {
		return err
	}
	r := runner{bench: b, gateway: g, database: d, webhooks: hooks}
	for _, step := range []func(context.Context) error{r.prepopulate, r.measureInserts, r.measureClosedLoop, r.measureOpenLoop, r.measureInserts, r.recordMemory} {
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

// prepopulate makes the gateway one that has run for a while, when that is asked for: all
// senders have written, and the planner knows its tables. Postgres does the latter by
// itself within minutes.
func (r *runner) prepopulate(ctx context.Context) error {
	if !r.settled {
		return nil
	}
	r.logf("letting everybody write once on %s", r.database.engine)
	for _, h := range r.webhooks {
		var t results
		l := load{webhooks: []webhook{h}, seq: &r.seq, senders: maxSenders, connections: r.connections, maxMessages: maxSenders}
		if err := l.run(ctx, time.Now().Add(settleTimeout), &t); err != nil {
			return err
		}
		if t.acked.Load() < maxSenders {
			return fmt.Errorf("only %d of %d people could write by %s", t.acked.Load(), maxSenders, h.channel)
		}
		if _, err := r.drain(ctx); err != nil {
			return err
		}
	}
	return r.database.analyze(ctx)
}

const settleTimeout = 2 * time.Minute // for a channel

// measureClosedLoop measures each channel alone, with few senders and with many.
func (r *runner) measureClosedLoop(ctx context.Context) error {
	for _, h := range r.webhooks {
		for _, senders := range r.senders {
			c := cell{Name: h.channel, Senders: senders}
			l := load{webhooks: []webhook{h}, seq: &r.seq, senders: senders, connections: r.connections}
			if err := r.measureWebhooks(ctx, c, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// measureOpenLoop measures how long a message takes when the gateway is not busy, all channels in
// turn.
func (r *runner) measureOpenLoop(ctx context.Context) error {
	for _, pace := range r.rates {
		c := cell{Name: strings.Join(r.channels, "+"), Senders: maxSenders, Rate: pace}
		l := load{webhooks: r.webhooks, seq: &r.seq, senders: maxSenders, connections: r.connections, perSecond: pace}
		if err := r.measureWebhooks(ctx, c, l); err != nil {
			return err
		}
	}
	return nil
}

// measureWebhooks measures one load on the hooks, checks that what was acknowledged is stored,
// and leaves nothing to do behind.
func (r *runner) measureWebhooks(ctx context.Context, named cell, l load) error {
	before, err := r.database.countStored(ctx)
	if err != nil {
		return err
	}
	s := probe{pid: r.gateway.pid(), metrics: r.gateway.url, database: r.database}
	c, err := s.measure(ctx, r.duration, func(until time.Time, t *results) error { return l.run(ctx, until, t) })
	c.Engine, c.Name, c.Senders, c.Rate = r.database.engine, named.Name, named.Senders, named.Rate
	if err != nil && c.Failed == 0 {
		return err
	}
	after, serr := r.database.countStored(ctx)
	if serr != nil {
		return serr
	}
	c.Stored = after - before
	r.report.checkCell(c, err)
	if c.DrainTime, err = r.drain(ctx); err != nil {
		return err
	}
	r.addCell(c)
	return nil
}

// drainTimeout is how long the work behind the inbox may take after a cell. What is left
// then is told, and goes on during the next cell.
const drainTimeout = time.Minute

// drain waits until nothing waits to be worked, so that no cell pays for the one
// before, and gives how many seconds that took.
func (r *runner) drain(ctx context.Context) (float64, error) {
	begun := time.Now()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		n, err := r.database.countPending(ctx)
		took := time.Since(begun)
		if err != nil || n == 0 {
			return took.Seconds(), err
		}
		if took > drainTimeout {
			r.report.warn("%d messages still wait to be worked a minute after a cell on %s", n, r.database.engine)
			r.logf("%d messages still wait", n)
			return took.Seconds(), nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (r *runner) recordMemory(context.Context) error {
	peak, err := peakMemory(r.gateway.pid())
	if err == nil {
		r.report.note("the gateway on %s held %d MiB at most", r.database.engine, peak>>20)
	}
	return err
}
