package rediscode

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/claim"
)

var testTarget = claim.Target{
	TenantID:   "0195a0b4-0000-7000-8000-000000000001",
	InstanceID: "0195a0b4-0000-7000-8000-000000000002",
	Channel:    "telegram",
	ExternalID: "12345",
	IdentityID: "0195a0b4-0000-7000-8000-000000000003",
	Gen:        1,
}

// operations are all that can be asked of Proofs.
var operations = map[string]func(context.Context, *Store) error{
	"put":  func(ctx context.Context, p *Store) error { return p.Put(ctx, testTarget, "WDJBMJ") },
	"drop": func(ctx context.Context, p *Store) error { return p.Drop(ctx, testTarget) },
	"check": func(ctx context.Context, p *Store) error {
		_, err := p.Check(ctx, testTarget, testTarget.InstanceID, "WDJBMJ", "m1")
		return err
	},
}

// TestStore_ServerStalled holds that a server which takes commands and never answers is
// given up in time, before and after a connection was made.
func TestStore_ServerStalled(t *testing.T) {
	for name, call := range operations {
		for _, warm := range []bool{false, true} {
			proxy := newProxy(t)
			p := newStoreAt(t, proxy.url)
			if warm {
				if err := call(t.Context(), p); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			proxy.stall()
			begun := time.Now()
			err := call(t.Context(), p)
			if took := time.Since(begun); err == nil || took > 700*time.Millisecond {
				t.Errorf("%s (connected: %v) took %v: %v", name, warm, took, err)
			}
			checkNoCode(t, err)
		}
	}
}

// TestStore_ServerDown holds that an error comes at once when nobody listens.
func TestStore_ServerDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for name, call := range operations {
		begun := time.Now()
		err := call(t.Context(), newStoreAt(t, "redis://"+l.Addr().String()))
		if took := time.Since(begun); err == nil || took > 700*time.Millisecond {
			t.Errorf("%s took %v: %v", name, took, err)
		}
		checkNoCode(t, err)
	}
}

// TestStore_ReplyLost holds that a command whose answer was lost is not repeated behind
// the caller's back, and that asking again counts nothing twice.
func TestStore_ReplyLost(t *testing.T) {
	proxy := newProxy(t)
	p := newStoreAt(t, proxy.url)
	s := testTarget
	s.IdentityID = "0195a0b4-0000-7000-8000-00000000000a"
	direct := &Store{Redis: serverClient(t), Keys: p.Keys}
	t.Cleanup(func() { _ = direct.Drop(context.Background(), s) })
	if err := direct.Drop(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := p.Put(t.Context(), s, "WDJBMJ"); err != nil {
		t.Fatal(err)
	}
	proxy.dropReplies()
	if _, err := p.Check(t.Context(), s, "i", "BCDFGH", "m1"); err == nil {
		t.Fatal("an answer came through")
	}
	got, err := direct.Check(t.Context(), s, "i", "BCDFGH", "m1")
	if err != nil || got.Result != claim.Wrong || got.Tries != 1 {
		t.Errorf("asked again: %+v, %v", got, err)
	}
	got, err = direct.Check(t.Context(), s, "i", "BCDFGH", "m2")
	if err != nil || got.Tries != 2 {
		t.Errorf("the next message: %+v, %v", got, err)
	}
}

// TestStore_ContextDeadline holds that a caller who gives up is let go.
func TestStore_ContextDeadline(t *testing.T) {
	proxy := newProxy(t)
	proxy.stall()
	for name, call := range operations {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begun := time.Now()
		err := call(ctx, newStoreAt(t, proxy.url))
		if took := time.Since(begun); err == nil || took > 300*time.Millisecond {
			t.Errorf("%s took %v: %v", name, took, err)
		}
		cancel()
	}
}

// TestStore_ScriptsFlushed holds that a restarted server is sent the scripts again.
func TestStore_ScriptsFlushed(t *testing.T) {
	client := serverClient(t)
	p := &Store{Redis: client, Keys: staticKeys(bytes.Repeat([]byte{1}, 32))}
	for _, name := range []string{"drop", "put", "check", "drop"} {
		for range 2 {
			if err := client.ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if err := operations[name](t.Context(), p); err != nil {
				t.Errorf("%s without scripts: %v", name, err)
			}
		}
	}
}

// checkNoCode checks that an error says nothing of the code.
func checkNoCode(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.Contains(strings.ToUpper(err.Error()), "WDJ") {
		t.Errorf("the error holds the code: %v", err)
	}
}

func newStoreAt(t *testing.T, url string) *Store {
	t.Helper()
	client, err := NewClient(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return &Store{Redis: client, Keys: staticKeys(bytes.Repeat([]byte{1}, 32))}
}

// A proxy stands between client and server and can stop handing on. It ends when
// its clients do.
type proxy struct {
	url string

	mu                     sync.Mutex
	forwardUp, forwardDown bool // whether it hands on what the client and the server say
	upstream               string
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	u, err := url.Parse(serverURL(t))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{forwardUp: true, forwardDown: true, upstream: u.Host}
	u.Host = l.Addr().String()
	p.url = u.String()
	var running sync.WaitGroup
	running.Go(func() { p.serve(l, &running) })
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return p
}

// stall makes the proxy take everything and hand on nothing.
func (p *proxy) stall() { p.setForwarding(false, false) }

// dropReplies makes the proxy hand on commands and lose the answers.
func (p *proxy) dropReplies() { p.setForwarding(true, false) }

func (p *proxy) setForwarding(up, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forwardUp, p.forwardDown = up, down
}

func (p *proxy) serve(l net.Listener, running *sync.WaitGroup) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.upstream)
		if err != nil {
			client.Close()
			continue
		}
		running.Go(func() { p.forward(server, client, &p.forwardUp) })
		running.Go(func() { p.forward(client, server, &p.forwardDown) })
	}
}

// forward hands on while open, until either end closes.
func (p *proxy) forward(to io.WriteCloser, from io.ReadCloser, open *bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		on := *open
		p.mu.Unlock()
		if on {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// TestCheck_UnreadableIndex lets the place where it is noted whose a code is not be read, as
// when a part of a cluster is away. That is not the same as nobody's.
func TestCheck_UnreadableIndex(t *testing.T) {
	client := serverClient(t)
	p := &Store{Redis: client, Keys: staticKeys(bytes.Repeat([]byte{1}, 32))}
	keys, err := p.deriveKeys()
	if err != nil {
		t.Fatal(err)
	}
	const instance, code = "0195a0b4-0000-7000-8000-0000000000f1", "QQKKXX"
	nobody := claim.Target{TenantID: testTarget.TenantID, Channel: testTarget.Channel, IdentityID: "nobody"}
	check := func(want claim.CheckResult) {
		t.Helper()
		if got, err := p.Check(t.Context(), nobody, instance, code, "m1"); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	check(claim.CheckResult{Result: claim.Missing})

	place := keys[0].indexKey(instanceScope(instance), nobody.Channel, code)
	t.Cleanup(func() { client.Del(context.Background(), place) })
	if err := client.LPush(t.Context(), place, "no text").Err(); err != nil {
		t.Fatal(err)
	}
	check(claim.CheckResult{Result: claim.Missing, Incomplete: true})
}
