package main

import (
	"context"

	"hydragate/cmd/hydragate/app"
)

type serveCmd struct {
	app.Settings `group:"Settings:"`
}

func (c *serveCmd) Run(ctx context.Context, con app.Console) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return app.Serve(ctx, &c.Settings, con, c.Logger(con.Err), nil)
}
