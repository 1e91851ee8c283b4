package telegram_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
	"hydragate/adapters/simulator"
)

func sendTexts(server *simulator.Telegram, texts ...string) {
	for _, text := range texts {
		server.SendText(botUsername, steve, text)
	}
}

func TestPoll_ConfirmsAfterStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := newSimulator(t)
		sendTexts(server, "a", "b", "c", "d", "e")
		s := &adaptertest.Store{NextErr: adaptertest.FailTimes(3)}
		stop := adaptertest.StartPolling(t, a, endpoint(), "", s.Add)
		synctest.Wait() // the first store call has failed
		if n := len(server.PendingUpdates(botUsername)); n != 5 || s.Texts() != "" {
			t.Fatalf("after a failed store Telegram holds %d of 5 and %q is stored", n, s.Texts())
		}
		adaptertest.Advance(time.Minute)
		if got := s.Texts(); got != "a b c d e" {
			t.Errorf("stored %q; want a to e, once, in order", got)
		}
		if s.Calls() != 4 {
			t.Errorf("%d store calls; want 3 failed and 1 successful", s.Calls())
		}
		if ids := server.PendingUpdates(botUsername); len(ids) != 0 {
			t.Errorf("not confirmed: %v", ids)
		}
		sendTexts(server, "f")
		synctest.Wait()
		if got := s.Texts(); got != "a b c d e f" {
			t.Errorf("stored %q; want f as well", got)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v; want context.Canceled", err)
		}
	})
}

// TestPoll_ResumesAtCursor checks that a poller which stops between storing and acknowledging
// fetches the updates again, and nothing twice afterwards.
func TestPoll_ResumesAtCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := newSimulator(t)
		sendTexts(server, "a", "b")
		s := &adaptertest.Store{}
		ctx, cancel := context.WithCancel(t.Context())
		err := a.Poll(ctx, endpoint(), "", func(ctx context.Context, batch []adapters.Message, cursor string) error {
			defer cancel()
			return s.Add(ctx, batch, cursor)
		})
		if !errors.Is(err, context.Canceled) || len(server.PendingUpdates(botUsername)) != 2 {
			t.Fatalf("ended with %v, Telegram holds %v; want both still there", err, server.PendingUpdates(botUsername))
		}
		sendTexts(server, "c")
		adaptertest.StartPolling(t, a, endpoint(), s.Cursor(), s.Add)
		synctest.Wait()
		if s.Texts() != "a b c" || s.Calls() != 2 || len(server.PendingUpdates(botUsername)) != 0 {
			t.Errorf("stored %q in %d store calls, Telegram holds %v",
				s.Texts(), s.Calls(), server.PendingUpdates(botUsername))
		}
	})
}

func TestPoll_UndecodableUpdate(t *testing.T) {
	for name, poison := range map[string]string{
		"overflowing ID":    `{"message":{"message_id":7,"chat":{"id":99999999999999999999,"type":"private"},"text":"x"}}`,
		"text is an object": `{"message":{"message_id":7,"chat":{"id":7,"type":"private"},"text":{"a":1}}}`,
		"empty message":     `{"message":{}}`,
		"no ID":             `["no object"]`,
		"too deep": `{"message":{"message_id":7,"chat":{"id":7,"type":"private"},"text":"x]}\"","odd":` +
			strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}}`,
		"raw control": "{\"message\":{\"message_id\":7,\"chat\":{\"id\":7,\"type\":\"private\"},\"text\":\"a\x00b\"}}",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, a := newSimulator(t)
				sendTexts(server, "before")
				server.PushUpdate(botUsername, []byte(poison))
				sendTexts(server, "after")
				s := &adaptertest.Store{}
				adaptertest.StartPolling(t, a, endpoint(), "", s.Add)
				adaptertest.Advance(time.Second)
				var kinds []adapters.Kind
				for _, m := range s.Messages() {
					kinds = append(kinds, m.Kind)
				}
				want := []adapters.Kind{adapters.Text, adapters.Undecodable, adapters.Text}
				if s.Texts() != "before  after" || !slices.Equal(kinds, want) {
					t.Errorf("stored %q of kinds %v; want %v", s.Texts(), kinds, want)
				}
				if ids := server.PendingUpdates(botUsername); len(ids) != 0 {
					t.Errorf("not confirmed: %v", ids)
				}
			})
		})
	}
}

// TestPoll_UpdateWithoutID checks that an update without an ID, which cannot be acknowledged by
// itself, is stored once, polled slowly, and acknowledged with the next one.
func TestPoll_UpdateWithoutID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := newSimulator(t)
		server.PushUpdate(botUsername, []byte(`"no id"`))
		s := &adaptertest.Store{}
		adaptertest.StartPolling(t, a, endpoint(), "", s.Add)
		adaptertest.Advance(10 * time.Minute)
		if n := len(s.Messages()); s.Calls() > 60 || n != 1 {
			t.Errorf("%d messages stored in %d calls in 10 minutes, want 1 in at most 60", n, s.Calls())
		}
		sendTexts(server, "next")
		adaptertest.Advance(time.Minute)
		if s.Texts() != " next" || len(server.PendingUpdates(botUsername)) != 0 {
			t.Errorf("stored %q, Telegram holds %v", s.Texts(), server.PendingUpdates(botUsername))
		}
	})
}

func TestPoll_Faults(t *testing.T) {
	for name, c := range map[string]struct {
		faults      []simulator.Fault
		least, most time.Duration
	}{
		"throttled": {
			[]simulator.Fault{botAPIError(429, "Too Many Requests: retry after 40", `{"retry_after":40}`)},
			40 * time.Second, 41 * time.Second,
		},
		"bad gateway": {[]simulator.Fault{{Status: 502, Body: "<html>"}}, 200 * time.Millisecond, time.Second},
		"cut off":     {[]simulator.Fault{{Cut: true}, {Cut: true}}, 400 * time.Millisecond, 3 * time.Second},
		"no answer":   {[]simulator.Fault{{Hang: true}}, time.Minute, 2 * time.Minute},
		"not an array": {
			[]simulator.Fault{{Status: 200, Body: `{"ok":true,"result":{}}`}}, 200 * time.Millisecond, time.Second,
		},
		"cut in text": {
			[]simulator.Fault{{Status: 200, Body: `{"ok":true,"result":[{"update_id":1,"message":{"text":"a]`}},
			200 * time.Millisecond, time.Second,
		},
		"half a batch": {
			[]simulator.Fault{{Status: 200, Body: `{"ok":true,"result":[{"upd`}}, 200 * time.Millisecond, time.Second,
		},
		"forbidden": {
			[]simulator.Fault{botAPIError(403, "Forbidden", "")}, 200 * time.Millisecond, time.Second,
		},
		"many in a row": {slices.Repeat([]simulator.Fault{{Status: 500, Body: "oops"}}, 30), time.Minute, 30 * time.Minute},
		"huge waiting": {
			[]simulator.Fault{botAPIError(429, "", `{"retry_after":9223372036854775807}`)}, 24 * time.Hour, 24 * time.Hour,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, a := newSimulator(t)
				server.Arm("getUpdates", c.faults...)
				start := time.Now()
				sendTexts(server, "hello")
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
					t.Errorf("polled again after %v; want %v to %v", waited, c.least, c.most)
				}
			})
		})
	}
}

func TestPoll_BadToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a := newSimulator(t)
		ep := endpoint()
		ep.Credentials = adapters.Credentials{adapters.BotToken: "424242:of-another-bot"}
		err := a.Poll(t.Context(), ep, "", (&adaptertest.Store{}).Add)
		var se *adapters.SendError
		if !errors.As(err, &se) || se.Reason != adapters.BadSecret || strings.Contains(err.Error(), "another") {
			t.Errorf("%v; want a *SendError that says bad_secret", err)
		}
	})
}

func TestPoll_CanceledWhileStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := newSimulator(t)
		sendTexts(server, "a")
		var log bytes.Buffer
		a.Log = slog.New(slog.NewTextHandler(&log, nil))
		s := &adaptertest.Store{NextErr: adaptertest.FailTimes(math.MaxInt)}
		stop := adaptertest.StartPolling(t, a, endpoint(), "", s.Add)
		adaptertest.Advance(5 * time.Minute)
		if err := stop(); !errors.Is(err, context.Canceled) || !strings.Contains(log.String(), "store updates failed") {
			t.Errorf("ended with %v, want Canceled and the failures in the log:\n%s", err, &log)
		}
		if len(server.PendingUpdates(botUsername)) != 1 {
			t.Error("confirmed an update that was not stored")
		}
	})
}

// TestPoll_TwoPollers checks that two pollers of one bot cause conflicts but lose no message.
func TestPoll_TwoPollers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, a := newSimulator(t)
		s := &adaptertest.Store{}
		adaptertest.StartPolling(t, a, endpoint(), "", s.Add)
		adaptertest.StartPolling(t, a, endpoint(), "", s.Add)
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprint(i))
			sendTexts(server, want[i])
			adaptertest.Advance(time.Second)
		}
		adaptertest.Advance(5 * time.Minute)
		if got := s.Texts(); got != strings.Join(want, " ") {
			t.Errorf("stored %q, want %q", got, strings.Join(want, " "))
		}
		if len(server.PendingUpdates(botUsername)) != 0 {
			t.Errorf("not confirmed: %v", server.PendingUpdates(botUsername))
		}
	})
}

func TestPoll_Cursor(t *testing.T) {
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		next int64
		age  time.Duration
		mark string
		asks string // the requested offset, or "" for none
	}{
		"fresh":          {next: 900, age: time.Minute, asks: "900"},
		"five days":      {next: 900, age: 5 * day, asks: "900"},
		"seven days":     {next: 900, age: 7 * day},
		"other token":    {next: 900, age: time.Minute, mark: "@00000000"},
		"none taken yet": {next: 0, age: time.Minute},
		"negative":       {next: -5, age: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, a := newSimulator(t)
				s := &adaptertest.Store{}
				cursor := fmt.Sprintf("%d@%d%s", c.next, time.Now().Add(-c.age).Unix(), c.mark)
				adaptertest.StartPolling(t, a, endpoint(), cursor, s.Add)
				synctest.Wait()
				adaptertest.Advance(2 * time.Minute)
				for _, call := range server.Calls(botUsername, "getUpdates") {
					if call["offset"] != c.asks {
						t.Errorf("requested offset %q; want %q", call["offset"], c.asks)
					}
				}
			})
		})
	}
	for _, nonsense := range []string{"x", "5", "5@", "@", "5@x", "5@1@2@3", "9223372036854775808@1"} {
		t.Run("nonsense "+nonsense, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, a := newSimulator(t)
				sendTexts(server, "a")
				s := &adaptertest.Store{}
				adaptertest.StartPolling(t, a, endpoint(), nonsense, s.Add)
				synctest.Wait()
				if s.Texts() != "a" {
					t.Errorf("stored %q, want a", s.Texts())
				}
			})
		})
	}
}

// TestPoll_UpdateIDsReset checks that a poller, running or restarted, receives updates with the
// lower IDs that Telegram may choose after a week without updates.
func TestPoll_UpdateIDsReset(t *testing.T) {
	low := func(id int, text string) []byte {
		return fmt.Appendf(nil, `{"update_id":%d,"message":{"message_id":%d,
			"from":{"id":712345678,"is_bot":false,"first_name":"Steve"},"chat":{"id":712345678,"type":"private"},
			"date":1763776800,"text":%q}}`, id, id, text)
	}
	t.Run("OpenClaw #80653: while it polls", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server, a := newSimulator(t)
			server.PushUpdate(botUsername, low(900_000, "high"))
			s := &adaptertest.Store{}
			adaptertest.StartPolling(t, a, endpoint(), "", s.Add)
			adaptertest.Advance(time.Minute)
			// The update arrives between two polls: one that is in progress would return it anyway.
			hour := botAPIError(429, "Too Many Requests: retry after 3600", `{"retry_after":3600}`)
			server.Arm("getUpdates", slices.Repeat([]simulator.Fault{hour}, 8*24)...)
			adaptertest.Advance((8*24 - 1) * time.Hour)
			server.PushUpdate(botUsername, low(100, "low"))
			adaptertest.Advance(2 * time.Hour)
			server.PushUpdate(botUsername, low(101, "next"))
			adaptertest.Advance(time.Minute)
			if s.Texts() != "high low next" || len(server.PendingUpdates(botUsername)) != 0 {
				t.Errorf("stored %q, Telegram holds %v", s.Texts(), server.PendingUpdates(botUsername))
			}
		})
	})
	t.Run("go-telegram-bot-api #156: after it stood still", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server, a := newSimulator(t)
			server.PushUpdate(botUsername, low(100, "low"))
			s := &adaptertest.Store{}
			adaptertest.StartPolling(t, a, endpoint(), fmt.Sprintf("900001@%d", time.Now().Add(-8*24*time.Hour).Unix()), s.Add)
			synctest.Wait()
			if s.Texts() != "low" || !strings.HasPrefix(s.Cursor(), "101@") {
				t.Errorf("stored %q with cursor %s; want the cursor to follow the new ids", s.Texts(), s.Cursor())
			}
		})
	})
}

// TestPoll_Conflict checks that another program which receives the updates ends a poll, with Telegram's
// words, so that it is reported.
func TestPoll_Conflict(t *testing.T) {
	server, a := newSimulator(t)
	server.SetWebhook(botUsername, "https://other.example/hook", "x")
	err := a.Poll(t.Context(), endpoint(), "", nil)
	se, ok := errors.AsType[*adapters.SendError](err)
	if !ok || se.Reason != adapters.Conflict || se.Code != "409" || !strings.Contains(err.Error(), "webhook is active") {
		t.Errorf("Poll() = %v, want a conflict", err)
	}
}
