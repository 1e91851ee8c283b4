// Package app assembles and runs the gateway: settings, wiring, start and shutdown, tracing, and the
// work of the commands that concern a gateway. It does not parse the command line, and contains
// neither the demo nor the import and export of customers.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
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
	"hydragate/gateway/redisbus"
	"hydragate/httpapi"
	"hydragate/httpapi/contactapi"
	"hydragate/httpapi/oidc"
	"hydragate/httpapi/operation"
	"hydragate/httpapi/userapi"
	"hydragate/httpapi/webhook"
	"hydragate/store"
	"hydragate/store/keyring"
)

// A Gateway is an assembled gateway. Run starts it.
type Gateway struct {
	Store          *store.Store
	Redis          redis.UniversalClient
	Endpoints      *endpoints.Manager
	Inbox          *ingest.Inbox
	Queues         []*queue.Runner
	pollers        *ingest.Pollers
	retention      *gateway.Purger
	holder         string
	replicas       *gateway.ReplicaMonitor // nil if no other gateway can use the database
	Backpressure   *ingest.Backpressure
	spool          *spool.Spool
	spooler        *ingest.Spooler
	Backfill       *ingest.Backfill
	keyFile        *KeyFile // nil if the keys are in the settings
	API            *httpapi.API
	Webhooks       *webhook.Handler
	Log            *slog.Logger
	proxies        operation.Proxies
	tracingEnabled bool
	closers        []func()
}

// The number of conversations that each queue processes concurrently. Delivery waits for
// applications and the outbox for providers, so these have more than the processors could use. One
// instance gets at most half of them.
const (
	inboxSize    = 8
	DeliverySize = 512
	OutboxSize   = 64
)

// New opens the stores and assembles a gateway. publicURL is the URL at which providers reach it.
// The caller must call Close.
func New(ctx context.Context, s *Settings, publicURL string, log *slog.Logger) (*Gateway, error) {
	g := &Gateway{Log: log}
	if err := g.open(ctx, s, publicURL); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// open opens the stores and wires the components. After an error, the caller must call Close.
func (g *Gateway) open(ctx context.Context, s *Settings, publicURL string) error {
	dsn, err := s.DSN()
	if err != nil {
		return err
	}
	keys, err := s.KeyRing()
	if err != nil {
		return err
	}
	if g.spool, err = s.openSpool(g.Log); err != nil {
		return err
	}
	g.closers = append(g.closers, g.spool.Close)
	if g.Store, err = store.Open(ctx, dsn, keys); err != nil {
		return databaseError(s, err)
	}
	g.closers = append(g.closers, g.Store.Close)
	if err := g.openRedis(ctx, s); err != nil {
		return err
	}
	if s.usesKeyFile() {
		file := s.KeyFile()
		g.keyFile = &file
	}
	private, err := s.allowPrivateAgents()
	if err != nil {
		return err
	}
	if g.proxies, err = s.proxies(); err != nil {
		return err
	}
	byChannel := g.newAdapters(s)
	limited, err := s.limitsSends()
	if err != nil {
		return err
	}
	g.wireComponents(byChannel, keys, publicURL, private)
	if g.Endpoints.CheckInterval, err = s.checkInterval(); err != nil {
		return err
	}
	g.pollers.MaxProofTime = g.Endpoints.CheckInterval
	g.wireSender(byChannel, s.usesPostgres(), limited)
	if err := g.wireReplicas(s, keys); err != nil {
		return err
	}
	g.API.HideMetrics = s.AdminListen != ""
	g.tracingEnabled = s.OTLPEndpoint != ""
	if s.OIDCIssuer != "" {
		g.API.Staff, g.API.StaffIssuer = oidc.NewVerifier(s.OIDCIssuer, s.OIDCAudience, g.Log), s.OIDCIssuer
	}
	return nil
}

// newAdapters returns the adapters by channel.
func (g *Gateway) newAdapters(s *Settings) map[adapters.Channel]adapters.Adapter {
	notify := func(ctx context.Context, ep adapters.Endpoint, n adapters.ProviderNotice) {
		g.Endpoints.Notify(ctx, ep, gateway.Notice{Kind: gateway.ProviderNotice, Reason: n.Reason, Detail: n.Detail})
	}
	return map[adapters.Channel]adapters.Adapter{
		adapters.Telegram: &telegram.Adapter{APIURL: s.TelegramAPIURL, Log: g.Log},
		adapters.SMS:      &sms.Adapter{Name: adapters.SMS, APIURL: s.TwilioAPIURL},
		adapters.WhatsApp: &sms.Adapter{Name: adapters.WhatsApp, APIURL: s.TwilioAPIURL},
		adapters.Slack:    &slack.Adapter{APIURL: s.SlackAPIURL, Log: g.Log, Notify: notify},
	}
}

// redisLogger writes the log of the Redis client to the log of the program.
type redisLogger struct{ log *slog.Logger }

// Printf implements the client's logging interface.
func (l redisLogger) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, v...))
}

// openRedis connects to Redis, or starts the embedded Redis if no URL is set.
func (g *Gateway) openRedis(ctx context.Context, s *Settings) error {
	redis.SetLogger(redisLogger{g.Log})
	if s.RedisURL == "" {
		client, stop := rediscode.NewEmbedded()
		g.Redis = client
		g.closers = append(g.closers, stop)
		return nil
	}
	client, err := rediscode.NewClient(s.RedisURL)
	if err != nil {
		return InvalidSetting("HYDRAGATE_REDIS_URL", "cannot be used: "+err.Error())
	}
	g.Redis = client
	g.closers = append(g.closers, func() { _ = client.Close() })
	// Everything except claims works without Redis, so a restart must not wait for it.
	if err := client.Ping(ctx).Err(); err != nil {
		g.Log.WarnContext(ctx, "redis unavailable, claim codes cannot be issued or redeemed until it is back",
			"setting", "HYDRAGATE_REDIS_URL", "error", err)
	}
	return nil
}

// ClaimKeys returns a function that derives the keys for the hashes of claim codes from the current
// master keys.
func ClaimKeys(keys *keyring.Ring) func() [][]byte {
	return func() [][]byte { return keys.Derive("claim/v1") }
}

// wireComponents creates the components and connects them.
func (g *Gateway) wireComponents(
	byChannel map[adapters.Channel]adapters.Adapter, keys *keyring.Ring, publicURL string, private bool,
) {
	holder, reg := leaseHolder(), newMetricsRegistry()
	g.holder = holder
	claims := &claim.Service{Store: g.Store, Codes: &rediscode.Store{Redis: g.Redis, Keys: ClaimKeys(keys)}}
	g.Endpoints = &endpoints.Manager{
		Adapters: byChannel, Store: g.Store, Checks: g.Store, Metrics: endpoints.NewMetrics(reg),
		PublicURL: publicURL, Log: g.Log,
	}
	g.wireIngest(byChannel, keys, holder, ingest.NewMetrics(reg))
	worker := &process.Worker{
		Store: g.Store, Claims: claims, Endpoints: g.Endpoints, Adapters: byChannel,
		Log: g.Log, Metrics: process.NewMetrics(reg), Now: time.Now, Wake: g.wake,
	}
	g.addQueue(gateway.InboxQueue, inboxSize, holder, worker.Run)
	g.addQueue(gateway.DeliveryQueue, DeliverySize, holder, (&delivery.Deliverer{
		Store: g.Store, Client: delivery.NewClient(private), Adapters: byChannel,
		Log: g.Log, Metrics: delivery.NewMetrics(reg), Now: time.Now, Wake: g.wake,
	}).Run)
	g.retention = &gateway.Purger{Store: g.Store, Log: g.Log}
	g.Webhooks = &webhook.Handler{
		Adapters: byChannel, Endpoints: g.spooler, Inbox: g.Inbox, Notices: g.Endpoints,
		Proxies: g.proxies, Log: g.Log, Metrics: webhook.NewMetrics(reg),
	}
	g.API = g.newAPI(claims, publicURL, private, reg)
	g.API.Confirmer = &process.InviteConfirmer{Store: g.Store, Worker: worker}
}

// wireSender creates the sender of replies. Its limits are shared with other gateways, which exist only
// with PostgreSQL.
func (g *Gateway) wireSender(byChannel map[adapters.Channel]adapters.Adapter, shared, limited bool) {
	var pacer outbox.Pacer = &outbox.LocalPacer{}
	if shared {
		pacer = &redisbus.Pacer{Redis: g.Redis, Log: g.Log}
	}
	g.addQueue(gateway.OutboxQueue, OutboxSize, g.holder, (&outbox.Sender{
		Store: g.Store, Endpoints: g.Endpoints, Adapters: byChannel, Notices: g.Endpoints, Pacer: pacer,
		Unlimited: !limited,
		Log:       g.Log, Metrics: outbox.NewMetrics(g.API.Metrics), Now: time.Now,
	}).Run)
}

// wireReplicas creates the monitor of other gateways. With the embedded database there are none,
// because the data directory is locked.
func (g *Gateway) wireReplicas(s *Settings, keys *keyring.Ring) error {
	single, err := s.isSingleReplica()
	if err != nil || !s.usesPostgres() {
		return err
	}
	g.replicas = gateway.NewReplicaMonitor(&gateway.ReplicaMonitor{
		Store: g.Store, Holder: g.holder, Single: single, Log: g.Log,
		CodeStore: (&rediscode.Store{Redis: g.Redis, Keys: ClaimKeys(keys)}).ID,
	}, g.API.Metrics)
	g.API.ReplicaConflict = g.replicas.HasConflict
	return nil
}

// wireIngest creates the components that receive messages.
func (g *Gateway) wireIngest(
	byChannel map[adapters.Channel]adapters.Adapter, keys *keyring.Ring, holder string, metrics *ingest.Metrics,
) {
	g.Backpressure = &ingest.Backpressure{Store: g.Store, Log: g.Log, Metrics: metrics}
	g.Inbox = ingest.NewInbox(g.Store, func() { g.wake(gateway.InboxQueue) }, g.Log)
	g.Inbox.Backpressure, g.Inbox.Metrics = g.Backpressure, metrics
	g.Backfill = &ingest.Backfill{Store: g.Store, Inbox: g.Inbox, Adapters: byChannel, Log: g.Log, Metrics: metrics}
	g.spooler = ingest.NewSpooler(&ingest.Spooler{
		Spool: g.spool, Cipher: keys, Endpoints: g.Endpoints, Store: g.Store, Backpressure: g.Backpressure,
		Log: g.Log, Metrics: metrics, OnRecovered: g.Backfill.Trigger,
	})
	g.Inbox.UseSpooler(g.spooler)
	g.pollers = &ingest.Pollers{Store: g.Store, Inbox: g.Inbox, Adapters: byChannel, Holder: holder, Log: g.Log}
}

// addQueue adds a queue that processes size conversations concurrently.
func (g *Gateway) addQueue(
	kind gateway.QueueKind, size int, holder string, process func(context.Context, gateway.Lease, queue.Slice) error,
) {
	g.Queues = append(g.Queues, queue.NewRunner(&queue.Runner{
		Kind: kind, Store: g.Store, Holder: holder, Concurrency: size, Log: g.Log, Process: process,
		LimitPerInstance: kind != gateway.InboxQueue,
	}))
}

// wake makes the queues look for work immediately.
func (g *Gateway) wake(kinds ...gateway.QueueKind) {
	for _, q := range g.Queues {
		if slices.Contains(kinds, q.Kind) {
			q.Wake()
		}
	}
}

// newMetricsRegistry returns a registry with the metrics of the Go runtime and the process.
func newMetricsRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Handler returns the handler of the API and of the webhooks, which have limits and log lines of
// their own. It does not use a ServeMux for both, because that would redirect paths with dots or
// double slashes; the API answers them with 404.
func (g *Gateway) Handler() http.Handler {
	webhooks, api := http.NewServeMux(), g.API.Handler()
	g.Webhooks.Mount(webhooks)
	both := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/hooks/") && path.Clean(r.URL.Path) == r.URL.Path {
			webhooks.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
	if g.tracingEnabled {
		return traceRequests(both)
	}
	return both
}

// newAPI creates the API and its surfaces.
func (g *Gateway) newAPI(
	claims *claim.Service, publicURL string, private bool, reg *prometheus.Registry,
) *httpapi.API {
	var events []httpapi.EventType
	for _, t := range delivery.EventTypes() {
		events = append(events, httpapi.EventType(t))
	}
	limiter, failures := &operation.RateLimiter{}, &operation.FailureLimiter{}
	users := &userapi.API{Store: g.Store, Limiter: limiter, Failures: failures, Proxies: g.proxies}
	contacts := &contactapi.API{Store: g.Store, PublicURL: publicURL}
	return &httpapi.API{
		Stores:                APIStores(g.Store),
		Surfaces:              []*operation.Surface{users.Surface(), contacts.Surface()},
		Limiter:               limiter,
		Failures:              failures,
		Proxies:               g.proxies,
		Endpoints:             g.Endpoints,
		Claims:                claims,
		CodeDropper:           claims.Codes,
		Log:                   g.Log,
		Metrics:               reg,
		Version:               Version(),
		PublicURL:             publicURL,
		Events:                events,
		AllowPrivateAgentURLs: private,
		Ready:                 func(ctx context.Context) error { return g.Redis.Ping(ctx).Err() },
		Overloaded:            g.Backpressure.Active,
	}
}

// APIStores returns s as the stores of the API.
func APIStores(s *store.Store) httpapi.Stores {
	return httpapi.Stores{
		Health: s, Auth: s, Keys: s, Customers: s, Merges: s, Exports: s, Identities: s, Senders: s, Invites: s, Codes: s,
		Instances: s, Tenants: s, Secrets: s, Audit: s, Idempotency: s,
	}
}

// leaseHolder returns a unique name of this process for leases. It includes the host name, for
// operators.
func leaseHolder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), uuid.NewString()[:8])
}

// Close closes the stores, in the reverse order of opening.
func (g *Gateway) Close() {
	for _, c := range slices.Backward(g.closers) {
		c()
	}
	g.closers = nil
}
