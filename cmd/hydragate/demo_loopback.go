package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
)

// A loopback is a server that only programs at this machine reach.
type loopback struct {
	url    string
	server *http.Server
	ended  chan struct{}
}

// openLoopback serves h at addr until close.
func openLoopback(addr string, h http.Handler) (*loopback, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%s must be host:port", addr)
	}
	if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
		return nil, fmt.Errorf("%s must be an address of this machine alone, such as 127.0.0.1", host)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &loopback{
		url:    "http://" + l.Addr().String(),
		server: &http.Server{Handler: h, ReadHeaderTimeout: readHeaderTime},
		ended:  make(chan struct{}),
	}
	go func() {
		defer close(s.ended)
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			_ = l.Close()
		}
	}()
	return s, nil
}

// close ends the server at once, also for who waits for an answer.
func (s *loopback) close() {
	_ = s.server.Close()
	<-s.ended
}

// freeOr gives addr or, where that is taken, a free port beside it.
func freeOr(addr string) string {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		host, _, _ := net.SplitHostPort(addr)
		return net.JoinHostPort(host, "0")
	}
	_ = l.Close()
	return addr
}

// reachable gives addr as a client at this machine dials it: an address that stands
// for all of them is none to dial.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if a, perr := netip.ParseAddr(host); err == nil && (host == "" || perr == nil && a.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
