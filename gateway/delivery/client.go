package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"hydragate/gateway"
)

// maxHeaderBytes is the maximum size of the headers of a response.
const maxHeaderBytes = 64 << 10

// NewClient returns the HTTP client for calling applications: it follows no redirects, uses no
// proxy from the environment, does not decompress, and unless allowPrivate connects only to public
// addresses. The address is checked when it is dialed, so that DNS rebinding does not circumvent
// the check.
func NewClient(allowPrivate bool) *http.Client {
	return newClient(&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}, allowPrivate)
}

func newClient(d *net.Dialer, allowPrivate bool) *http.Client {
	if !allowPrivate {
		d.ControlContext = checkPublic
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:           d.DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: ResponseTimeout,
			// Many applications are called concurrently, so each response is limited.
			MaxResponseHeaderBytes: maxHeaderBytes,
			DisableCompression:     true,
			MaxIdleConns:           256,
			MaxIdleConnsPerHost:    64,
			IdleConnTimeout:        90 * time.Second,
			ForceAttemptHTTP2:      true,
		},
	}
}

// ErrPrivateAddress is returned if an agent URL resolves to an address that is not public.
var ErrPrivateAddress = errors.New("the agent URL resolves to an address that is not public")

func checkPublic(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !gateway.IsPublicAddr(ap.Addr()) {
		return ErrPrivateAddress
	}
	return nil
}

// redactURL returns a transport error without the URL.
func redactURL(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	oe, isOpError := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, ErrPrivateAddress):
		return ErrPrivateAddress
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no response within %s", ResponseTimeout)
	case isOpError:
		return fmt.Errorf("cannot %s: %w", oe.Op, oe.Err)
	}
	return err
}
