package main

import (
	"context"

	"hydragate/cmd/hydragate/app"
)

type doctorCmd struct {
	app.Settings `group:"Settings:"`
}

// Run checks everything that can be checked from this machine.
func (c *doctorCmd) Run(ctx context.Context, con app.Console) error {
	return app.Diagnose(ctx, &c.Settings, con.Out)
}
