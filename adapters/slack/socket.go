package slack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"hydragate/adapters"
)

const (
	helloTimeout = 10 * time.Second // maximum wait for Slack's hello
	pingInterval = 10 * time.Second // interval between pings
	stallTimeout = 30 * time.Second // maximum time without a frame, ping or pong
	gracePeriod  = 15 * time.Second // time for which a connection is read after Slack's disconnect warning
	writeTimeout = 5 * time.Second

	tooManyConnections = "too_many_websockets" // reason of a disconnect

	maxHandshake = 256 << 10
	maxFrameSkip = 8 << 20 // maximum number of bytes to skip after a frame that is too long
)

// A socket is a connection of Socket Mode.
type socket struct {
	conn     *websocket.Conn
	opened   time.Time
	closesAt time.Time   // the end of its grace; zero while it has none
	hasAcked atomic.Bool // something that it brought is stored
}

// openSocket requests a URL, connects to it and waits for Slack's hello. Every error is an
// *adapters.SendError that does not contain the URL.
func (a *Adapter) openSocket(ctx context.Context, ep adapters.Endpoint) (*socket, error) {
	address, err := a.socketURL(ctx, ep)
	if err != nil {
		return nil, err
	}
	conn, err := a.dial(ctx, address)
	if err != nil {
		return nil, newUnreachableError("handshake", err)
	}
	s := &socket{conn: conn, opened: time.Now()}
	conn.SetReadLimit(maxFrameSkip)
	conn.SetPingHandler(func(data string) error {
		_ = conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(writeTimeout))
		return s.extendDeadline(stallTimeout)
	})
	conn.SetPongHandler(func(string) error { return s.extendDeadline(stallTimeout) })
	if err := s.awaitHello(ctx, ep); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

// socketURL requests a URL for one connection. The call changes nothing, so it may be repeated if
// the response is lost.
func (a *Adapter) socketURL(ctx context.Context, ep adapters.Endpoint) (string, error) {
	tokens := ep.Current(adapters.AppToken)
	if len(tokens) == 0 {
		return "", &adapters.SendError{Reason: adapters.BadSecret, Code: "no_token", Err: errors.New("no app-level token")}
	}
	c := a.newCall()
	_, address, err := c.apiClient(a, tokens[0]).StartSocketModeContext(ctx)
	if err != nil {
		return "", c.sendError(err)
	}
	if !a.isSocketURL(address) {
		return "", newUnreachableError("address", errors.New("URL of another host"))
	}
	return address, nil
}

// isSocketURL reports whether address belongs to Slack: the host of the API server or a subdomain,
// with TLS if the API uses it.
func (a *Adapter) isSocketURL(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return false
	}
	server, err := url.Parse(a.apiURL())
	if err != nil || server.Host == "" {
		return false
	}
	return u.Scheme == map[string]string{"https": "wss", "http": "ws"}[server.Scheme] &&
		(u.Host == server.Host || strings.HasSuffix(u.Host, "."+server.Host))
}

// dial connects with the settings of the HTTP client and limits the size of the handshake
// response.
func (a *Adapter) dial(ctx context.Context, address string) (*websocket.Conn, error) {
	dialer := websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: callTimeout}
	connect := (&net.Dialer{}).DialContext
	if a.HTTP != nil {
		if t, ok := a.HTTP.Transport.(*http.Transport); ok {
			dialer.Proxy, dialer.TLSClientConfig = t.Proxy, t.TLSClientConfig.Clone()
			if t.DialContext != nil {
				connect = t.DialContext
			}
		}
	}
	var all []*limitedConn
	dialer.NetDialContext = func(ctx context.Context, network, to string) (net.Conn, error) {
		conn, err := connect(ctx, network, to)
		if err != nil {
			return nil, err
		}
		r := &limitedConn{Conn: conn}
		r.remaining.Store(maxHandshake)
		all = append(all, r)
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	//nolint:bodyclose // the body is a buffer that needs not be closed
	conn, _, err := dialer.DialContext(ctx, address, nil)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		r.unlimited.Store(true)
	}
	return conn, nil
}

// A limitedConn limits the number of bytes read until the limit is removed.
type limitedConn struct {
	net.Conn
	remaining atomic.Int64
	unlimited atomic.Bool
}

func (r *limitedConn) Read(p []byte) (int, error) {
	if r.unlimited.Load() {
		return r.Conn.Read(p)
	}
	left := r.remaining.Load()
	if left <= 0 {
		return 0, errors.New("handshake response too long")
	}
	n, err := r.Conn.Read(p[:min(int64(len(p)), left)])
	r.remaining.Add(-int64(n))
	return n, err
}

// awaitHello waits for the hello of a connection, which must be for the app of the endpoint.
func (s *socket) awaitHello(ctx context.Context, ep adapters.Endpoint) error {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	f, err := s.readFrame(helloTimeout)
	switch {
	case err != nil:
		return newUnreachableError("no_hello", err)
	case f.Type == "disconnect" && f.Reason == tooManyConnections:
		return &adapters.SendError{Reason: adapters.Refused, Code: tooManyConnections, Err: fmt.Errorf(
			"%w: the app has more connections than Slack allows (10); stop other programs that use its app-level token",
			errSlackResponse,
		)}
	case f.Type == "disconnect":
		return newUnreachableError(sanitizeCode(f.Reason), errors.New("disconnected"))
	case f.Type != "hello":
		return newUnreachableError("no_hello", errors.New("no hello"))
	case isOtherApp(ep, f.Connection.AppID):
		return &adapters.SendError{
			Reason: adapters.BadSecret,
			Code:   "other_app",
			Err:    errors.New("app-level token belongs to another app"),
		}
	}
	return nil
}

// readFrame returns the next frame, or an error after a period of silence.
func (s *socket) readFrame(silence time.Duration) (frame, error) {
	if err := s.extendDeadline(silence); err != nil {
		return frame{}, err
	}
	_, r, err := s.conn.NextReader()
	if err != nil {
		return frame{}, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxFrame+1))
	if err != nil {
		return frame{}, err
	}
	return decodeFrame(raw), nil // NextReader skips the rest of a frame that is too long
}

// extendDeadline sets the read deadline, which is never later than closesAt.
func (s *socket) extendDeadline(silence time.Duration) error {
	by := time.Now().Add(silence)
	if !s.closesAt.IsZero() && by.After(s.closesAt) {
		by = s.closesAt
	}
	return s.conn.SetReadDeadline(by)
}

// readFrames sends envelopes to frames until the connection or ctx ends. It calls leave once, as
// soon as another connection is needed.
func (s *socket) readFrames(ctx context.Context, frames chan<- receivedFrame, leave func(reason string)) {
	reason := "ended"
	defer func() {
		if s.closesAt.IsZero() {
			leave(reason)
		}
	}()
	for {
		f, err := s.readFrame(stallTimeout)
		if err != nil {
			reason = disconnectReason(err)
			return
		}
		switch {
		case len(f.raw) == 0, f.Type == "hello":
			continue
		case f.Type == "disconnect":
			if s.closesAt.IsZero() {
				s.closesAt = time.Now().Add(gracePeriod)
				leave(sanitizeCode(f.Reason))
			}
			continue
		}
		select {
		case frames <- receivedFrame{frame: f, socket: s, receivedAt: time.Now()}:
		case <-ctx.Done():
			return
		}
	}
}

// disconnectReason returns why a connection ended, for the log.
func disconnectReason(err error) string {
	var netErr net.Error
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		return "frame too long"
	case errors.As(err, &netErr) && netErr.Timeout():
		return "stalled"
	}
	return "cut"
}

// sendPings sends pings until ctx ends. Each pong extends the read deadline.
func (s *socket) sendPings(ctx context.Context) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout)) != nil {
			return
		}
	}
}

// write sends a message. It must not be called concurrently. It closes the connection after an
// error.
func (s *socket) write(message []byte) error {
	err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		err = s.conn.WriteMessage(websocket.TextMessage, message)
	}
	if err != nil {
		_ = s.conn.Close()
	}
	return err
}

// close sends a close message and closes the connection.
func (s *socket) close() {
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = s.conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
	_ = s.conn.Close()
}

// newUnreachableError returns the error of a connection that may succeed later. It keeps nothing
// of err, which may contain the URL.
func newUnreachableError(code string, err error) *adapters.SendError {
	if c := networkErrorCode(err); c == "timeout" {
		code += "_" + c
	}
	return &adapters.SendError{Reason: adapters.Unreachable, Code: code, Err: errors.New("no connection to Slack")}
}
