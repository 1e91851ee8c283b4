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
	if b.providers, err = openProviders(); err != nil {
		return err
	}
	defer b.providers.close()
	defer func() { // the logs stay for whoever wants to know why
		if err == nil && len(b.report.Failures) == 0 {
			_ = os.RemoveAll(b.dir)
		} else {
			b.say("the logs are in %s", b.dir)
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
		b.say("building the gateway")
		if b.binary, err = build(ctx, b.dir, b.progress); err != nil {
			return err
		}
	}
	if err := b.handlers(ctx); err != nil {
		return err
	}
	for _, engine := range b.engines {
		if err := b.engine(ctx, engine); err != nil {
			return fmt.Errorf("measure on %s: %w", engine, err)
		}
	}
	b.report.judge()
	return nil
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, format+"\n", args...)
}

// handlers measures what net/http and the protocol cost by themselves.
func (b *bench) handlers(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p, err := start(ctx, filepath.Join(b.dir, "bare.log"), nil, self, bareCommand, "--token", b.providers.token)
	if err != nil {
		return err
	}
	defer func() { _ = p.stop() }()
	for _, channel := range []string{telegramChannel, smsChannel} {
		h := b.providers.hook(channel, p.url+"/"+channel)
		if h.secret == "" {
			h.secret = "unused" // the bare handler of Telegram checks none
		}
		l := load{hooks: []hook{h}, seq: new(atomic.Int64), senders: maxSenders, connections: b.connections}
		c, err := subject{pid: p.pid()}.measure(ctx, b.duration, func(until time.Time, t *tally) error { return l.run(ctx, until, t) })
		if err == nil && c.Refused > 0 {
			err = fmt.Errorf("%d requests were refused", c.Refused)
		}
		if err != nil {
			return fmt.Errorf("measure the bare handler of %s: %w", channel, err)
		}
		c.What, c.Stored = "bare handler, "+channel, 0
		b.add(c)
	}
	return nil
}

func (b *bench) add(c cell) {
	b.report.Cells = append(b.report.Cells, c)
	b.say("%s", c)
}

// engine measures the gateway on one engine, with a database made for this.
func (b *bench) engine(ctx context.Context, engine string) (err error) {
	dir := filepath.Join(b.dir, engine)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var d *database
	url, redis := "", ""
	if engine == onPostgres {
		if d, err = newPostgres(ctx, b.postgres); err != nil {
			return err
		}
		url, redis = d.url, b.redis
		for _, w := range d.loud {
			b.say("!!! %s !!!", w)
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
		err = b.through(ctx, g, d)
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

// through runs every cell of one engine. The bare inserts come before and after the
// gateway's cells, since a machine does not stay the same.
func (b *bench) through(ctx context.Context, g *gateway, d *database) error {
	redis := "Redis embedded in the gateway"
	if d.engine == onPostgres && b.redis != "" {
		redis = "Redis as a server"
	}
	b.report.Stores = append(b.report.Stores, d.about+"; "+redis)
	hooks, err := g.connect(ctx, b.providers, b.channels)
	if err != nil {
		return err
	}
	r := runner{bench: b, gateway: g, database: d, hooks: hooks}
	for _, step := range []func(context.Context) error{r.settle, r.inserts, r.closed, r.open, r.inserts, r.memory} {
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
	hooks    []hook
	seq      atomic.Int64
}

func (r *runner) inserts(ctx context.Context) error {
	if r.database.engine != onPostgres {
		return nil
	}
	c, err := r.database.inserts(ctx, r.duration, r.connections)
	if err == nil {
		r.add(c)
	}
	return err
}

// settle makes the gateway one that has run for a while, when that is asked for: all
// senders have written, and the planner knows its tables. Postgres does the latter by
// itself within minutes.
func (r *runner) settle(ctx context.Context) error {
	if !r.settled {
		return nil
	}
	r.say("letting everybody write once on %s", r.database.engine)
	for _, h := range r.hooks {
		var t tally
		l := load{hooks: []hook{h}, seq: &r.seq, senders: maxSenders, connections: r.connections, most: maxSenders}
		if err := l.run(ctx, time.Now().Add(settleTime), &t); err != nil {
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

const settleTime = 2 * time.Minute // for a channel

// closed measures each channel alone, with few senders and with many.
func (r *runner) closed(ctx context.Context) error {
	for _, h := range r.hooks {
		for _, senders := range r.senders {
			c := cell{What: h.channel, Senders: senders}
			l := load{hooks: []hook{h}, seq: &r.seq, senders: senders, connections: r.connections}
			if err := r.hooked(ctx, c, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// open measures how long a message takes when the gateway is not busy, all channels in
// turn.
func (r *runner) open(ctx context.Context) error {
	for _, pace := range r.rates {
		c := cell{What: strings.Join(r.channels, "+"), Senders: maxSenders, Pace: pace}
		l := load{hooks: r.hooks, seq: &r.seq, senders: maxSenders, connections: r.connections, perSecond: pace}
		if err := r.hooked(ctx, c, l); err != nil {
			return err
		}
	}
	return nil
}

// hooked measures one load on the hooks, checks that what was acknowledged is stored,
// and leaves nothing to do behind.
func (r *runner) hooked(ctx context.Context, named cell, l load) error {
	before, err := r.database.stored(ctx)
	if err != nil {
		return err
	}
	s := subject{pid: r.gateway.pid(), metrics: r.gateway.url, database: r.database}
	c, err := s.measure(ctx, r.duration, func(until time.Time, t *tally) error { return l.run(ctx, until, t) })
	c.Engine, c.What, c.Senders, c.Pace = r.database.engine, named.What, named.Senders, named.Pace
	if err != nil && c.Failed == 0 {
		return err
	}
	after, serr := r.database.stored(ctx)
	if serr != nil {
		return serr
	}
	c.Stored = after - before
	r.report.check(c, err)
	if c.Drained, err = r.drain(ctx); err != nil {
		return err
	}
	r.add(c)
	return nil
}

// drainTime is how long the work behind the inbox may take after a cell. What is left
// then is told, and goes on during the next cell.
const drainTime = time.Minute

// drain waits until nothing waits to be worked, so that no cell pays for the one
// before, and gives how many seconds that took.
func (r *runner) drain(ctx context.Context) (float64, error) {
	begun := time.Now()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		n, err := r.database.waiting(ctx)
		took := time.Since(begun)
		if err != nil || n == 0 {
			return took.Seconds(), err
		}
		if took > drainTime {
			r.report.warn("%d messages still wait to be worked a minute after a cell on %s", n, r.database.engine)
			r.say("%d messages still wait", n)
			return took.Seconds(), nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (r *runner) memory(context.Context) error {
	peak, err := peakMemory(r.gateway.pid())
	if err == nil {
		r.report.note("the gateway on %s held %d MiB at most", r.database.engine, peak>>20)
	}
	return err
}
