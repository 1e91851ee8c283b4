package rediscode

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

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
	"find": func(ctx context.Context, p *Store) error {
		_, err := p.Find(ctx, testTarget, []string{"WDJBMJ", "QQKKXX"})
		return err
	},
	"check": func(ctx context.Context, p *Store) error {
		_, err := p.Check(ctx, testTarget, testTarget.InstanceID, "WDJBMJ", "m1")
		return err
	},
}

// maxDelay is the longest time that a call may take without a reply. With the defaults of the client
// it would take 12 seconds.
const maxDelay = 8 * time.Second

// TestStore_ServerStalled checks that calls time out if the server accepts commands and never
// replies, before and after connecting.
func TestStore_ServerStalled(t *testing.T) {
	for name, call := range operations {
		for _, warm := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, connected %v", name, warm), func(t *testing.T) {
				t.Parallel()
				link := &faultyLink{}
				p := newStoreAt(t, serverURL(t), link.hook())
				if warm {
					err := call(t.Context(), p)
					for try := 1; err != nil && try < 20; try++ { // the machine may be busy
						err = call(t.Context(), p)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				link.dropCommands.Store(true)
				start := time.Now()
				err := call(t.Context(), p)
				if took := time.Since(start); err == nil || took > maxDelay {
					t.Errorf("call took %v: %v", took, err)
				}
				checkNoCode(t, err)
			})
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
		if took := time.Since(start); err == nil || took > maxDelay {
			t.Errorf("%s took %v: %v", name, took, err)
		}
		checkNoCode(t, err)
	}
}

// TestStore_ReplyLost checks that a command whose reply was lost is not repeated by the client,
// and that repeating the call does not count twice.
func TestStore_ReplyLost(t *testing.T) {
	link := &faultyLink{}
	p, direct := newStoreAt(t, serverURL(t), link.hook()), newStoreAt(t, serverURL(t))
	s := testTarget
	s.IdentityID = "0195a0b4-0000-7000-8000-00000000000a"
	t.Cleanup(func() { _ = direct.Drop(context.Background(), s) })
	if err := direct.Drop(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := p.Put(t.Context(), s, "WDJBMJ"); err != nil {
		t.Fatal(err)
	}
	link.dropReplies.Store(true)
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

// TestStore_ContextDeadline checks that calls end at the deadline of the context, before any timeout
// of the client. On a busy machine that may take several tries.
func TestStore_ContextDeadline(t *testing.T) {
	const tries = 20
	link := &faultyLink{}
	link.dropCommands.Store(true)
	for name, call := range operations {
		fastest := time.Hour
		for i := 0; i < tries && fastest >= stepTimeout; i++ {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			start := time.Now()
			err := call(ctx, newStoreAt(t, serverURL(t), link.hook()))
			cancel()
			if err == nil {
				t.Fatalf("%s succeeded without a reply", name)
			}
			fastest = min(fastest, time.Since(start))
		}
		if fastest >= stepTimeout {
			t.Errorf("%s took at least %v in %d tries, want less than %v", name, fastest, tries, stepTimeout)
		}
	}
}

// TestStore_ScriptsFlushed checks that the scripts are sent again to a server that does not have them.
// It asks for others instead of flushing those of the server, which other tests use.
func TestStore_ScriptsFlushed(t *testing.T) {
	missing, resent := 0, 0
	p := newStoreAt(t, serverURL(t), clientHook{record: func(cmd redis.Cmder) {
		switch cmd.Name() {
		case "evalsha":
			cmd.Args()[1] = strings.Repeat("0", 40)
			missing++
		case "eval":
			resent++
		}
	}})
	for _, name := range []string{"drop", "put", "check", "find", "drop"} {
		if err := operations[name](t.Context(), p); err != nil {
			t.Errorf("%s without scripts: %v", name, err)
		}
	}
	if missing != 4 || resent != 4 {
		t.Errorf("calls of missing scripts = %d, scripts sent = %d, want 4 and 4", missing, resent)
	}
}

// checkNoCode reports an error that contains the code.
func checkNoCode(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.Contains(strings.ToUpper(err.Error()), "WDJ") {
		t.Errorf("the error contains the code: %v", err)
	}
}

// A faultyLink is a network that can lose what is sent in either direction.
type faultyLink struct{ dropCommands, dropReplies atomic.Bool }

func (l *faultyLink) hook() clientHook {
	return clientHook{wrap: func(c net.Conn) net.Conn { return faultyConn{c, l} }}
}

type faultyConn struct {
	net.Conn
	link *faultyLink
}

func (c faultyConn) Write(b []byte) (int, error) {
	if c.link.dropCommands.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c faultyConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.link.dropReplies.Load() {
			return n, err
		}
	}
}
