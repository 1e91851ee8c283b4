package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// readyTimeout bounds CheckReady.
const readyTimeout = 5 * time.Second

// CheckReady returns nil if the gateway that listens on addr of this machine answers /readyz
// with 200.
func CheckReady(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return InvalidSetting("HYDRAGATE_LISTEN", "must be host:port, such as 127.0.0.1:8080")
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	url := "http://" + net.JoinHostPort(host, port) + "/readyz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: readyTimeout}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("not ready: no gateway answers: %w", err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s answered %d; its response lists the failed checks", url, res.StatusCode)
	}
	return nil
}
