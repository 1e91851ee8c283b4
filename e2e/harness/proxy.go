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

// A Proxy is an address that leads somewhere else: to the gateway and its replicas in
// turn, or to a database that can be cut off. The address stays the same while what
// is behind it comes and goes.
type Proxy struct {
	listener net.Listener

	mu         sync.Mutex
	Targets    []string
	nextTarget int
	state      ProxyState
	changed    chan struct{} // closed when state changes
	conns      []net.Conn
}

type ProxyState string

const (
	ProxyUp     ProxyState = "whole"
	ProxyCut    ProxyState = "cut"    // whoever calls is hung up on
	ProxyFrozen ProxyState = "frozen" // nobody hangs up, and nothing comes through
)

func NewProxy(to ...string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &Proxy{listener: l, Targets: to, state: ProxyUp, changed: make(chan struct{})}
	go w.acceptLoop()
	return w, nil
}

func (w *Proxy) Addr() string { return w.listener.Addr().String() }

// SetTargets makes the wire lead to these addresses from now on.
func (w *Proxy) SetTargets(to ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Targets = slices.Clone(to)
}

func (w *Proxy) SetState(s ProxyState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setStateLocked(s)
}

// setStateLocked changes the state; w.mu is held.
func (w *Proxy) setStateLocked(s ProxyState) {
	w.state = s
	close(w.changed)
	w.changed = make(chan struct{})
	if s == ProxyCut {
		w.closeConns()
	}
}

func (w *Proxy) Close() {
	_ = w.listener.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setStateLocked(ProxyCut)
}

// closeConns ends every connection; w.mu is held.
func (w *Proxy) closeConns() {
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

func (w *Proxy) acceptLoop() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		go w.serve(c)
	}
}

// serve connects a caller with the next address that answers.
func (w *Proxy) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	if !w.track(c) || !w.waitOpen() {
		return
	}
	far, err := w.dialTarget()
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	if !w.track(far) {
		return
	}
	back := make(chan struct{})
	go func() {
		w.copyData(c, far)
		close(back)
	}()
	w.copyData(far, c)
	_ = c.Close()
	_ = far.Close()
	<-back
}

// track notes a connection that is to end when the wire is cut; false says it is.
func (w *Proxy) track(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == ProxyCut {
		return false
	}
	w.conns = append(w.conns, c)
	return true
}

// waitOpen waits while the wire is frozen, and reports whether it is whole then.
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

func (w *Proxy) dialTarget() (net.Conn, error) {
	w.mu.Lock()
	w.nextTarget++
	turn, to := w.nextTarget, w.Targets
	w.mu.Unlock()
	for i := range to {
		if c, err := net.Dial("tcp", to[(turn+i)%len(to)]); err == nil {
			return c, nil
		}
	}
	return nil, errors.New("nobody there")
}

// copyData carries bytes one way until either end is closed: well, or not.
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

// StartDelayProxy forwards connections to a port and holds every answer back for a while, so
// that what happens between two statements takes as long as over a network.
func StartDelayProxy(t *testing.T, to int, delay time.Duration) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
			if err != nil {
				_ = near.Close()
				continue
			}
			both := func() { _, _ = near.Close(), far.Close() }
			all.Go(func() {
				defer both()
				_, _ = io.Copy(far, near)
			})
			all.Go(func() {
				defer both()
				_, _ = io.Copy(near, delayedReader{far, delay})
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

type delayedReader struct {
	io.Reader
	delay time.Duration
}

// NetworkDelay is added to each answer of Postgres.
const NetworkDelay = 3 * time.Millisecond
