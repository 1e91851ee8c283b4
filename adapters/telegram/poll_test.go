package telegram_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/adapters/telegram"
)

// A shelf takes batches as the store does: each message once, by its key.
type shelf struct {
	mu     sync.Mutex
	fail   int // how many takes fail first
	tries  int
	seen   map[string]bool
	texts  []string
	kinds  []adapters.Kind
	cursor string
}

func (s *shelf) take(_ context.Context, batch []adapters.Message, cursor string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.fail > 0 {
		s.fail--
		return errors.New("database away")
	}
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	for _, m := range batch {
		if !s.seen[m.Key] {
			s.seen[m.Key] = true
			s.texts = append(s.texts, m.Text)
			s.kinds = append(s.kinds, m.Kind)
		}
	}
	s.cursor = cursor
	return nil
}

func (s *shelf) kept() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.texts, " ")
}

// polling runs Poll in the background until the test ends or stop is called.
func polling(t *testing.T, a *telegram.Adapter, cursor string, s *shelf) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Poll(ctx, endpoint(), cursor, s.take) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// later lets time pass in a bubble, and then everything that is due.
func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func say(server *simulator.Telegram, texts ...string) {
	for _, text := range texts {
		server.Say(me, steve, text)
	}
}

func TestPollConfirmsOnlyWhatIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := pretend(t)
		say(server, "a", "b", "c", "d", "e")
		s := &shelf{fail: 3}
		stop := polling(t, a, "", s)
		synctest.Wait() // the first take has failed
		if n := len(server.Pending(me)); n != 5 || s.kept() != "" {
			t.Fatalf("after a failed take Telegram holds %d of 5 and %q is kept", n, s.kept())
		}
		later(time.Minute)
		if got := s.kept(); got != "a b c d e" {
			t.Errorf("kept %q; want a to e, once, in order", got)
		}
		if s.tries != 4 {
			t.Errorf("%d takes; want 3 failed and 1 good", s.tries)
		}
		if ids := server.Pending(me); len(ids) != 0 {
			t.Errorf("not confirmed: %v", ids)
		}
		say(server, "f")
		synctest.Wait()
		if got := s.kept(); got != "a b c d e f" {
			t.Errorf("kept %q; want f as well", got)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v; want context.Canceled", err)
		}
	})
}

// Whoever stops between storing and confirming finds everything again, and asks
// for nothing twice after it.
func TestPollResumesAtItsCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := pretend(t)
		say(server, "a", "b")
		s := &shelf{}
		ctx, cancel := context.WithCancel(t.Context())
		err := a.Poll(ctx, endpoint(), "", func(ctx context.Context, batch []adapters.Message, cursor string) error {
			defer cancel()
			return s.take(ctx, batch, cursor)
		})
		if !errors.Is(err, context.Canceled) || len(server.Pending(me)) != 2 {
			t.Fatalf("ended with %v, Telegram holds %v; want both still there", err, server.Pending(me))
		}
		say(server, "c")
		polling(t, a, s.cursor, s)
		synctest.Wait()
		if s.kept() != "a b c" || s.tries != 2 || len(server.Pending(me)) != 0 {
			t.Errorf("kept %q in %d takes, Telegram holds %v", s.kept(), s.tries, server.Pending(me))
		}
	})
}

func TestPollGoesOnBehindPoison(t *testing.T) {
	for name, poison := range map[string]string{
		"OverflowingID":  `{"message":{"message_id":7,"chat":{"id":99999999999999999999,"type":"private"},"text":"x"}}`,
		"TextIsAnObject": `{"message":{"message_id":7,"chat":{"id":7,"type":"private"},"text":{"a":1}}}`,
		"EmptyMessage":   `{"message":{}}`,
		"NoID":           `["no object"]`,
		"TooDeep":        `{"message":{"message_id":7,"chat":{"id":7,"type":"private"},"text":"x]}\"","odd":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}}`,
		"RawControl":     "{\"message\":{\"message_id\":7,\"chat\":{\"id\":7,\"type\":\"private\"},\"text\":\"a\x00b\"}}",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, a := pretend(t)
				say(server, "before")
				server.Push(me, []byte(poison))
				say(server, "after")
				s := &shelf{}
				polling(t, a, "", s)
				later(time.Second)
				want := []adapters.Kind{adapters.Text, adapters.Undecodable, adapters.Text}
				if s.kept() != "before  after" || !slices.Equal(s.kinds, want) {
					t.Errorf("kept %q of kinds %v; want %v", s.kept(), s.kinds, want)
				}
				if ids := server.Pending(me); len(ids) != 0 {
					t.Errorf("not confirmed: %v", ids)
				}
			})
		})
	}
}

// An update without an id cannot be confirmed alone: it is kept once, asked for
// slowly, and gone with the next one.
func TestPollDoesNotSpinOnWhatCannotBeConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := pretend(t)
		server.Push(me, []byte(`"no id"`))
		s := &shelf{}
		polling(t, a, "", s)
		later(10 * time.Minute)
		if s.tries > 60 || len(s.kinds) != 1 {
			t.Errorf("%d takes in 10 minutes, kinds %v", s.tries, s.kinds)
		}
		say(server, "next")
		later(time.Minute)
		if s.kept() != " next" || len(server.Pending(me)) != 0 {
			t.Errorf("kept %q, Telegram holds %v", s.kept(), server.Pending(me))
		}
	})
}

func TestPollWaitsOutFaults(t *testing.T) {
	conflict := simulator.Fault{Status: 409, Body: `{"ok":false,"error_code":409,"description":"Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"}`}
	for name, c := range map[string]struct {
		faults      []simulator.Fault
		least, most time.Duration
	}{
		"Conflict":    {[]simulator.Fault{conflict, conflict, conflict}, time.Second, 10 * time.Second},
		"Throttled":   {[]simulator.Fault{{Status: 429, Body: `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 40","parameters":{"retry_after":40}}`}}, 40 * time.Second, 41 * time.Second},
		"BadGateway":  {[]simulator.Fault{{Status: 502, Body: "<html>"}}, 200 * time.Millisecond, time.Second},
		"CutOff":      {[]simulator.Fault{{Cut: true}, {Cut: true}}, 400 * time.Millisecond, 3 * time.Second},
		"NoAnswer":    {[]simulator.Fault{{Hang: true}}, time.Minute, 2 * time.Minute},
		"NotAnArray":  {[]simulator.Fault{{Status: 200, Body: `{"ok":true,"result":{}}`}}, 200 * time.Millisecond, time.Second},
		"CutInText":   {[]simulator.Fault{{Status: 200, Body: `{"ok":true,"result":[{"update_id":1,"message":{"text":"a]`}}, 200 * time.Millisecond, time.Second},
		"HalfABatch":  {[]simulator.Fault{{Status: 200, Body: `{"ok":true,"result":[{"upd`}}, 200 * time.Millisecond, time.Second},
		"Forbidden":   {[]simulator.Fault{{Status: 403, Body: `{"ok":false,"error_code":403,"description":"Forbidden"}`}}, 200 * time.Millisecond, time.Second},
		"ManyInARow":  {slices.Repeat([]simulator.Fault{{Status: 500, Body: "oops"}}, 30), time.Minute, 30 * time.Minute},
		"HugeWaiting": {[]simulator.Fault{{Status: 429, Body: `{"ok":false,"error_code":429,"parameters":{"retry_after":9223372036854775807}}`}}, time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, a := pretend(t)
				server.Arm("getUpdates", c.faults...)
				start := time.Now()
				say(server, "hello")
				taken := make(chan time.Duration, 1)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				err := a.Poll(ctx, endpoint(), "", func(context.Context, []adapters.Message, string) error {
					taken <- time.Since(start)
					cancel()
					return nil
				})
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("ended with %v", err)
				}
				if waited := <-taken; waited < c.least || waited > c.most {
					t.Errorf("came back after %v; want %v to %v", waited, c.least, c.most)
				}
			})
		})
	}
}

func TestPollStopsOnABadToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a := pretend(t)
		ep := endpoint()
		ep.Credentials = adapters.Credentials{adapters.BotToken: "424242:somebody-elses"}
		err := a.Poll(t.Context(), ep, "", (&shelf{}).take)
		var se *adapters.SendError
		if !errors.As(err, &se) || se.Reason != adapters.BadSecret || strings.Contains(err.Error(), "somebody") {
			t.Errorf("%v; want a *SendError that says bad_secret", err)
		}
	})
}

func TestPollEndsWhileTakeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := pretend(t)
		say(server, "a")
		stop := polling(t, a, "", &shelf{fail: 1 << 30})
		later(5 * time.Minute)
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		if len(server.Pending(me)) != 1 {
			t.Error("confirmed what nobody took")
		}
	})
}

// Two pollers of one bot cost conflicts, and no message.
func TestTwoPollersLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := pretend(t)
		s := &shelf{}
		polling(t, a, "", s)
		polling(t, a, "", s)
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprint(i))
			say(server, want[i])
			later(time.Second)
		}
		later(5 * time.Minute)
		if got := s.kept(); got != strings.Join(want, " ") {
			t.Errorf("kept %s", got)
		}
		if len(server.Pending(me)) != 0 {
			t.Errorf("not confirmed: %v", server.Pending(me))
		}
	})
}

func TestCursor(t *testing.T) {
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		next int64
		age  time.Duration
		mark string
		asks string // the offset asked for; "" when it asks without
	}{
		"Fresh":        {next: 900, age: time.Minute, asks: "900"},
		"FiveDays":     {next: 900, age: 5 * day, asks: "900"},
		"SevenDays":    {next: 900, age: 7 * day},
		"OtherToken":   {next: 900, age: time.Minute, mark: "@00000000"},
		"NoneTakenYet": {next: 0, age: time.Minute},
		"Negative":     {next: -5, age: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, a := pretend(t)
				s := &shelf{}
				polling(t, a, fmt.Sprintf("%d@%d%s", c.next, time.Now().Add(-c.age).Unix(), c.mark), s)
				synctest.Wait()
				later(2 * time.Minute)
				for _, call := range server.Calls(me, "getUpdates") {
					if call["offset"] != c.asks {
						t.Errorf("asked for offset %q; want %q", call["offset"], c.asks)
					}
				}
			})
		})
	}
	for _, nonsense := range []string{"x", "5", "5@", "@", "5@x", "5@1@2@3", "9223372036854775808@1"} {
		t.Run("Nonsense "+nonsense, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, a := pretend(t)
				say(server, "a")
				s := &shelf{}
				polling(t, a, nonsense, s)
				synctest.Wait()
				if s.kept() != "a" {
					t.Errorf("kept %q", s.kept())
				}
			})
		})
	}
}

// After a quiet week Telegram draws new ids, which may be lower: neither a poller
// that kept running nor one that comes back may be deaf to them.
func TestPollHearsReDrawnIDs(t *testing.T) {
	low := func(id int, text string) []byte {
		return fmt.Appendf(nil, `{"update_id":%d,"message":{"message_id":%d,"from":{"id":712345678,"is_bot":false,"first_name":"Steve"},"chat":{"id":712345678,"type":"private"},"date":1763776800,"text":%q}}`, id, id, text)
	}
	t.Run("OpenClaw #80653: while it polls", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server, a := pretend(t)
			server.Push(me, low(900_000, "high"))
			s := &shelf{}
			polling(t, a, "", s)
			later(8 * 24 * time.Hour)
			server.Push(me, low(100, "low"))
			later(time.Minute)
			server.Push(me, low(101, "next"))
			later(time.Minute)
			if s.kept() != "high low next" || len(server.Pending(me)) != 0 {
				t.Errorf("kept %q, Telegram holds %v", s.kept(), server.Pending(me))
			}
		})
	})
	t.Run("go-telegram-bot-api #156: after it stood still", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server, a := pretend(t)
			server.Push(me, low(100, "low"))
			s := &shelf{}
			polling(t, a, fmt.Sprintf("900001@%d", time.Now().Add(-8*24*time.Hour).Unix()), s)
			synctest.Wait()
			if s.kept() != "low" || !strings.HasPrefix(s.cursor, "101@") {
				t.Errorf("kept %q with cursor %s; want the cursor to follow the new ids", s.kept(), s.cursor)
			}
		})
	})
}
