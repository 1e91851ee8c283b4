package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
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
	"hydragate/claim/rediscode"
	"hydragate/gateway"
	"hydragate/gateway/delivery"
	"hydragate/gateway/endpoints"
	"hydragate/gateway/ingest"
	"hydragate/gateway/ingest/spool"
	"hydragate/gateway/outbox"
	"hydragate/gateway/process"
	"hydragate/gateway/queue"
	"hydragate/httpapi"
	"hydragate/httpapi/contactapi"
	"hydragate/httpapi/oidc"
	"hydragate/httpapi/operation"
	"hydragate/httpapi/userapi"
	"hydragate/httpapi/webhook"
	"hydragate/identity"
	"hydragate/store"
	"hydragate/store/keyring"
)

// A Gateway is the whole gateway, put together and not yet running.
type Gateway struct {
	Store          *store.Store
	Redis          redis.UniversalClient
	Endpoints      *endpoints.Manager
	Inbox          *ingest.Inbox
	Queues         []*queue.Runner
	pollers        *ingest.Pollers
	retention      *gateway.Purger
	Backpressure   *ingest.Backpressure
	spool          *spool.Spool
	spooler        *ingest.Spooler
	Backfill       *ingest.Backfill
	keyFile        *KeyFile // nil: the keys are in the settings
	API            *httpapi.API
	Webhooks       *webhook.Handler
	Log            *slog.Logger
	tracingEnabled bool
	closers        []func()
}

// How much is worked at once. Delivery waits for runtimes and outbox for channels, so
// both have more in hand than the processors could work; half of it is the most that one
// instance has.
const (
	inboxSize    = 8
	DeliverySize = 512
	OutboxSize   = 64
)

// New puts the parts together. publicURL is where providers reach them.
func New(ctx context.Context, s *Settings, publicURL string, log *slog.Logger) (p *Gateway, err error) {
	p = &Gateway{Log: log}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	dsn, err := s.DSN()
	if err != nil {
		return p, err
	}
	keys, err := s.KeyRing()
	if err != nil {
		return p, err
	}
	if p.spool, err = s.openSpool(log); err != nil {
		return p, err
	}
	p.closers = append(p.closers, p.spool.Close)
	if p.Store, err = store.Open(ctx, dsn, keys); err != nil {
		return p, databaseError(s, err)
	}
	p.closers = append(p.closers, p.Store.Close)
	if err := p.openRedis(ctx, s); err != nil {
		return p, err
	}
	if s.usesKeyFile() {
		file := s.KeyFile()
		p.keyFile = &file
	}
	private, err := s.allowPrivateAgents()
	if err != nil {
		return p, err
	}
	speak := newAdapters(s, log)
	p.wireComponents(speak, keys, publicURL, private)
	p.tracingEnabled = s.OTLPEndpoint != ""
	if s.OIDCIssuer != "" {
		p.API.Staff, p.API.StaffIssuer = oidc.NewVerifier(s.OIDCIssuer, s.OIDCAudience, log), s.OIDCIssuer
	}
	return p, nil
}

// newAdapters gives the adapters, by channel.
func newAdapters(s *Settings, log *slog.Logger) map[adapters.Channel]adapters.Adapter {
	return map[adapters.Channel]adapters.Adapter{
		adapters.Telegram: &telegram.Adapter{APIURL: s.TelegramAPIURL, Log: log},
		adapters.SMS:      &sms.Adapter{Name: adapters.SMS, APIURL: s.TwilioAPIURL},
		adapters.WhatsApp: &sms.Adapter{Name: adapters.WhatsApp, APIURL: s.TwilioAPIURL},
		adapters.Slack:    &slack.Adapter{APIURL: s.SlackAPIURL, Log: log},
	}
}

// redisLogger keeps the client's own words in the program's log.
type redisLogger struct{ log *slog.Logger }

// Printf implements the client's logging interface.
func (l redisLogger) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client", "said", fmt.Sprintf(format, v...))
}

func (p *Gateway) openRedis(ctx context.Context, s *Settings) error {
	redis.SetLogger(redisLogger{p.Log})
	if s.RedisURL == "" {
		client, stop := rediscode.NewEmbedded()
		p.Redis = client
		p.closers = append(p.closers, stop)
		return nil
	}
	client, err := rediscode.NewClient(s.RedisURL)
	if err != nil {
		return InvalidSetting("HYDRAGATE_REDIS_URL", "cannot be used: "+err.Error())
	}
	p.Redis = client
	p.closers = append(p.closers, func() { _ = client.Close() })
	// The gateway works without Redis, but for claims: a restart must not wait for it.
	if err := client.Ping(ctx).Err(); err != nil {
		p.Log.WarnContext(ctx, "Redis does not answer: no claim can be issued or redeemed until it does", "setting", "HYDRAGATE_REDIS_URL", "error", err)
	}
	return nil
}

// ClaimKeys gives what claim proofs are keyed with, as the master keys are now.
func ClaimKeys(keys *keyring.Ring) func() [][]byte {
	return func() [][]byte { return keys.Derive("claim/v1") }
}

func (p *Gateway) wireComponents(speak map[adapters.Channel]adapters.Adapter, keys *keyring.Ring, publicURL string, private bool) {
	holder := leaseHolder()
	reg := newMetricsRegistry()
	received := ingest.NewMetrics(reg)
	wake := func(kinds ...gateway.QueueKind) {
		for _, l := range p.Queues {
			for _, k := range kinds {
				if l.Kind == k {
					l.Wake()
				}
			}
		}
	}
	desk := &claim.Service{Store: p.Store, Codes: &rediscode.Store{Redis: p.Redis, Keys: ClaimKeys(keys)}}
	p.Endpoints = &endpoints.Manager{Adapters: speak, Store: p.Store, PublicURL: publicURL, Log: p.Log}
	worker := &process.Worker{Store: p.Store, Claims: desk, Endpoints: p.Endpoints, Adapters: speak, Log: p.Log, Metrics: process.NewMetrics(reg), Now: time.Now, Wake: wake}
	poster := &delivery.Deliverer{Store: p.Store, Client: delivery.NewClient(private), Adapters: speak, Log: p.Log, Metrics: delivery.NewMetrics(reg), Now: time.Now, Wake: wake}
	sender := &outbox.Sender{Store: p.Store, Endpoints: p.Endpoints, Adapters: speak, Log: p.Log, Metrics: outbox.NewMetrics(reg), Now: time.Now}
	lanes := func(kind gateway.QueueKind, size int, work func(context.Context, gateway.Lease, queue.Slice) error) {
		p.Queues = append(p.Queues, queue.NewRunner(&queue.Runner{Kind: kind, Store: p.Store, Holder: holder, Concurrency: size, Log: p.Log, Process: work, LimitPerInstance: kind != gateway.InboxQueue}))
	}
	lanes(gateway.InboxQueue, inboxSize, worker.Run)
	lanes(gateway.DeliveryQueue, DeliverySize, poster.Run)
	lanes(gateway.OutboxQueue, OutboxSize, sender.Run)
	p.Backpressure = &ingest.Backpressure{Store: p.Store, Log: p.Log, Metrics: received}
	p.Inbox = ingest.NewInbox(p.Store, func() { wake(gateway.InboxQueue) }, p.Log)
	p.Inbox.Backpressure, p.Inbox.Metrics = p.Backpressure, received
	p.Backfill = &ingest.Backfill{Store: p.Store, Inbox: p.Inbox, Adapters: speak, Log: p.Log, Metrics: received}
	p.spooler = ingest.NewSpooler(&ingest.Spooler{
		Spool: p.spool, Cipher: keys, Endpoints: p.Endpoints, Store: p.Store, Backpressure: p.Backpressure, Log: p.Log, Metrics: received, OnRecovered: p.Backfill.Trigger,
	})
	p.Inbox.UseSpooler(p.spooler)
	p.pollers = &ingest.Pollers{Store: p.Store, Inbox: p.Inbox, Adapters: speak, Holder: holder, Log: p.Log}
	p.retention = &gateway.Purger{Store: p.Store, Log: p.Log}
	p.Webhooks = &webhook.Handler{Adapters: speak, Endpoints: p.spooler, Inbox: p.Inbox, Log: p.Log, Metrics: webhook.NewMetrics(reg)}
	p.API = p.newAPI(desk, publicURL, private, reg)
}

// newMetricsRegistry returns a registry with the metrics of the Go runtime and the process.
func newMetricsRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Handler answers everything. The hooks stand beside the API: they have shapes, limits
// and log lines of their own. No mux stands around both, since it would redirect who
// asks for a path with dots or doubled slashes; the API answers that there is nothing.
func (p *Gateway) Handler() http.Handler {
	hooks, api := http.NewServeMux(), p.API.Handler()
	p.Webhooks.Mount(hooks)
	both := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/hooks/") && path.Clean(r.URL.Path) == r.URL.Path {
			hooks.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
	if p.tracingEnabled {
		return traceRequests(both)
	}
	return both
}

func (p *Gateway) newAPI(desk *claim.Service, publicURL string, private bool, reg *prometheus.Registry) *httpapi.API {
	var events []httpapi.EventType
	for _, k := range delivery.EventTypes() {
		events = append(events, httpapi.EventType(k))
	}
	limiter := &operation.RateLimiter{}
	users, contacts := &userapi.API{Store: p.Store, Limiter: limiter}, &contactapi.API{Store: p.Store, PublicURL: publicURL}
	return &httpapi.API{
		Stores: APIStores(p.Store), Surfaces: []*operation.Surface{users.Surface(), contacts.Surface()}, Limiter: limiter, Endpoints: p.Endpoints, Claims: desk, CodeDropper: desk.Codes, Log: p.Log, Metrics: reg, Version: Version(), PublicURL: publicURL,
		Events:                events,
		AllowPrivateAgentURLs: private,
		Instructions: func(c claim.IssuedCode, seat gateway.EndpointState, ok bool) string {
			return gateway.ClaimInstructions(c, seat.Endpoint, ok)
		},
		Ready:      func(ctx context.Context) error { return p.Redis.Ping(ctx).Err() },
		Overloaded: p.Backpressure.Active,
	}
}

// APIStores returns s as the stores of the API.
func APIStores(s *store.Store) httpapi.Stores {
	return httpapi.Stores{
		Health: s, Auth: s, Keys: s, Customers: s, Merges: s, Exports: s, Identities: s, Senders: s, Invites: s,
		Instances: s, Secrets: s, Audit: s, Idempotency: s,
	}
}

// leaseHolder names this process in leases: unique, and telling to who reads the
// database.
func leaseHolder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), uuid.NewString()[:8])
}

// runWorkers runs everything behind the hooks. It stops taking when ctx ends, and what is
// in work may go on until hard ends. It returns when all of it has ended.
func (p *Gateway) runWorkers(ctx, hard context.Context) {
	var wg sync.WaitGroup
	for _, l := range p.Queues {
		wg.Go(func() { l.Run(ctx, hard) })
	}
	wg.Go(func() { p.pollers.Run(ctx) })
	wg.Go(func() { p.Endpoints.Run(ctx) })
	wg.Go(func() { p.retention.Run(ctx) })
	wg.Go(func() { p.Backpressure.Run(ctx) })
	wg.Go(func() { p.Backfill.Run(ctx) })
	if p.keyFile != nil {
		wg.Go(func() { p.keyFile.maintain(ctx, p.Store, p.spool, p.Log) })
	}
	wg.Wait()
}

func (p *Gateway) Close() {
	for i := len(p.closers) - 1; i >= 0; i-- {
		p.closers[i]()
	}
	p.closers = nil
}

// checkMasterKeys says which keys are missing for what is in use, and refuses a start with keys
// that sealed nothing of it. With some of them a gateway starts: what hangs on the
// others waits, and in a rotation done in another order than it should be that is less
// than an outage.
func (p *Gateway) checkMasterKeys(ctx context.Context, s *Settings) error {
	within, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	inUse, err := p.Store.ActiveKeyUsage(within)
	if err != nil {
		p.Log.WarnContext(ctx, "not known whether all master keys in use are given", "error", err)
		return nil
	}
	var missing []string
	opens := false
	for _, h := range inUse {
		switch {
		case h.Values() == 0:
		case h.Available:
			opens = true
		default:
			missing = append(missing, fmt.Sprintf("%.40q for %s", h.Key, formatCounts(h)))
		}
	}
	switch {
	case len(missing) == 0:
	case opens:
		p.Log.WarnContext(ctx, "master keys that something in use is sealed with are missing: it waits for them", "setting", "HYDRAGATE_MASTER_KEYS", "missing", strings.Join(missing, "; "))
	default:
		return InvalidSetting(s.masterKeySource(), "cannot decrypt this database: add the missing keys: "+strings.Join(missing, "; "))
	}
	return nil
}

// prepare does what a start has to do before anything is taken or worked.
func (p *Gateway) prepare(ctx context.Context, s *Settings) (key string, err error) {
	if err := p.checkMasterKeys(ctx, s); err != nil {
		return "", err
	}
	if !s.usesPostgres() { // the folder is locked: whoever held a lease is dead
		if err := p.Store.ReleaseStale(ctx); err != nil {
			return "", err
		}
	}
	p.spooler.TakeOver(ctx)
	return p.EnsureAdminKey(ctx, s)
}

// EnsureAdminKey makes sure that somebody can call the API. It gives the key when it was
// made now: it is shown once.
func (p *Gateway) EnsureAdminKey(ctx context.Context, s *Settings) (key string, err error) {
	if s.AdminKey != "" {
		_, err := p.Store.EnsureAPIKey(ctx, identity.DefaultTenant, "bootstrap", s.AdminKey, identity.Scopes)
		return "", err
	}
	n, err := p.Store.CountAPIKeys(ctx)
	if err != nil || n > 0 {
		return "", err
	}
	if s.usesPostgres() {
		return "", InvalidSetting("HYDRAGATE_ADMIN_KEY", "is required, because the database has no API key yet: set it to at least 32 random characters")
	}
	key = identity.NewToken("hg_live_")
	_, err = p.Store.EnsureAPIKey(ctx, identity.DefaultTenant, "bootstrap", key, identity.Scopes)
	return key, err
}

// Run serves and works until ctx ends: then readiness goes, polling and leasing stop,
// requests in work end, what is leased is finished, and leases go back. finished is
// false when something hung and was left behind; its lease runs out by itself.
func (p *Gateway) Run(ctx context.Context, l net.Listener, up func()) (finished bool, err error) {
	taking, stopTaking := context.WithCancel(context.WithoutCancel(ctx))
	hard, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	storing, stopStoring := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer stopTaking()
	defer stopStoring()

	srv := newServer(p.Handler(), p.Log)
	failed := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { p.Inbox.Run(storing) })
	wg.Go(func() { p.spooler.Run(storing) })
	wg.Go(func() { p.runWorkers(taking, hard) })
	wg.Go(func() { failed <- srv.Serve(l) })
	up()

	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	started := time.Now()
	p.Log.Info("stopping")
	p.API.Drain()
	stopTaking()
	timer := time.AfterFunc(workShutdownTimeout, giveUp)
	defer timer.Stop()
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpShutdownTimeout)
	defer cancel()
	if serr := srv.Shutdown(finish); serr != nil {
		_ = srv.Close()
	}
	stopStoring()
	finished = waitTimeout(&wg, shutdownTimeout-time.Since(started))
	p.Log.Info("stopped", "took", time.Since(started).Round(time.Millisecond), "finished", finished)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return finished, err
}
