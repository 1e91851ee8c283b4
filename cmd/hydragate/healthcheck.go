package main

import (
	"context"
	"fmt"

	"hydragate/cmd/hydragate/app"
)

type healthcheckCmd struct {
	Listen string `env:"HYDRAGATE_LISTEN" default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address of the gateway."`
}

// Run exits with 0 if the gateway on this machine is ready.
func (c *healthcheckCmd) Run(ctx context.Context, con app.Console) error {
	if err := app.CheckReady(ctx, c.Listen); err != nil {
		return err
	}
	_, err := fmt.Fprintln(con.Out, "ready")
	return err
}
