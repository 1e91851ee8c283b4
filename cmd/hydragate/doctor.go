package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"hydragate/cmd/hydragate/app"
	"hydragate/store/sqldb"
)

type doctorCmd struct {
	app.Settings `group:"Settings:"`
}

func (c *doctorCmd) Run(ctx context.Context, con app.Console) error {
	d := app.DoctorReport{Out: con.Out}
	if err := c.Check(); err != nil {
		d.Add("settings", err)
		return app.ErrReported
	}
	d.Add("settings", nil)
	if err := c.checkSchema(ctx); err != nil {
		d.Add("schema", err)
		return app.ErrReported
	}
	p, err := app.New(ctx, &c.Settings, c.PublicURL, slog.New(slog.DiscardHandler))
	if err != nil {
		d.Add("database and Redis", err)
		return app.ErrReported
	}
	defer p.Close()
	d.Check(ctx, "database ("+p.Store.Engine()+")", p.Store.Ping)
	d.Check(ctx, "schema", p.Store.Migrated)
	d.Check(ctx, "master keys", func(ctx context.Context) error { return app.CheckKeyUsage(ctx, p.Store) })
	d.Check(ctx, "Redis", func(ctx context.Context) error { return p.Redis.Ping(ctx).Err() })
	switch {
	case c.PublicURL == "":
		d.Add("public URL", errors.New("HYDRAGATE_PUBLIC_URL is not set: providers on the internet cannot call this gateway; Telegram can be polled, Slack has Socket Mode"))
	case !strings.HasPrefix(c.PublicURL, "https://"):
		d.Add("public URL", errors.New("HYDRAGATE_PUBLIC_URL is not https: what providers send can be read and changed on the way, and Telegram and Slack do not call it"))
	}
	if err := d.CheckEndpoints(ctx, p); err != nil {
		return err
	}
	if d.Failed > 0 {
		fmt.Fprintf(con.Out, "\n%d of %d checks failed\n", d.Failed, d.Total)
		return app.ErrReported
	}
	fmt.Fprintf(con.Out, "\nall %d checks passed\n", d.Total)
	return nil
}

// checkSchema looks before anything opens the database, which would take the steps that
// are missing: who asks a newer program for a check has not decided to upgrade.
func (c *doctorCmd) checkSchema(ctx context.Context) error {
	dsn, err := c.DSN()
	if err != nil {
		return err
	}
	ms, err := sqldb.Migrations(ctx, dsn)
	if err != nil {
		return app.InvalidSetting("HYDRAGATE_DATABASE_URL", "names a database that cannot be used: "+err.Error())
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
