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

// TestScripts_SingleKey checks that each script uses only the key that it declares, as Redis
// Cluster requires. Servers do not check that.
func TestScripts_SingleKey(t *testing.T) {
	command := regexp.MustCompile(`redis\.p?call\(\s*([^,)]+)\s*(?:,\s*([^,)]+))?`)
	for name, text := range map[string]string{"put": putScript, "check": checkScript, "drop": dropScript} {
		found := command.FindAllStringSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%s calls no command", name)
		}
		for _, call := range found {
			if call[2] != "KEYS[1]" {
				t.Errorf("%s calls %s on %s", name, call[1], call[2])
			}
		}
		if n := strings.Count(text, "KEYS"); n != strings.Count(text, "KEYS[1]") || strings.Contains(text, "hg:") {
			t.Errorf("%s uses a key that it does not declare", name)
		}
	}
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
