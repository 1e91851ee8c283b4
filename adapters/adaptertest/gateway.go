package adaptertest

import (
	"context"
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
)

// A Store stores batches of messages like the database: each message once, by its Key. The zero value
// is an empty store.
type Store struct {
	// NextErr is called before each batch is stored. If it returns an error, the batch is not stored.
	// A nil NextErr never fails.
	NextErr func() error

	mu       sync.Mutex
	calls    int
	keys     map[string]bool
	messages []adapters.Message
	cursor   string
}

// FailTimes returns a NextErr that fails the first n batches.
func FailTimes(n int) func() error {
	return func() error {
		if n--; n >= 0 {
			return errors.New("database unavailable")
		}
		return nil
	}
}

// Add stores a batch and the cursor that confirms it. It has the type of the function that Poll calls.
func (s *Store) Add(_ context.Context, batch []adapters.Message, cursor string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.NextErr != nil {
		if err := s.NextErr(); err != nil {
			return err
		}
	}
	if s.keys == nil {
		s.keys = map[string]bool{}
	}
	for _, m := range batch {
		if !s.keys[m.Key] {
			s.keys[m.Key] = true
			s.messages = append(s.messages, m)
		}
	}
	s.cursor = cursor
	return nil
}

// Messages returns the stored messages, oldest first.
func (s *Store) Messages() []adapters.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]adapters.Message(nil), s.messages...)
}

// Last returns the message that was stored last, or the zero message.
func (s *Store) Last() adapters.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.messages) == 0 {
		return adapters.Message{}
	}
	return s.messages[len(s.messages)-1]
}

// Texts returns the texts of the stored messages, oldest first and separated by a space.
func (s *Store) Texts() string {
	var texts []string
	for _, m := range s.Messages() {
		texts = append(texts, m.Text)
	}
	return strings.Join(texts, " ")
}

// Calls returns how often Add was called.
func (s *Store) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Cursor returns the cursor of the last batch that was stored.
func (s *Store) Cursor() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor
}

// A Gateway serves the webhooks of one endpoint like the gateway: it authenticates, stores and
// acknowledges each request. Webhooks are the names of the webhooks other than the main one, as they
// stand at the end of a path.
type Gateway struct {
	Adapter  adapters.Adapter
	Endpoint adapters.Endpoint
	Webhooks []string
	Store    Store

	// Receipts, if not nil, receives the receipts of each request that was acknowledged. There may be
	// none.
	Receipts chan []adapters.Receipt

	mu       sync.Mutex
	statuses map[int]int
}

// A refuser is an adapter whose provider expects rejections in a format of its own.
type refuser interface {
	Refuse(w http.ResponseWriter, status int)
}

// ServeHTTP handles one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	webhook := path.Base(r.URL.Path)
	if !slices.Contains(g.Webhooks, webhook) {
		webhook = ""
	}
	in, err := g.Adapter.Receive(r, g.Endpoint, webhook)
	if err != nil {
		g.count(http.StatusForbidden)
		if a, ok := g.Adapter.(refuser); ok {
			a.Refuse(w, http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusForbidden)
		return
	}
	err = g.Store.Add(r.Context(), in.Messages, "")
	if err != nil {
		g.count(http.StatusServiceUnavailable)
	} else {
		g.count(http.StatusOK)
	}
	in.Ack(w, err)
	if err == nil && g.Receipts != nil {
		g.Receipts <- in.Receipts
	}
}

func (g *Gateway) count(status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.statuses == nil {
		g.statuses = map[int]int{}
	}
	g.statuses[status]++
}

// Count returns the number of requests by outcome: StatusOK if the request was stored,
// StatusServiceUnavailable if the store failed, and StatusForbidden if it was rejected.
func (g *Gateway) Count(status int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.statuses[status]
}

// A HandleFunc stores a batch that a poller fetched.
type HandleFunc = func(ctx context.Context, batch []adapters.Message, cursor string) error

// StartPolling runs Poll until the test ends or stop is called, which returns the result of Poll.
func StartPolling(
	t *testing.T, p adapters.Poller, ep adapters.Endpoint, cursor string, handle HandleFunc,
) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Poll(ctx, ep, cursor, handle) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// Advance lets time pass in a synctest bubble and waits for everything that is due.
func Advance(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the clock of a synctest bubble
	synctest.Wait()
}
