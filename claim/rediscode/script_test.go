package rediscode

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"hydragate/claim"
)

// TestScripts_DeclaredKeys checks that each script uses only the keys that it declares, as Redis
// Cluster requires. Servers do not check that.
func TestScripts_DeclaredKeys(t *testing.T) {
	command := regexp.MustCompile(`redis\.p?call\(\s*([^,)]+)\s*(?:,\s*([^,)]+))?`)
	declared := regexp.MustCompile(`^KEYS\[[1-3]\]$`)
	for name, text := range map[string]string{"put": putScript, "check": checkScript, "drop": dropScript} {
		found := command.FindAllStringSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%s calls no command", name)
		}
		for _, call := range found {
			if !declared.MatchString(call[2]) {
				t.Errorf("%s calls %s on %s", name, call[1], call[2])
			}
		}
		if strings.Contains(text, "hg:") {
			t.Errorf("%s names a key", name)
		}
	}
}

// TestStore_OneSlot checks that the keys of one script are in one slot of a cluster.
func TestStore_OneSlot(t *testing.T) {
	var keys [][]string
	p := newStoreAt(t, serverURL(t), clientHook{record: func(cmd redis.Cmder) {
		args := cmd.Args()
		switch cmd.Name() {
		case "eval", "evalsha":
			n, _ := args[2].(int)
			keys = append(keys, texts(args[3:3+n]))
		case "mget":
			keys = append(keys, texts(args[1:]))
		}
	}})
	wide := testTarget
	wide.IdentityID, wide.InstanceID = uuid.NewString(), ""
	for _, s := range []claim.Target{testTarget, wide} {
		s.IdentityID = uuid.NewString()
		for _, code := range []string{"WDJBMJ", "BCDFGH"} { // the second removes the index entry of the first
			s.Gen++
			if err := p.Put(t.Context(), s, code); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := p.Find(t.Context(), s, []string{"WDJBMJ", "BCDFGH"}); err != nil || len(got) != 1 {
			t.Errorf("Find() = %v, %v, want the second code", got, err)
		}
		if err := p.Drop(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	several := 0
	for _, names := range keys {
		if len(names) > 1 {
			several++
		}
		for _, name := range names {
			if tag(name) == "" || tag(name) != tag(names[0]) {
				t.Errorf("keys of one command = %q, want one hash tag", names)
			}
		}
	}
	if several < 8 {
		t.Errorf("commands with several keys = %d, want at least 8", several)
	}
}

// tag returns the hash tag of a key.
func tag(key string) string {
	_, after, _ := strings.Cut(key, "{")
	name, _, _ := strings.Cut(after, "}")
	return name
}

func texts(args []any) []string {
	all := make([]string, len(args))
	for i, arg := range args {
		all[i] = fmt.Sprint(arg)
	}
	return all
}

// TestCheck_SameCommandsForEveryResult checks that the commands sent to Redis do not depend on the
// result.
func TestCheck_SameCommandsForEveryResult(t *testing.T) {
	var commands []string // names and numbers of arguments
	p := newStoreAt(t, serverURL(t), clientHook{record: func(cmd redis.Cmder) {
		commands = append(commands, fmt.Sprint(cmd.Name(), "/", len(cmd.Args())))
	}})
	p.Keys = staticKeys(bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))
	target := func(gen int64) claim.Target {
		s := testTarget
		s.IdentityID, s.Gen = uuid.NewString(), gen
		if gen > 0 {
			if err := p.Put(t.Context(), s, "WDJBMJ"); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	locked := target(1)
	for range claim.MaxTries {
		if _, err := p.Check(t.Context(), locked, "i", "BCDFGH", uuid.NewString()); err != nil {
			t.Fatal(err)
		}
	}
	stale := target(1)
	stale.Gen++
	unknown := testTarget
	unknown.IdentityID, unknown.Gen = "", 0

	var first []string
	for _, tt := range []struct {
		s    claim.Target
		code string
		want claim.Result
	}{
		{target(1), "WDJBMJ", claim.Match},
		{target(1), "BCDFGH", claim.Wrong},
		{locked, "WDJBMJ", claim.Locked},
		{stale, "WDJBMJ", claim.Stale},
		{target(0), "WDJBMJ", claim.Missing},
		{unknown, "BCDFGH", claim.Missing},
	} {
		commands = nil
		got, err := p.Check(t.Context(), tt.s, tt.s.InstanceID, tt.code, uuid.NewString())
		if err != nil || got.Result != tt.want {
			t.Fatalf("Check = %+v, %v, want %s", got, err, tt.want)
		}
		if first == nil {
			first = commands
		}
		if !slices.Equal(commands, first) || len(first) != 5 {
			t.Errorf("%s sends %q, want %q", tt.want, commands, first)
		}
	}
}

// A clientHook observes a client. Its functions may be nil.
type clientHook struct {
	wrap   func(net.Conn) net.Conn // returns the connection to use
	record func(redis.Cmder)       // is called before each command
}

func (h clientHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err == nil && h.wrap != nil {
			conn = h.wrap(conn)
		}
		return conn, err
	}
}

func (h clientHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.record != nil {
			h.record(cmd)
		}
		return next(ctx, cmd)
	}
}

func (h clientHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if h.record != nil {
				h.record(cmd)
			}
		}
		return next(ctx, cmds)
	}
}
