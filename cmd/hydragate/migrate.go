package main

import (
	"context"

	"hydragate/cmd/hydragate/app"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" default:"1" help:"Apply all pending migrations. May run concurrently."`
	Status migrateStatusCmd `cmd:"" help:"List the migrations and when each was applied."`
}

type migrateUpCmd struct {
	app.Settings `group:"Settings:"`
}

// Run applies all pending migrations.
func (c *migrateUpCmd) Run(ctx context.Context, con app.Console) error {
	return app.Migrate(ctx, &c.Settings, con.Out)
}

type migrateStatusCmd struct {
	app.Settings `group:"Settings:"`
}

// Run lists the migrations.
func (c *migrateStatusCmd) Run(ctx context.Context, con app.Console) error {
	return app.PrintMigrations(ctx, &c.Settings, con.Out)
}
