package harness

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"modernc.org/sqlite"

	"hydragate/adapters"
	"hydragate/adapters/telegram"
	"hydragate/claim"
	"hydragate/claim/rediscode"
	"hydragate/cmd/hydragate/app"
	"hydragate/gateway"
	"hydragate/gateway/ingest"
	"hydragate/gateway/process"
)

// noFault changes nothing.
func noFault(*app.Gateway, *app.Settings) error { return nil }

// serveModified is the gateway with something changed in it, in a child.
func serveModified(t *testing.T, change func(*app.Gateway, *app.Settings) error) {
	ctx := t.Context()
	s := &app.Settings{
		Listen: os.Getenv("HYDRAGATE_LISTEN"), DatabaseURL: os.Getenv("HYDRAGATE_DATABASE_URL"), RedisURL: os.Getenv("HYDRAGATE_REDIS_URL"),
		MasterKeys: os.Getenv("HYDRAGATE_MASTER_KEYS"), AdminKey: os.Getenv("HYDRAGATE_ADMIN_KEY"), DataDir: os.Getenv("HYDRAGATE_DATA_DIR"),
		TelegramAPIURL: os.Getenv("HYDRAGATE_TELEGRAM_API_URL"), TwilioAPIURL: os.Getenv("HYDRAGATE_TWILIO_API_URL"), SlackAPIURL: os.Getenv("HYDRAGATE_SLACK_API_URL"),
		AgentAllowPrivate: "true", LogLevel: "info", PublicURL: os.Getenv("HYDRAGATE_PUBLIC_URL"),
	}
	l, err := net.Listen("tcp", s.Listen)
	if err != nil {
		t.Fatal(err)
	}
	p, err := app.New(ctx, s, s.PublicURL, s.Logger(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.EnsureAdminKey(ctx, s); err != nil {
		t.Fatal(err)
	}
	if err := change(p, s); err != nil {
		t.Fatal(err)
	}
	_, _ = p.Run(ctx, l, func() {
		app.AnnounceListening(os.Stdout, "http://"+l.Addr().String(), s.PublicURL, p.Store.Engine(), "")
	})
}

// injectSingleDelivery makes a gateway that has one call of a runtime in hand.
func injectSingleDelivery(p *app.Gateway, _ *app.Settings) error {
	for _, l := range p.Queues {
		if l.Kind == gateway.DeliveryQueue {
			l.Concurrency = 1
		}
	}
	return nil
}

// injectMemoryLeak makes a gateway that keeps what it read.
func injectMemoryLeak(p *app.Gateway, _ *app.Settings) error {
	p.Webhooks.Inbox = &leakingInbox{inbox: p.Inbox}
	return nil
}

type leakingInbox struct {
	inbox    *ingest.Inbox
	mu       sync.Mutex
	retained [][]byte
}

func (h *leakingInbox) Accept(ctx context.Context, ep adapters.Endpoint, in adapters.Inbound) error {
	h.mu.Lock()
	h.retained = append(h.retained, bytes.Repeat([]byte("kept"), 4<<10))
	h.mu.Unlock()
	return h.inbox.Accept(ctx, ep, in)
}

// ServeWithoutSpool is the gateway without a spool, and without a look into Twilio's log.
func ServeWithoutSpool() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s := &app.Settings{
		Listen: os.Getenv("HYDRAGATE_LISTEN"), DatabaseURL: os.Getenv("HYDRAGATE_DATABASE_URL"), RedisURL: os.Getenv("HYDRAGATE_REDIS_URL"), DataDir: os.Getenv("HYDRAGATE_DATA_DIR"),
		MasterKeys: os.Getenv("HYDRAGATE_MASTER_KEYS"), AdminKey: os.Getenv("HYDRAGATE_ADMIN_KEY"), TwilioAPIURL: os.Getenv("HYDRAGATE_TWILIO_API_URL"),
		AgentAllowPrivate: "true", LogLevel: "info", PublicURL: os.Getenv("HYDRAGATE_PUBLIC_URL"),
	}
	if err := runWithoutSpool(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runWithoutSpool(ctx context.Context, s *app.Settings) error {
	l, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return err
	}
	p, err := app.New(ctx, s, s.PublicURL, s.Logger(os.Stderr))
	if err != nil {
		return err
	}
	if _, err := p.EnsureAdminKey(ctx, s); err != nil {
		return err
	}
	p.Inbox.Spooler, p.Webhooks.Endpoints = nil, p.Endpoints
	p.Backfill.Adapters = map[adapters.Channel]adapters.Adapter{adapters.Telegram: p.Endpoints.Adapters[adapters.Telegram]}
	_, err = p.Run(ctx, l, func() {
		app.AnnounceListening(os.Stdout, "http://"+l.Addr().String(), s.PublicURL, p.Store.Engine(), "")
	})
	return err
}

// serveConsumingCodes is the gateway with proofs that a comparison consumes.
func serveConsumingCodes(t *testing.T) {
	serveModified(t, func(p *app.Gateway, s *app.Settings) error {
		keys, err := s.KeyRing()
		if err != nil {
			return err
		}
		desk := &claim.Service{Store: p.Store, Codes: consumingCodeStore{&rediscode.Store{Redis: p.Redis, Keys: app.ClaimKeys(keys)}}}
		naive := &process.Worker{Store: p.Store, Claims: desk, Endpoints: p.Endpoints, Adapters: p.Endpoints.Adapters, Log: p.Log, Now: time.Now, Wake: func(...gateway.QueueKind) {}}
		for _, lanes := range p.Queues {
			if lanes.Kind == gateway.InboxQueue {
				lanes.Process = naive.Run
			}
		}
		return nil
	})
}

// consumingCodeStore proofs are gone once they were compared and found right.
type consumingCodeStore struct{ claim.CodeStore }

// injectMalformedRejection makes a gateway that refuses what it cannot read.
func injectMalformedRejection(p *app.Gateway, s *app.Settings) error {
	p.Endpoints.Adapters[adapters.Telegram] = strictTelegram{&telegram.Adapter{APIURL: s.TelegramAPIURL}}
	return nil
}

type strictTelegram struct{ *telegram.Adapter }

// Poll hands over no batch with something in it that cannot be read.
func (b strictTelegram) Poll(ctx context.Context, ep adapters.Endpoint, cursor string, take func(context.Context, []adapters.Message, string) error) error {
	return b.Adapter.Poll(ctx, ep, cursor, func(ctx context.Context, batch []adapters.Message, cursor string) error {
		for _, m := range batch {
			if m.Kind == adapters.Undecodable {
				return adapters.ErrMalformed
			}
		}
		return take(ctx, batch, cursor)
	})
}

// injectAckBeforeCommit makes a gateway acknowledge before it stores.
func injectAckBeforeCommit(p *app.Gateway, _ *app.Settings) error {
	p.Webhooks.Inbox = &ackBeforeCommit{inbox: p.Inbox, log: p.Log}
	return nil
}

// A ackBeforeCommit inbox says that a message is stored, and then stores it.
type ackBeforeCommit struct {
	inbox   *ingest.Inbox
	pending sync.WaitGroup
	log     *slog.Logger
}

func (h *ackBeforeCommit) Accept(ctx context.Context, ep adapters.Endpoint, in adapters.Inbound) error {
	h.pending.Go(func() {
		if err := h.inbox.Accept(context.WithoutCancel(ctx), ep, in); err != nil {
			h.log.Info("not stored after all", "error", err)
		}
	})
	return nil
}

// MaxSQLitePages is how many pages SQLite may have in a small gateway.
const MaxSQLitePages = 1000

// limitSQLitePages makes every database that is opened from now on a small one.
func limitSQLitePages() {
	sqlite.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, _ string) error {
		_, err := conn.ExecContext(context.Background(), "pragma max_page_count = "+strconv.Itoa(MaxSQLitePages), nil)
		return err
	})
}

// StaleCursorDays is longer than Telegram remembers where it was with its numbers.
const StaleCursorDays = 8

// injectStalePollClock makes a gateway believe that no time has passed since it polled last.
func injectStalePollClock(p *app.Gateway, s *app.Settings) error {
	p.Endpoints.Adapters[adapters.Telegram] = &telegram.Adapter{APIURL: s.TelegramAPIURL, Now: func() time.Time { return time.Now().AddDate(0, 0, -StaleCursorDays) }}
	return nil
}
