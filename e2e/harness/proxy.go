//go:build unix

package harness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// A Proxy forwards TCP connections to targets in turn. Its address does not change when the targets
// do. Connections can be cut or frozen.
type Proxy struct {
	listener net.Listener

	mu         sync.Mutex
	Targets    []string
	nextTarget int
	state      ProxyState
	changed    chan struct{} // closed when state changes
	conns      []net.Conn
}

// A ProxyState is how a proxy handles connections.
type ProxyState string

// The states of a proxy.
const (
	ProxyUp     ProxyState = "up"
	ProxyCut    ProxyState = "cut"    // closes all connections
	ProxyFrozen ProxyState = "frozen" // keeps connections open and forwards nothing
)

// NewProxy starts a proxy on a free port.
func NewProxy(to ...string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &Proxy{listener: l, Targets: to, state: ProxyUp, changed: make(chan struct{})}
	go w.acceptLoop()
	return w, nil
}

// Addr returns the address of the proxy as host:port.
func (w *Proxy) Addr() string { return w.listener.Addr().String() }

// SetTargets changes the targets of new connections.
func (w *Proxy) SetTargets(to ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Targets = slices.Clone(to)
}

// SetState changes how connections are handled.
func (w *Proxy) SetState(s ProxyState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setStateLocked(s)
}

// setStateLocked changes the state. w.mu must be held.
func (w *Proxy) setStateLocked(s ProxyState) {
	w.state = s
	close(w.changed)
	w.changed = make(chan struct{})
	if s == ProxyCut {
		w.closeConns()
	}
}

// Close stops the proxy and closes all connections.
func (w *Proxy) Close() {
	_ = w.listener.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setStateLocked(ProxyCut)
}

// closeConns closes all connections. w.mu must be held.
func (w *Proxy) closeConns() {
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// acceptLoop serves connections until the listener is closed.
func (w *Proxy) acceptLoop() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		go w.serve(c)
	}
}

// serve connects a client with the next target that accepts connections.
func (w *Proxy) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	if !w.track(c) || !w.waitOpen() {
		return
	}
	server, err := w.dialTarget()
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if !w.track(server) {
		return
	}
	done := make(chan struct{})
	go func() {
		w.copyData(c, server)
		close(done)
	}()
	w.copyData(server, c)
	_ = c.Close()
	_ = server.Close()
	<-done
}

// track records a connection, to close it when the proxy is cut. It returns false if it is cut.
func (w *Proxy) track(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == ProxyCut {
		return false
	}
	w.conns = append(w.conns, c)
	return true
}

// waitOpen waits while the proxy is frozen. It reports whether the proxy is up.
func (w *Proxy) waitOpen() bool {
	for {
		w.mu.Lock()
		state, change := w.state, w.changed
		w.mu.Unlock()
		if state != ProxyFrozen {
			return state == ProxyUp
		}
		<-change
	}
}

// dialTarget connects to the next target that accepts connections. It returns an error if none
// does.
func (w *Proxy) dialTarget() (net.Conn, error) {
	w.mu.Lock()
	w.nextTarget++
	first, to := w.nextTarget, w.Targets
	w.mu.Unlock()
	for i := range to {
		if c, err := net.Dial("tcp", to[(first+i)%len(to)]); err == nil {
			return c, nil
		}
	}
	return nil, errors.New("no target accepts connections")
}

// copyData copies bytes in one direction until a connection is closed.
func (w *Proxy) copyData(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && w.waitOpen() {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if half, ok := to.(*net.TCPConn); ok && errors.Is(err, io.EOF) {
				_ = half.CloseWrite()
			} else {
				_ = to.Close()
			}
			return
		}
	}
}

// StartDelayProxy starts a proxy that delays each response of the server at a port, as a network would.
// It returns the port of the proxy.
func StartDelayProxy(t *testing.T, to int, delay time.Duration) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
			if err != nil {
				_ = client.Close()
				continue
			}
			closeBoth := func() { _, _ = client.Close(), server.Close() }
			all.Go(func() {
				defer closeBoth()
				_, _ = io.Copy(server, client)
			})
			all.Go(func() {
				defer closeBoth()
				_, _ = io.Copy(client, delayedReader{server, delay})
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

// A delayedReader delays the result of each Read.
type delayedReader struct {
	io.Reader
	delay time.Duration
}

func (r delayedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	<-time.After(r.delay)
	return n, err
}

// NetworkDelay is the delay of responses of Postgres in tests.
const NetworkDelay = 3 * time.Millisecond
