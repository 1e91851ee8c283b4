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

// maxHeaderBytes is how long the headers of an answer may be.
const maxHeaderBytes = 64 << 10

// NewClient makes the client that calls agent runtimes: no redirects, no proxy of the
// environment, no inflating, and unless allowPrivate no address that is not public.
// The address is checked when it is dialled, so that no name can resolve around it.
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
			// As many runtimes as are called at once must not fill the memory.
			MaxResponseHeaderBytes: maxHeaderBytes,
			DisableCompression:     true,
			MaxIdleConns:           256,
			MaxIdleConnsPerHost:    64,
			IdleConnTimeout:        90 * time.Second,
			ForceAttemptHTTP2:      true,
		},
	}
}

// ErrPrivateAddress says that an agent URL leads to an address that is not public.
var ErrPrivateAddress = errors.New("the agent URL leads to an address that is not public")

func checkPublic(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !gateway.IsPublicAddr(ap.Addr()) {
		return ErrPrivateAddress
	}
	return nil
}

// redactURL gives a transport error without the URL in it.
func redactURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	var oe *net.OpError
	switch {
	case errors.Is(err, ErrPrivateAddress):
		return ErrPrivateAddress
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s", ResponseTimeout)
	case errors.As(err, &oe):
		return fmt.Errorf("cannot %s: %w", oe.Op, oe.Err)
	}
	return err
}
