package slack_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// A pipeListener connects a client and a server in memory, so that both run in one synctest bubble.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (w *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *pipeListener) Close() error { close(w.closed); return nil }

func (w *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (w *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case w.conns <- newBufferedConn(there):
		return newBufferedConn(here), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A bufferedConn is an end of a pipe whose writes do not wait for the reader, as with a socket.
type bufferedConn struct {
	net.Conn
	mu     sync.Mutex
	out    chan []byte
	closed bool
}

func newBufferedConn(c net.Conn) *bufferedConn {
	b := &bufferedConn{Conn: c, out: make(chan []byte, 4096)}
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

func (b *bufferedConn) Write(p []byte) (int, error) {
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

func (b *bufferedConn) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.out)
	}
	return nil
}

func (b *bufferedConn) SetWriteDeadline(time.Time) error { return nil }
