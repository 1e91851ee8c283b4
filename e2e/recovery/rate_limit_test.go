package recovery

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// A rateLimitedChat is a proxy in front of Telegram that refuses the second message to one chat, and all
// that follow until the time is over that it asks for.
type rateLimitedChat struct {
	http.Handler
	chat       string
	retryAfter time.Duration

	mu       sync.Mutex
	calls    []time.Time   // to the chat
	finished []limitedCall // to the chat, as far as they were accepted
	end      time.Time
	refused  int
}

type limitedCall struct{ began, ended time.Time }

// reset forgets all calls. The next second call is refused for a time, unless that is zero.
func (l *rateLimitedChat) reset(retryAfter time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retryAfter, l.calls, l.finished, l.end, l.refused = retryAfter, nil, nil, time.Time{}, 0
}

// finish records the end of an accepted call.
func (l *rateLimitedChat) finish(began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finished = append(l.finished, limitedCall{began, time.Now()})
}

// ServeHTTP refuses or forwards a call.
func (l *rateLimitedChat) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	if strings.HasSuffix(r.URL.Path, "/sendMessage") && strings.Contains(string(body), l.chat) {
		if left := l.refuse(); left > 0 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = fmt.Fprintf(w, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after %d",`+
				`"parameters":{"retry_after":%[1]d}}`, left)
			return
		}
		defer l.finish(time.Now())
	}
	l.Handler.ServeHTTP(w, r)
}

// refuse records a call to the chat. It returns the seconds that are left, or 0 to accept it.
func (l *rateLimitedChat) refuse() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.calls = append(l.calls, now)
	if len(l.calls) == 2 && l.retryAfter > 0 {
		l.end = now.Add(l.retryAfter)
	}
	left := l.end.Sub(now)
	if left <= 0 {
		return 0
	}
	l.refused++
	return int((left + time.Second - 1) / time.Second)
}

// TestRateLimitedChat_HeldByAllReplicas checks that a chat that Telegram limits is not called by any
// replica until the time is over, that the other chats go on meanwhile, and that nothing is lost or
// reordered. With HYDRAGATE_TEST_LONG=1 there are 200 chats, and the time is five seconds.
func TestRateLimitedChat_HeldByAllReplicas(t *testing.T) {
	harness.ParallelUnlessFull(t)
	const chat, replicas, underWay = 712_000_000, 3, 2
	l := &rateLimitedChat{chat: fmt.Sprint(chat), retryAfter: time.Duration(harness.Scaled(2, 5)) * time.Second}
	s, _ := harness.Start(t, harness.Options{Replicas: replicas, InProcess: true, Settings: func(s *app.Settings) {
		u, err := url.Parse(s.TelegramAPIURL)
		if err != nil {
			t.Fatal(err)
		}
		l.Handler = httputil.NewSingleHostReverseProxy(u)
		s.TelegramAPIURL = harness.ServeHTTP(t.Cleanup, l)
	}})
	r := s.NewLoad(0)
	r.Users = append(r.Users, s.TelegramUser(harness.TelegramBot, chat))
	for i := range harness.Scaled(40, 200) {
		r.Users = append(r.Users, s.TelegramUser(harness.TelegramBot, int64(300_000+i)))
	}
	const each = 4
	r.StartSending(t.Context(), each)
	r.Senders.Wait()
	s.RequireIdle(time.Minute)
	r.RequireComplete(each*len(r.Users), 0)
	s.CheckLog()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused < 1 || l.refused > 1+underWay || len(l.calls) != each+l.refused {
		t.Errorf("%d of %d calls to the limited chat were refused, want at most %d", l.refused, len(l.calls), 1+underWay)
	}
	var late, first time.Time
	for _, at := range l.calls {
		if at.After(l.end) && first.IsZero() {
			first = at
		}
	}
	for _, n := range r.Users[1:] {
		for i := range each {
			if got := s.App.Received(fmt.Sprintf("%s: %s #%d", r.Name, n.Name, i)); got.First.After(late) {
				late = got.First
			}
		}
	}
	t.Logf(
		"%d calls to the limited chat, %d refused, the first accepted %v after the end; "+
			"the last message of others %v before it",
		len(l.calls),
		l.refused,
		first.Sub(l.end).Round(time.Millisecond),
		l.end.Sub(late).Round(time.Millisecond),
	)
}
