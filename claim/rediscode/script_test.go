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

// TestScripts_SingleKey holds what a cluster needs: a script works on the
// one key it declares. Servers do not check that by themselves.
func TestScripts_SingleKey(t *testing.T) {
	command := regexp.MustCompile(`redis\.p?call\(\s*([^,)]+)\s*(?:,\s*([^,)]+))?`)
	for name, text := range map[string]string{"put": putScript, "check": checkScript, "drop": dropScript} {
		found := command.FindAllStringSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%s asks nothing", name)
		}
		for _, call := range found {
			if call[2] != "KEYS[1]" {
				t.Errorf("%s asks %s of %s", name, call[1], call[2])
			}
		}
		if n := strings.Count(text, "KEYS"); n != strings.Count(text, "KEYS[1]") || strings.Contains(text, "hg:") {
			t.Errorf("%s names a key it does not declare", name)
		}
	}
}

// TestCheck_SameCommandsForEveryResult holds that no verdict can be told from the commands
// Redis is asked.
func TestCheck_SameCommandsForEveryResult(t *testing.T) {
	client := serverClient(t)
	seen := &commandRecorder{}
	client.AddHook(seen)
	p := &Store{Redis: client, Keys: staticKeys(bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32))}
	person := func(gen int64) claim.Target {
		s := testTarget
		s.IdentityID, s.Gen = uuid.NewString(), gen
		if gen > 0 {
			if err := p.Put(t.Context(), s, "WDJBMJ"); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	locked := person(1)
	for range claim.MaxTries {
		if _, err := p.Check(t.Context(), locked, "i", "BCDFGH", uuid.NewString()); err != nil {
			t.Fatal(err)
		}
	}
	stale := person(1)
	stale.Gen++
	nobody := testTarget
	nobody.IdentityID, nobody.Gen = "", 0

	var first []string
	for _, tt := range []struct {
		s    claim.Target
		code string
		want claim.Result
	}{
		{person(1), "WDJBMJ", claim.Match},
		{person(1), "BCDFGH", claim.Wrong},
		{locked, "WDJBMJ", claim.Locked},
		{stale, "WDJBMJ", claim.Stale},
		{person(0), "WDJBMJ", claim.Missing},
		{nobody, "BCDFGH", claim.Missing},
	} {
		seen.commands = nil
		got, err := p.Check(t.Context(), tt.s, tt.s.InstanceID, tt.code, uuid.NewString())
		if err != nil || got.Result != tt.want {
			t.Fatalf("%+v, %v; want %s", got, err, tt.want)
		}
		if first == nil {
			first = seen.commands
		}
		if !slices.Equal(seen.commands, first) || len(first) != 5 {
			t.Errorf("%s asks %q, the first asked %q", tt.want, seen.commands, first)
		}
	}
}

// A commandRecorder notes the names and sizes of all commands.
type commandRecorder struct{ commands []string }

func (c *commandRecorder) record(cmd redis.Cmder) {
	c.commands = append(c.commands, fmt.Sprint(cmd.Name(), "/", len(cmd.Args())))
}

func (c *commandRecorder) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *commandRecorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.record(cmd)
		return next(ctx, cmd)
	}
}

func (c *commandRecorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			c.record(cmd)
		}
		return next(ctx, cmds)
	}
}
