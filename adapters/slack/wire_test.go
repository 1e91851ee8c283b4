package slack_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// A wire joins a client and a server inside the process, so that a bubble holds both.
type wire struct {
	calls  chan net.Conn
	closed chan struct{}
}

func newWire() *wire { return &wire{calls: make(chan net.Conn), closed: make(chan struct{})} }

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.calls:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error   { close(w.closed); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{} }

func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case w.calls <- buffer(there):
		return buffer(here), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A buffered is an end of a pipe that takes what is written at once, as a socket of the
// system does.
type buffered struct {
	net.Conn
	mu     sync.Mutex
	out    chan []byte
	closed bool
}

func buffer(c net.Conn) *buffered {
	b := &buffered{Conn: c, out: make(chan []byte, 4096)}
	go func() {
		defer func() { _ = c.Close() }()
		for p := range b.out {
			if _, err := c.Write(p); err != nil {
				return
			}
		}
	}()
	return b
}

func (b *buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, net.ErrClosed
	}
	select {
	case b.out <- bytes.Clone(p):
		return len(p), nil
	default:
		return 0, errors.New("nobody reads")
	}
}

func (b *buffered) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.out)
	}
	return nil
}

func (b *buffered) SetWriteDeadline(time.Time) error { return nil }
