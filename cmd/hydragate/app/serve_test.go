package app

import (
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

func (w singleConnListener) Accept() (net.Conn, error) {
	if c, ok := <-w; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (w singleConnListener) Close() error { close(w); return nil }

func (w singleConnListener) Addr() net.Addr { return &net.IPAddr{} }

// TestServer_WriteTimeout asks for something and does not read the answer. It needs
// no key: the documents are larger than any buffer on the way when they are asked for
// often enough.
func TestServer_WriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answered := make(chan error, 1)
		srv := newServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, err := w.Write(make([]byte, 1<<20))
			answered <- err
		}), slog.New(slog.DiscardHandler))
		client, conn := net.Pipe()
		l := make(singleConnListener, 1)
		l <- conn
		ended := make(chan error, 1)
		go func() { ended <- srv.Serve(l) }()
		if _, err := io.WriteString(client, "GET /docs/ HTTP/1.1\r\nHost: gate.example.com\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(writeTimeout + time.Second)
		select {
		case err := <-answered:
			if err == nil {
				t.Error("the answer was read by nobody, and is said to be written")
			}
		default:
			t.Error("the answer waits still")
		}
		_ = client.Close()
		_ = srv.Close()
		<-ended
	})
}
