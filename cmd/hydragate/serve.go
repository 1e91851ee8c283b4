package main

import (
	"context"

	"hydragate/cmd/hydragate/app"
)

type serveCmd struct {
	app.Settings `group:"Settings:"`
}

// Run runs the gateway until it is interrupted.
func (c *serveCmd) Run(ctx context.Context, con app.Console) error {
	if err := c.Check(); err != nil {
		return err
	}
	return app.Serve(ctx, &c.Settings, con.Out, c.Logger(con.Err), app.Options{})
}
