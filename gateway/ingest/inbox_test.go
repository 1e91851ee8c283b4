package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/gateway/endpoints"
	"hydragate/gateway/ingest/spool"
)

func TestInbox_GroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{gate: make(chan struct{})}
		b := newInbox(store)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.Run(ctx) })
		for i := range 100 {
			wg.Go(func() {
				if err := b.Accept(t.Context(), telegramEndpoint, inboundText(fmt.Sprint(i), "hello")); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		close(store.gate)
		synctest.Wait()
		stop()
		wg.Wait()
		if as, _ := store.stored(); len(as) != 100 {
			t.Fatalf("stored %d of 100 messages", len(as))
		}
		// Two callers committed alone, while the other 98 waited.
		if n := len(store.batches); n > 5 {
			t.Fatalf("%d commits for 100 callers", n)
		}
	})
}

func TestInbox_Timeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeStore{gate: make(chan struct{})} // never opened
		b := newInbox(store)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.Run(ctx) })
		if err := b.Accept(t.Context(), telegramEndpoint, inboundText("1", "hello")); err == nil {
			t.Error("Accept = nil although nothing was stored")
		}
		stop()
		wg.Wait()
	})
}

func TestInbox_QuarantinesUnstorable(t *testing.T) {
	store := &fakeStore{reject: func(a gateway.IncomingMessage) error {
		if strings.Contains(a.Message.Text, "poison") {
			return gateway.ErrUnstorable
		}
		return nil
	}}
	b := startInbox(t, newInbox(store))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			text := "good"
			if i%5 == 0 {
				text = "poison"
			}
			if err := b.Accept(t.Context(), telegramEndpoint, inboundText(fmt.Sprint(i), text)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	good, quarantined := 0, 0
	as, _ := store.stored()
	for _, a := range as {
		switch {
		case a.Message.Kind == adapters.Undecodable && a.Secret != nil && string(a.Secret.Raw) == "poison":
			quarantined++
		case a.Message.Text == "good":
			good++
		}
	}
	if good != 16 || quarantined != 4 {
		t.Fatalf("%d stored and %d quarantined, want 16 and 4", good, quarantined)
	}
}

func TestInbox_StoreError(t *testing.T) {
	down := errors.New("down")
	b := startInbox(t, newInbox(&fakeStore{reject: func(gateway.IncomingMessage) error { return down }}))
	if err := b.Accept(t.Context(), telegramEndpoint, inboundText("1", "hello")); !errors.Is(err, down) {
		t.Fatalf("Accept = %v, want the error of the store", err)
	}
}

func TestNewIncomingMessage_EncryptsCodes(t *testing.T) {
	for text, encrypted := range map[string]bool{
		"/claim WDJBMJ":                 true,
		"/claim@acme_bot wdj-bmj":       true,
		"claim wdj bmj":                 true,
		"/start claim_WDJBMJ":           true,
		"/start@acme_bot claim_WDJBMJ":  true,
		"/claim@other_bot WDJBMJ":       true,
		"/start@other_bot claim_WDJBMJ": true,
		"/start@other_bot hello":        false,
		"WDJBMJ":                        true,
		"/claim nonsense":               true,
		"hello":                         false,
		"I claim nothing":               false,
		"/help":                         false,
		"see you at the claim desk":     false,
	} {
		m := inboundText("1", text).Messages[0]
		if c, ok := adapters.ParseCommand(text, "acme_bot"); ok {
			m.Command = &c
		}
		a := newIncomingMessage(telegramEndpoint, m)
		if got := a.Secret != nil; got != encrypted {
			t.Errorf("%q: encrypted = %v", text, got)
		}
		plain := a.Message.Text
		if a.Message.Command != nil {
			plain += a.Message.Command.Args
		}
		if encrypted && strings.Contains(strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(plain)), "WDJBMJ") {
			t.Errorf("%q: stored in plain text as %q", text, plain)
		}
		if encrypted && a.Secret.Text != text {
			t.Errorf("%q: encrypted as %q", text, a.Secret.Text)
		}
	}
}

// TestNewIncomingMessage_Names checks that names of senders cannot change how what surrounds them is
// shown, also if the message is stored encrypted, and that the text is stored as written.
func TestNewIncomingMessage_Names(t *testing.T) {
	for text, encrypted := range map[string]bool{"a\u202Eb\n": false, "WDJBMJ": true} {
		m := inboundText("1", text).Messages[0]
		m.Sender.Name, m.Sender.Username = "\u202Eevil\x1b[31m\nWDJBMJ", "a\u200Bb"
		a := newIncomingMessage(telegramEndpoint, m)
		stored := []adapters.Message{a.Message}
		if a.Secret != nil && a.Secret.Message != nil {
			stored = append(stored, *a.Secret.Message)
		}
		if got := stored[len(stored)-1].Sender; got.Name != "evil[31m WDJBMJ" || got.Username != "ab" {
			t.Errorf("sender = %+v, want names without control and format characters", got)
		}
		if !encrypted && stored[len(stored)-1].Text != text {
			t.Errorf("text = %q, want %q", stored[len(stored)-1].Text, text)
		}
	}
}

// A fakeStore is a database in memory, with one endpoint, that can fail or hang.
type fakeStore struct {
	endpoints.Store // only WebhookEndpoint may be called

	mu          sync.Mutex
	err         error         // returned by every call, unless nil
	gate        chan struct{} // unless nil, every call waits until it is closed
	batches     [][]gateway.IncomingMessage
	reject      func(gateway.IncomingMessage) error // may be nil
	endpoint    adapters.Endpoint                   // has no ID if it was removed
	erased      map[string]time.Time                // by sender
	unprocessed int
}

// update changes s while it is in use.
func (s *fakeStore) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Ping waits for the gate. Other calls do so first.
func (s *fakeStore) Ping(ctx context.Context) error {
	s.mu.Lock()
	err, gate := s.err, s.gate
	s.mu.Unlock()
	if gate == nil {
		return err
	}
	select {
	case <-gate:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *fakeStore) Probe(ctx context.Context) error { return s.Ping(ctx) }

func (s *fakeStore) CountUnprocessed(_ context.Context, limit int) (int, error) {
	return min(s.unprocessed, limit), s.err
}

func (s *fakeStore) InsertMessages(ctx context.Context, as []gateway.IncomingMessage, _ *gateway.Cursor) (int, error) {
	if err := s.Ping(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range as {
		if s.reject != nil {
			if err := s.reject(a); err != nil {
				return 0, err
			}
		}
	}
	s.batches = append(s.batches, as)
	return len(as), nil
}

func (s *fakeStore) ApplyReceipts(context.Context, adapters.Endpoint, []adapters.Receipt) error {
	return nil
}

func (s *fakeStore) TouchEndpoint(context.Context, string, time.Time) error { return nil }

func (s *fakeStore) WebhookEndpoint(ctx context.Context, _ string, _ adapters.Channel) (adapters.Endpoint, error) {
	err := s.Ping(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.endpoint.ID == "" {
		err = gateway.ErrNoEndpoint
	}
	return s.endpoint, err
}

func (s *fakeStore) ErasedSince(ctx context.Context, _ string, since time.Time) (gateway.ErasedFunc, error) {
	return func(_ adapters.Channel, id string, at time.Time) bool {
		when, ok := s.erased[id]
		return ok && !when.Before(since) && !at.After(when)
	}, s.Ping(ctx)
}

// stored returns the stored messages and their texts.
func (s *fakeStore) stored() (as []gateway.IncomingMessage, texts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		for _, a := range b {
			as, texts = append(as, a), append(texts, a.Message.Text)
		}
	}
	return as, texts
}

var errStoreDown = fmt.Errorf("down: %w", gateway.ErrUnavailable)

var (
	telegramEndpoint = adapters.Endpoint{
		TenantID: "t", InstanceID: "01a2012b-02ef-71ed-ade5-af96a0001aeb", Channel: adapters.Telegram,
		Settings: map[string]string{adapters.BotUsername: "acme_bot"},
	}
	smsEndpoint = adapters.Endpoint{
		ID: "endpoint", TenantID: "t", InstanceID: "01a2012b-02ef-71ed-ade5-af96a0001aeb", Channel: adapters.SMS,
		Credentials: adapters.Credentials{adapters.AuthToken: "token one"},
	}
)

func inboundText(key, text string) adapters.Inbound {
	return adapters.Inbound{Messages: []adapters.Message{
		{Key: key, Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: "1"}, Chat: adapters.Chat{ID: "1"}},
	}}
}

// startInbox runs an Inbox until the test ends.
func startInbox(t *testing.T, b *Inbox) *Inbox {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { b.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	return b
}

// newInbox returns an Inbox that is not running.
func newInbox(store InboxStore) *Inbox {
	return NewInbox(store, func() {}, slog.New(slog.DiscardHandler))
}

// newTestSpooler returns a Spooler that is not running, and adds smsEndpoint to the store.
func newTestSpooler(t *testing.T, store *fakeStore, dir string) *Spooler {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	sp, err := spool.Open(dir, spool.DefaultLimit, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sp.Close)
	store.endpoint = smsEndpoint
	store.endpoint.TenantID = "tenant as stored"
	manager := &endpoints.Manager{Store: store}
	s := NewSpooler(&Spooler{Spool: sp, Cipher: fakeCipher{}, Endpoints: manager, Store: store, Log: log})
	newInbox(store).UseSpooler(s)
	return s
}

// A fakeCipher checks the binding and does not encrypt.
type fakeCipher struct{}

func (fakeCipher) Seal(b []byte, bind string) string { return bind + ":" + string(b) }

func (fakeCipher) Open(sealed, bind string) (plain []byte, stale bool, err error) {
	text, ok := strings.CutPrefix(sealed, bind+":")
	if !ok {
		err = errors.New("wrong binding")
	}
	return []byte(text), false, err
}
