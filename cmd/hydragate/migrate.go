package main

import (
	"context"
	"fmt"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/store/sqldb"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" default:"1" help:"Take every step that is missing. Several processes may do so at once."`
	Status migrateStatusCmd `cmd:"" help:"Show every step and when it was taken."`
}

type migrateUpCmd struct {
	app.Settings `group:"Settings:"`
}

func (c *migrateUpCmd) Run(ctx context.Context, con app.Console) error {
	dsn, err := c.MigrationDSN()
	if err != nil {
		return err
	}
	done, err := sqldb.Migrate(ctx, dsn)
	for _, m := range done {
		fmt.Fprintf(con.Out, "applied %d %s\n", m.Version, m.Name)
	}
	if err == nil && len(done) == 0 {
		fmt.Fprintln(con.Out, "up to date")
	}
	return err
}

type migrateStatusCmd struct {
	app.Settings `group:"Settings:"`
}

func (c *migrateStatusCmd) Run(ctx context.Context, con app.Console) error {
	dsn, err := c.MigrationDSN()
	if err != nil {
		return err
	}
	ms, err := sqldb.Migrations(ctx, dsn)
	for _, m := range ms {
		at := "pending"
		if !m.AppliedAt.IsZero() {
			at = m.AppliedAt.Format(time.DateTime)
		}
		fmt.Fprintf(con.Out, "%d  %-28s %s\n", m.Version, m.Name, at)
	}
	return err
}
