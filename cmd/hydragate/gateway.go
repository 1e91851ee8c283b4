package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"

	"hydragate/adapters"
	"hydragate/adapters/slack"
	"hydragate/adapters/sms"
	"hydragate/adapters/telegram"
	"hydragate/claim"
	"hydragate/claim/redisproof"
	"hydragate/gateway"
	"hydragate/gateway/delivery"
	"hydragate/gateway/spool"
	"hydragate/httpapi"
	"hydragate/store"
)

// A parts is the whole gateway, put together and not yet running.
type parts struct {
	store     *store.Store
	redis     redis.UniversalClient
	channels  *gateway.Channels
	inbox     *gateway.Inbox
	lanes     []*gateway.Lanes
	pollers   *gateway.Pollers
	retention *gateway.Retention
	pressure  *gateway.Pressure
	spool     *spool.Spool
	spooler   *gateway.Spooler
	backfill  *gateway.Backfill
	keyFile   *keyFile // nil: the keys are in the settings
	api       *httpapi.API
	hooks     *httpapi.Hooks
	log       *slog.Logger
	traced    bool
	close     []func()
}

// How much is worked at once. Delivery waits for runtimes and outbox for channels, so
// both have more in hand than the processors could work; half of it is the most that one
// instance has.
const (
	inboxSize    = 8
	deliverySize = 512
	outboxSize   = 64
)

// build puts the parts together. publicURL is where providers reach them.
func build(ctx context.Context, s *settings, publicURL string, log *slog.Logger) (p *parts, err error) {
	p = &parts{log: log}
	defer func() {
		if err != nil {
			p.closeAll()
		}
	}()
	dsn, err := s.database()
	if err != nil {
		return p, err
	}
	keys, err := s.keyRing()
	if err != nil {
		return p, err
	}
	if p.spool, err = s.openSpool(log); err != nil {
		return p, err
	}
	p.close = append(p.close, p.spool.Close)
	if p.store, err = store.Open(ctx, dsn, keys); err != nil {
		return p, wrong("HYDRAGATE_DATABASE_URL", "names a database that cannot be used: "+err.Error())
	}
	p.close = append(p.close, p.store.Close)
	if err := p.openRedis(ctx, s); err != nil {
		return p, err
	}
	if s.ownsKeys() {
		file := s.keyFile()
		p.keyFile = &file
	}
	private, err := s.allowPrivate()
	if err != nil {
		return p, err
	}
	speak := speakers(s, log)
	p.wire(speak, keys, publicURL, private)
	p.traced = s.OTLPEndpoint != ""
	if s.OIDCIssuer != "" {
		p.api.Staff, p.api.StaffIssuer = newStaff(s.OIDCIssuer, s.OIDCAudience, log), s.OIDCIssuer
	}
	return p, nil
}

// speakers gives the adapters, by channel.
func speakers(s *settings, log *slog.Logger) map[adapters.Channel]adapters.Adapter {
	return map[adapters.Channel]adapters.Adapter{
		adapters.Telegram: &telegram.Adapter{APIURL: s.TelegramAPIURL, Log: log},
		adapters.SMS:      &sms.Adapter{Name: adapters.SMS, APIURL: s.TwilioAPIURL},
		adapters.WhatsApp: &sms.Adapter{Name: adapters.WhatsApp, APIURL: s.TwilioAPIURL},
		adapters.Slack:    &slack.Adapter{APIURL: s.SlackAPIURL, Log: log},
	}
}

// redisLog keeps the client's own words in the program's log.
type redisLog struct{ log *slog.Logger }

// Printf implements the client's logging interface.
func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client", "said", fmt.Sprintf(format, v...))
}

func (p *parts) openRedis(ctx context.Context, s *settings) error {
	redis.SetLogger(redisLog{p.log})
	if s.RedisURL == "" {
		client, stop := redisproof.Embedded()
		p.redis = client
		p.close = append(p.close, stop)
		return nil
	}
	client, err := redisproof.NewClient(s.RedisURL)
	if err != nil {
		return wrong("HYDRAGATE_REDIS_URL", "cannot be used: "+err.Error())
	}
	p.redis = client
	p.close = append(p.close, func() { _ = client.Close() })
	// The gateway works without Redis, but for claims: a restart must not wait for it.
	if err := client.Ping(ctx).Err(); err != nil {
		p.log.WarnContext(ctx, "Redis does not answer: no claim can be issued or redeemed until it does", "setting", "HYDRAGATE_REDIS_URL", "error", err)
	}
	return nil
}

// claimKeys gives what claim proofs are keyed with, as the master keys are now.
func claimKeys(keys *store.KeyRing) func() [][]byte {
	return func() [][]byte { return keys.Derive("claim/v1") }
}

func (p *parts) wire(speak map[adapters.Channel]adapters.Adapter, keys *store.KeyRing, publicURL string, private bool) {
	holder := holderName()
	wake := func(kinds ...gateway.LaneKind) {
		for _, l := range p.lanes {
			for _, k := range kinds {
				if l.Kind == k {
					l.Wake()
				}
			}
		}
	}
	desk := &claim.Desk{Ledger: p.store, Proofs: &redisproof.Proofs{Redis: p.redis, Keys: claimKeys(keys)}}
	p.channels = &gateway.Channels{Adapters: speak, Store: p.store, PublicURL: publicURL, Log: p.log}
	worker := &gateway.Worker{Store: p.store, Desk: desk, Channels: p.channels, Adapters: speak, Log: p.log, Now: time.Now, Woken: wake}
	poster := &delivery.Poster{Store: p.store, Client: delivery.NewClient(private), Adapters: speak, Log: p.log, Now: time.Now, Woken: wake}
	sender := &gateway.Sender{Store: p.store, Channels: p.channels, Adapters: speak, Log: p.log, Now: time.Now}
	lanes := func(kind gateway.LaneKind, size int, work func(context.Context, gateway.Lease, gateway.Turn) error) {
		p.lanes = append(p.lanes, gateway.NewLanes(&gateway.Lanes{Kind: kind, Store: p.store, Holder: holder, Size: size, Log: p.log, Work: work, Shared: kind != gateway.InboxLane}))
	}
	lanes(gateway.InboxLane, inboxSize, worker.Work)
	lanes(gateway.DeliveryLane, deliverySize, poster.Work)
	lanes(gateway.OutboxLane, outboxSize, sender.Work)
	p.pressure = &gateway.Pressure{Store: p.store, Log: p.log}
	p.inbox = gateway.NewInbox(p.store, func() { wake(gateway.InboxLane) }, p.log)
	p.inbox.Pressure = p.pressure
	p.backfill = &gateway.Backfill{Store: p.store, Inbox: p.inbox, Adapters: speak, Log: p.log}
	p.spooler = gateway.NewSpooler(&gateway.Spooler{
		Spool: p.spool, Keys: keys, Seats: p.channels, Store: p.store, Pressure: p.pressure, Log: p.log, Recovered: p.backfill.Hurry,
	})
	p.inbox.Keep(p.spooler)
	p.pollers = &gateway.Pollers{Store: p.store, Inbox: p.inbox, Adapters: speak, Holder: holder, Log: p.log}
	p.retention = &gateway.Retention{Store: p.store, Log: p.log}
	p.hooks = &httpapi.Hooks{Adapters: speak, Endpoints: p.spooler, Inbox: p.inbox, Log: p.log}
	p.api = p.newAPI(desk, publicURL, private)
}

// handler answers everything. The hooks stand beside the API: they have shapes, limits
// and log lines of their own. No mux stands around both, since it would redirect who
// asks for a path with dots or doubled slashes; the API answers that there is nothing.
func (p *parts) handler() http.Handler {
	hooks, api := http.NewServeMux(), p.api.Handler()
	p.hooks.Mount(hooks)
	both := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/hooks/") && path.Clean(r.URL.Path) == r.URL.Path {
			hooks.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
	if p.traced {
		return traced(both)
	}
	return both
}

func (p *parts) newAPI(desk *claim.Desk, publicURL string, private bool) *httpapi.API {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reg.MustRegister(gateway.Collectors()...)
	reg.MustRegister(delivery.Collectors()...)
	reg.MustRegister(httpapi.Collectors()...)
	var events []httpapi.EventKind
	for _, k := range delivery.Kinds() {
		events = append(events, httpapi.EventKind(k))
	}
	return &httpapi.API{
		Store: p.store, Users: p.store, Contacts: p.store, Channels: p.channels, Desk: desk, Forgetter: desk.Proofs, Log: p.log, Metrics: reg, Version: versionString(), PublicURL: publicURL,
		Events:             events,
		AllowPrivateAgents: private,
		Instructions: func(c claim.Issued, seat gateway.Seat, ok bool) string {
			return gateway.Instructions(c, seat.Endpoint, ok)
		},
		Ready: func(ctx context.Context) error { return p.redis.Ping(ctx).Err() },
		Busy:  p.pressure.High,
	}
}

// holderName names this process in leases: unique, and telling to who reads the
// database.
func holderName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), uuid.NewString()[:8])
}

// work runs everything behind the hooks. It stops taking when ctx ends, and what is
// in work may go on until hard ends. It returns when all of it has ended.
func (p *parts) work(ctx, hard context.Context) {
	var wg sync.WaitGroup
	for _, l := range p.lanes {
		wg.Go(func() { l.Run(ctx, hard) })
	}
	wg.Go(func() { p.pollers.Run(ctx) })
	wg.Go(func() { p.channels.Run(ctx) })
	wg.Go(func() { p.retention.Run(ctx) })
	wg.Go(func() { p.pressure.Run(ctx) })
	wg.Go(func() { p.backfill.Run(ctx) })
	if p.keyFile != nil {
		wg.Go(func() { p.keyFile.tend(ctx, p.store, p.spool, p.log) })
	}
	wg.Wait()
}

func (p *parts) closeAll() {
	for i := len(p.close) - 1; i >= 0; i-- {
		p.close[i]()
	}
	p.close = nil
}
