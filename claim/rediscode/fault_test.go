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

// operations are all methods of Store.
var operations = map[string]func(context.Context, *Store) error{
	"put":  func(ctx context.Context, p *Store) error { return p.Put(ctx, testTarget, "WDJBMJ") },
	"drop": func(ctx context.Context, p *Store) error { return p.Drop(ctx, testTarget) },
	"check": func(ctx context.Context, p *Store) error {
		_, err := p.Check(ctx, testTarget, testTarget.InstanceID, "WDJBMJ", "m1")
		return err
	},
}

// TestStore_ServerStalled checks that calls time out if the server accepts commands and never
// replies, before and after connecting.
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
			start := time.Now()
			err := call(t.Context(), p)
			if took := time.Since(start); err == nil || took > 700*time.Millisecond {
				t.Errorf("%s (connected: %v) took %v: %v", name, warm, took, err)
			}
			checkNoCode(t, err)
		}
	}
}

// TestStore_ServerDown checks that calls fail quickly if the connection is refused.
func TestStore_ServerDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for name, call := range operations {
		start := time.Now()
		err := call(t.Context(), newStoreAt(t, "redis://"+l.Addr().String()))
		if took := time.Since(start); err == nil || took > 700*time.Millisecond {
			t.Errorf("%s took %v: %v", name, took, err)
		}
		checkNoCode(t, err)
	}
}

// TestStore_ReplyLost checks that a command whose reply was lost is not repeated by the client,
// and that repeating the call does not count twice.
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
		t.Fatal("Check received a reply")
	}
	got, err := direct.Check(t.Context(), s, "i", "BCDFGH", "m1")
	if err != nil || got.Result != claim.Wrong || got.Tries != 1 {
		t.Errorf("repeated check: %+v, %v", got, err)
	}
	got, err = direct.Check(t.Context(), s, "i", "BCDFGH", "m2")
	if err != nil || got.Tries != 2 {
		t.Errorf("next message: %+v, %v", got, err)
	}
}

// TestStore_ContextDeadline checks that calls honor the deadline of the context.
func TestStore_ContextDeadline(t *testing.T) {
	proxy := newProxy(t)
	proxy.stall()
	for name, call := range operations {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		err := call(ctx, newStoreAt(t, proxy.url))
		if took := time.Since(start); err == nil || took > 300*time.Millisecond {
			t.Errorf("%s took %v: %v", name, took, err)
		}
		cancel()
	}
}

// TestStore_ScriptsFlushed checks that the scripts are sent again to a server that lost them.
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

// checkNoCode reports an error that contains the code.
func checkNoCode(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.Contains(strings.ToUpper(err.Error()), "WDJ") {
		t.Errorf("the error contains the code: %v", err)
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

// A proxy forwards between clients and the server until it is stopped. It ends when its clients do.
type proxy struct {
	url string

	mu                     sync.Mutex
	forwardUp, forwardDown bool // whether data of the client and of the server is forwarded
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

// stall makes the proxy accept data without forwarding it.
func (p *proxy) stall() { p.setForwarding(false, false) }

// dropReplies makes the proxy forward commands and drop replies.
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

// forward copies data while open is set, until either end closes.
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

// TestCheck_UnreadableIndex checks that an index entry that cannot be read, as when a part of a
// cluster is unavailable, is reported as incomplete.
func TestCheck_UnreadableIndex(t *testing.T) {
	client := serverClient(t)
	p := &Store{Redis: client, Keys: staticKeys(bytes.Repeat([]byte{1}, 32))}
	keys, err := p.deriveKeys()
	if err != nil {
		t.Fatal(err)
	}
	const instance, code = "0195a0b4-0000-7000-8000-0000000000f1", "QQKKXX"
	unknown := claim.Target{TenantID: testTarget.TenantID, Channel: testTarget.Channel, IdentityID: "unknown"}
	check := func(want claim.CheckResult) {
		t.Helper()
		if got, err := p.Check(t.Context(), unknown, instance, code, "m1"); err != nil || got != want {
			t.Errorf("Check = %+v, %v, want %+v", got, err, want)
		}
	}
	check(claim.CheckResult{Result: claim.Missing})

	indexKey := keys[0].indexKey(instanceScope(instance), unknown.Channel, code)
	t.Cleanup(func() { client.Del(context.Background(), indexKey) })
	if err := client.LPush(t.Context(), indexKey, "no text").Err(); err != nil {
		t.Fatal(err)
	}
	check(claim.CheckResult{Result: claim.Missing, Incomplete: true})
}
