package rediscode

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// NewEmbedded returns a client of a Redis server in this process, without port or file. stop
// closes the server and waits for its goroutines. Keys expire with a precision of one second.
func NewEmbedded() (client redis.UniversalClient, stop func()) {
	server := miniredis.NewMiniRedis()
	client = newMemoryClient(server)
	ended := make(chan struct{})
	var clock sync.WaitGroup
	clock.Go(func() { runClock(server, ended) })
	return client, sync.OnceFunc(func() {
		close(ended)
		clock.Wait()
		_ = client.Close() // fails only if closed before
		server.Close()
	})
}

// runClock advances the clock of the server, which has none of its own, by the time that has
// passed. Ticks may be dropped on a busy machine.
func runClock(server *miniredis.Miniredis, ended <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ended:
			return
		case <-tick.C:
			now := time.Now()
			server.FastForward(now.Sub(last))
			last = now
		}
	}
}

// newMemoryClient returns a client of server that needs no port.
func newMemoryClient(server *miniredis.Miniredis) *redis.Client {
	opts := &redis.Options{
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			conn, err := server.Dial()
			if err != nil {
				return nil, err
			}
			return newMemoryConn(conn), nil
		},
	}
	applyLimits(opts)
	return redis.NewClient(opts)
}

// A memoryConn is one end of a pipe whose writes do not wait for the other end to read, as with a
// socket. Otherwise a long pipeline deadlocks: the server waits for its replies to be read, and
// the client for its commands.
type memoryConn struct {
	net.Conn
	mu     sync.Mutex
	queued []byte
	wake   chan struct{} // has one entry while something is queued
	closed chan struct{}
	close  func() error
}

func newMemoryConn(conn net.Conn) *memoryConn {
	c := &memoryConn{Conn: conn, wake: make(chan struct{}, 1), closed: make(chan struct{})}
	c.close = sync.OnceValue(func() error {
		close(c.closed)
		return conn.Close()
	})
	go c.writeLoop()
	return c
}

// Write queues b.
func (c *memoryConn) Write(b []byte) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	c.mu.Lock()
	c.queued = append(c.queued, b...)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return len(b), nil
}

// SetDeadline sets the deadline of reads. Writes do not wait.
func (c *memoryConn) SetDeadline(t time.Time) error { return c.Conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing. Writes do not wait.
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }

// Close closes both directions.
func (c *memoryConn) Close() error { return c.close() }

// writeLoop writes what is queued until either end closes.
func (c *memoryConn) writeLoop() {
	defer func() { _ = c.Close() }()
	for {
		select {
		case <-c.closed:
			return
		case <-c.wake:
		}
		c.mu.Lock()
		out := c.queued
		c.queued = nil
		c.mu.Unlock()
		if _, err := c.Conn.Write(out); err != nil {
			return
		}
	}
}
