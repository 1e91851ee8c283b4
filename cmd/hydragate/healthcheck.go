package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"hydragate/cmd/hydragate/app"
)

type healthcheckCmd struct {
	Listen string `env:"HYDRAGATE_LISTEN" default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address that the gateway listens on."`
}

func (c *healthcheckCmd) Run(ctx context.Context, con app.Console) error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return app.InvalidSetting("HYDRAGATE_LISTEN", "must be host:port, such as 127.0.0.1:8080")
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: /readyz answers %d", res.StatusCode)
	}
	_, err = fmt.Fprintln(con.Out, "ready")
	return err
}
