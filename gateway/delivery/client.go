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
// proxy from the environment, asks for no compression, and unless allowPrivate connects only to public
// addresses. It never connects to link-local and metadata addresses, nor to privileged ports other
// than 80 and 443. The address is checked when it is dialed, so that DNS rebinding does not
// circumvent the check.
func NewClient(allowPrivate bool) *http.Client {
	return newClient(&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}, allowPrivate)
}

func newClient(d *net.Dialer, allowPrivate bool) *http.Client {
	d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		return checkAddress(address, allowPrivate)
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

// Errors for an agent URL that must not be called.
var (
	// ErrPrivateAddress is returned if it resolves to an address that is not public.
	ErrPrivateAddress = errors.New("the agent URL resolves to an address that is not public")
	// ErrForbiddenAddress is returned if it resolves to an address that is not allowed even if
	// private addresses are.
	ErrForbiddenAddress = errors.New(
		"the agent URL resolves to a link-local, metadata or reserved address, which is never called")
	// ErrForbiddenPort is returned if its port is not allowed.
	ErrForbiddenPort = errors.New("the agent URL has a port that is never called; use 80, 443, or 1024 or higher")
)

// checkAddress returns an error unless applications may be called at address, an IP address with a
// port.
func checkAddress(address string, allowPrivate bool) error {
	ap, err := netip.ParseAddrPort(address)
	switch {
	case !allowPrivate && !gateway.IsPublicAddr(ap.Addr()):
		return ErrPrivateAddress
	case err != nil || !gateway.IsAgentAddr(ap.Addr(), allowPrivate):
		return ErrForbiddenAddress
	case !gateway.IsAgentPort(ap.Port()):
		return ErrForbiddenPort
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
	case errors.Is(err, ErrForbiddenAddress):
		return ErrForbiddenAddress
	case errors.Is(err, ErrForbiddenPort):
		return ErrForbiddenPort
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no response within %s", ResponseTimeout)
	case isOpError:
		return fmt.Errorf("cannot %s: %w", oe.Op, oe.Err)
	}
	return err
}
