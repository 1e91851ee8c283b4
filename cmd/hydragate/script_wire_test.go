package main

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
)

// A wire is an address that leads somewhere else: to the gateway and its replicas in
// turn, or to a database that can be cut off. The address stays the same while what
// is behind it comes and goes.
type wire struct {
	listener net.Listener

	mu     sync.Mutex
	to     []string
	turn   int
	state  wireState
	change chan struct{} // closed when state changes
	conns  []net.Conn
}

type wireState string

const (
	whole  wireState = "whole"
	cut    wireState = "cut"    // whoever calls is hung up on
	frozen wireState = "frozen" // nobody hangs up, and nothing comes through
)

func newWire(to ...string) (*wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{listener: l, to: to, state: whole, change: make(chan struct{})}
	go w.accept()
	return w, nil
}

func (w *wire) addr() string { return w.listener.Addr().String() }

// lead makes the wire lead to these addresses from now on.
func (w *wire) lead(to ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = slices.Clone(to)
}

func (w *wire) set(s wireState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.become(s)
}

// become changes the state; w.mu is held.
func (w *wire) become(s wireState) {
	w.state = s
	close(w.change)
	w.change = make(chan struct{})
	if s == cut {
		w.hangUp()
	}
}

func (w *wire) close() {
	_ = w.listener.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.become(cut)
}

// hangUp ends every connection; w.mu is held.
func (w *wire) hangUp() {
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

func (w *wire) accept() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		go w.join(c)
	}
}

// join connects a caller with the next address that answers.
func (w *wire) join(c net.Conn) {
	defer func() { _ = c.Close() }()
	if !w.keep(c) || !w.pass() {
		return
	}
	far, err := w.dial()
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	if !w.keep(far) {
		return
	}
	back := make(chan struct{})
	go func() {
		w.pump(c, far)
		close(back)
	}()
	w.pump(far, c)
	_ = c.Close()
	_ = far.Close()
	<-back
}

// keep notes a connection that is to end when the wire is cut; false says it is.
func (w *wire) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == cut {
		return false
	}
	w.conns = append(w.conns, c)
	return true
}

// pass waits while the wire is frozen, and reports whether it is whole then.
func (w *wire) pass() bool {
	for {
		w.mu.Lock()
		state, change := w.state, w.change
		w.mu.Unlock()
		if state != frozen {
			return state == whole
		}
		<-change
	}
}

func (w *wire) dial() (net.Conn, error) {
	w.mu.Lock()
	w.turn++
	turn, to := w.turn, w.to
	w.mu.Unlock()
	for i := range to {
		if c, err := net.Dial("tcp", to[(turn+i)%len(to)]); err == nil {
			return c, nil
		}
	}
	return nil, errors.New("nobody there")
}

// pump carries bytes one way until either end is closed: well, or not.
func (w *wire) pump(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && w.pass() {
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
