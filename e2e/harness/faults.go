//go:build unix

package harness

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strconv"
	"sync"
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

// A Fault is a defect that is injected into a gateway. A test that passes with the program must
// fail with the fault.
type Fault string

// The faults that a gateway can have.
const (
	// AckBeforeCommit acknowledges webhooks before the messages are stored.
	AckBeforeCommit Fault = "ack-before-commit"
	// ConsumingCodes deletes a claim code when it is compared, before the result is committed.
	ConsumingCodes Fault = "consuming-codes"
	// MalformedRejection rejects a batch of updates if one of them cannot be decoded.
	MalformedRejection Fault = "malformed-rejection"
	// MemoryLeak retains some memory for each webhook.
	MemoryLeak Fault = "memory-leak"
	// SingleDelivery delivers one event at a time.
	SingleDelivery Fault = "single-delivery"
	// StalePollClock polls Telegram with a clock that is StaleCursorDays slow.
	StalePollClock Fault = "stale-poll-clock"
	// WithoutSpool has no spool and does not fetch Twilio's log.
	WithoutSpool Fault = "without-spool"
)

// Program returns the name of the program that serves with the fault. It is hydragate if f is
// empty.
func (f Fault) Program() string {
	if f == "" {
		return "hydragate"
	}
	return "hydragate-" + string(f)
}

// inject changes a gateway that has not started yet. It does nothing if f is empty.
func (f Fault) inject(g *app.Gateway, s *app.Settings) error {
	if f == "" {
		return nil
	}
	return faults[f](g, s)
}

var faults = map[Fault]func(*app.Gateway, *app.Settings) error{
	AckBeforeCommit:    ackBeforeCommit,
	ConsumingCodes:     consumingCodes,
	MalformedRejection: malformedRejection,
	MemoryLeak:         memoryLeak,
	SingleDelivery:     singleDelivery,
	StalePollClock:     stalePollClock,
	WithoutSpool:       withoutSpool,
}

func ackBeforeCommit(g *app.Gateway, _ *app.Settings) error {
	g.Webhooks.Inbox = earlyInbox{inbox: g.Inbox, log: g.Log}
	return nil
}

// An earlyInbox returns before the message is stored.
type earlyInbox struct {
	inbox *ingest.Inbox
	log   *slog.Logger
}

func (i earlyInbox) Accept(ctx context.Context, ep adapters.Endpoint, in adapters.Inbound) error {
	go func() {
		if err := i.inbox.Accept(context.WithoutCancel(ctx), ep, in); err != nil {
			i.log.InfoContext(ctx, "store message failed", "error", err)
		}
	}()
	return nil
}

func consumingCodes(g *app.Gateway, s *app.Settings) error {
	keys, err := s.KeyRing()
	if err != nil {
		return err
	}
	codes := consumingCodeStore{&rediscode.Store{Redis: g.Redis, Keys: app.ClaimKeys(keys)}}
	worker := &process.Worker{
		Store: g.Store, Claims: &claim.Service{Store: g.Store, Codes: codes}, Endpoints: g.Endpoints,
		Adapters: g.Endpoints.Adapters, Log: g.Log, Now: time.Now, Wake: func(...gateway.QueueKind) {},
	}
	for _, q := range g.Queues {
		if q.Kind == gateway.InboxQueue {
			q.Process = worker.Run
		}
	}
	return nil
}

// A consumingCodeStore deletes a code once it has matched, and returns some time later, so that the
// gateway is likely to be killed in between.
type consumingCodeStore struct{ claim.CodeStore }

func (c consumingCodeStore) Check(
	ctx context.Context, target claim.Target, typedIn, code, message string,
) (claim.CheckResult, error) {
	result, err := c.CodeStore.Check(ctx, target, typedIn, code, message)
	if err == nil && result.Result == claim.Match {
		err = c.CodeStore.Drop(ctx, target)
		_ = adapters.Sleep(ctx, 100*time.Millisecond)
	}
	return result, err
}

func malformedRejection(g *app.Gateway, s *app.Settings) error {
	g.Endpoints.Adapters[adapters.Telegram] = strictTelegram{&telegram.Adapter{APIURL: s.TelegramAPIURL}}
	return nil
}

type strictTelegram struct{ *telegram.Adapter }

// Poll returns ErrMalformed for a batch with an update that cannot be decoded.
func (a strictTelegram) Poll(
	ctx context.Context, ep adapters.Endpoint, cursor string, take func(context.Context, []adapters.Message, string) error,
) error {
	return a.Adapter.Poll(ctx, ep, cursor, func(ctx context.Context, batch []adapters.Message, cursor string) error {
		for _, m := range batch {
			if m.Kind == adapters.Undecodable {
				return adapters.ErrMalformed
			}
		}
		return take(ctx, batch, cursor)
	})
}

func memoryLeak(g *app.Gateway, _ *app.Settings) error {
	g.Webhooks.Inbox = &leakingInbox{inbox: g.Inbox}
	return nil
}

type leakingInbox struct {
	inbox    *ingest.Inbox
	mu       sync.Mutex
	retained [][]byte
}

func (i *leakingInbox) Accept(ctx context.Context, ep adapters.Endpoint, in adapters.Inbound) error {
	i.mu.Lock()
	i.retained = append(i.retained, bytes.Repeat([]byte("leak"), 4<<10))
	i.mu.Unlock()
	return i.inbox.Accept(ctx, ep, in)
}

func singleDelivery(g *app.Gateway, _ *app.Settings) error {
	for _, q := range g.Queues {
		if q.Kind == gateway.DeliveryQueue {
			q.Concurrency = 1
		}
	}
	return nil
}

// StaleCursorDays is longer than Telegram remembers the position of a bot's updates.
const StaleCursorDays = 8

func stalePollClock(g *app.Gateway, s *app.Settings) error {
	now := func() time.Time { return time.Now().AddDate(0, 0, -StaleCursorDays) }
	g.Endpoints.Adapters[adapters.Telegram] = &telegram.Adapter{APIURL: s.TelegramAPIURL, Now: now}
	return nil
}

func withoutSpool(g *app.Gateway, _ *app.Settings) error {
	g.Inbox.Spooler, g.Webhooks.Endpoints = nil, g.Endpoints
	g.Backfill.Adapters = map[adapters.Channel]adapters.Adapter{
		adapters.Telegram: g.Endpoints.Adapters[adapters.Telegram],
	}
	return nil
}

const sqlitePagesEnv = "HYDRAGATE_TEST_SQLITE_PAGES"

// SmallDatabase is an environment variable that limits a gateway's SQLite file to MaxSQLitePages.
var SmallDatabase = sqlitePagesEnv + "=" + strconv.Itoa(MaxSQLitePages)

// MaxSQLitePages is the size of a SQLite file with SmallDatabase.
const MaxSQLitePages = 1000

// limitSQLitePages limits every SQLite file that is opened from now on, if SmallDatabase is set.
func limitSQLitePages() {
	pages, err := strconv.Atoi(os.Getenv(sqlitePagesEnv))
	if err != nil {
		return
	}
	sqlite.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, _ string) error {
		_, err := conn.ExecContext(context.Background(), "pragma max_page_count = "+strconv.Itoa(pages), nil)
		return err
	})
}
