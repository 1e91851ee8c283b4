package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store"
)

type doctorCmd struct {
	settings `group:"Settings:"`
}

// checkTime bounds each check.
const checkTime = 15 * time.Second

func (c *doctorCmd) Run(ctx context.Context, con console) error {
	d := diagnosis{out: con.out}
	if err := c.check(); err != nil {
		d.say("settings", err)
		return errSaid
	}
	d.say("settings", nil)
	if err := c.upToDate(ctx); err != nil {
		d.say("schema", err)
		return errSaid
	}
	p, err := build(ctx, &c.settings, c.PublicURL, slog.New(slog.DiscardHandler))
	if err != nil {
		d.say("database and Redis", err)
		return errSaid
	}
	defer p.closeAll()
	d.step(ctx, "database ("+p.store.Engine()+")", p.store.Ping)
	d.step(ctx, "schema", p.store.Migrated)
	d.step(ctx, "master keys", func(ctx context.Context) error { return keysInOrder(ctx, p.store) })
	d.step(ctx, "Redis", func(ctx context.Context) error { return p.redis.Ping(ctx).Err() })
	switch {
	case c.PublicURL == "":
		d.say("public URL", errors.New("HYDRAGATE_PUBLIC_URL is not set: providers on the internet cannot call this gateway; Telegram can be polled, Slack has Socket Mode"))
	case !strings.HasPrefix(c.PublicURL, "https://"):
		d.say("public URL", errors.New("HYDRAGATE_PUBLIC_URL is not https: what providers send can be read and changed on the way, and Telegram and Slack do not call it"))
	}
	if err := d.endpoints(ctx, p); err != nil {
		return err
	}
	if d.ill > 0 {
		fmt.Fprintf(con.out, "\n%d of %d checks failed\n", d.ill, d.all)
		return errSaid
	}
	fmt.Fprintf(con.out, "\nall %d checks passed\n", d.all)
	return nil
}

// upToDate looks before anything opens the database, which would take the steps that
// are missing: who asks a newer program for a check has not decided to upgrade.
func (c *doctorCmd) upToDate(ctx context.Context) error {
	dsn, err := c.database()
	if err != nil {
		return err
	}
	ms, err := store.Migrations(ctx, dsn)
	if err != nil {
		return wrong("HYDRAGATE_DATABASE_URL", "names a database that cannot be used: "+err.Error())
	}
	missing := 0
	for _, m := range ms {
		if m.AppliedAt.IsZero() {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d steps are missing: hydragate migrate up takes them, and so does a gateway that starts", missing, len(ms))
	}
	return nil
}

// A diagnosis prints a line for each check.
type diagnosis struct {
	out      io.Writer
	all, ill int
}

func (d *diagnosis) say(what string, err error) {
	d.all++
	if err != nil {
		d.ill++
		fmt.Fprintf(d.out, "✗ %s: %v\n", what, err)
		return
	}
	fmt.Fprintf(d.out, "✓ %s\n", what)
}

func (d *diagnosis) step(ctx context.Context, what string, check func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	d.say(what, check(ctx))
}

// endpoints asks every provider whether the credentials kept are good.
func (d *diagnosis) endpoints(ctx context.Context, p *parts) error {
	for after := ""; ; {
		instances, err := p.store.ListInstances(ctx, identity.DefaultTenant, after, 100)
		if err != nil {
			return err
		}
		for _, i := range instances {
			after = i.ID
			if err := d.instance(ctx, p, i); err != nil {
				return err
			}
		}
		if len(instances) < 100 {
			return nil
		}
	}
}

func (d *diagnosis) instance(ctx context.Context, p *parts, i gateway.Instance) error {
	seats, err := p.channels.Seats(ctx, i.TenantID, i.ID)
	if err != nil {
		return err
	}
	for _, s := range seats {
		d.step(ctx, fmt.Sprintf("%s of %s (%s)", s.Channel, i.Name, i.ID), func(ctx context.Context) error {
			a, ok := p.channels.Adapters[s.Channel].(adapters.Configurer)
			if !ok {
				return nil
			}
			if _, err := a.Check(ctx, s.Endpoint); err != nil {
				return err
			}
			if s.Status != gateway.Active {
				return fmt.Errorf("is %s: %s", s.Status, s.ErrorMessage)
			}
			return nil
		})
	}
	if len(seats) == 0 {
		d.say(fmt.Sprintf("channels of %s (%s)", i.Name, i.ID), errors.New("none is set up"))
	}
	return nil
}
