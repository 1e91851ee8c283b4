package app

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A singleConnListener is a listener with one connection.
type singleConnListener chan net.Conn

func (l singleConnListener) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l singleConnListener) Close() error { close(l); return nil }

func (l singleConnListener) Addr() net.Addr { return &net.IPAddr{} }

// TestServer_WriteTimeout sends a request and does not read the response, which is larger than all
// buffers. The server must close the connection.
func TestServer_WriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writeErr := make(chan error, 1)
		srv := newServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, err := w.Write(make([]byte, 1<<20))
			writeErr <- err
		}), slog.New(slog.DiscardHandler))
		client, conn := net.Pipe()
		l := make(singleConnListener, 1)
		l <- conn
		done := make(chan error, 1)
		go func() { done <- srv.Serve(l) }()
		if _, err := io.WriteString(client, "GET /docs/ HTTP/1.1\r\nHost: gate.example.com\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-time.After(writeTimeout + time.Second)
		select {
		case err := <-writeErr:
			if err == nil {
				t.Error("Write of a response that was not read = nil, want an error")
			}
		default:
			t.Error("Write is blocked after the timeout")
		}
		_ = client.Close()
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve = %v, want %v", err, http.ErrServerClosed)
		}
	})
}
