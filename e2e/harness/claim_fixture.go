//go:build unix

package harness

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"hydragate/adapters"
	"hydragate/adapters/telegram"
	"hydragate/claim"
	"hydragate/claim/rediscode"
	"hydragate/cmd/hydragate/app"
	"hydragate/gateway"
	"hydragate/gateway/ingest"
	"hydragate/gateway/process"
	"hydragate/gateway/queue"
	"hydragate/identity"
	"hydragate/store"
	"hydragate/store/keyring"
)

// TestTenantID is the tenant of the tests.
const TestTenantID = identity.DefaultTenant

// BotUsername is the username of the bot of a ClaimFixture.
const BotUsername = "acme_bot"

// A ClaimFixture is a store, a code store, an inbox and a worker with one instance, without a running
// gateway. Tests process the messages step by step.
type ClaimFixture struct {
	T         *testing.T
	Store     *store.Store
	Redis     redis.UniversalClient
	Keys      *keyring.Ring
	MasterKey string
	Claims    *claim.Service
	inbox     *ingest.Inbox
	*DB
	RedisURL   string           // empty: in this process
	Channel    adapters.Channel // of the endpoint
	InstanceID string
	Log        io.Writer
	Holder     string

	nextKey atomic.Int64
}

// ForEachStore runs test on SQLite with the embedded Redis, and on Postgres with a Redis server.
func ForEachStore(t *testing.T, test func(t *testing.T, h *ClaimFixture)) {
	t.Run("sqlite+embedded", func(t *testing.T) {
		client, stop := rediscode.NewEmbedded()
		t.Cleanup(stop)
		test(t, newClaimFixture(t, filepath.Join(t.TempDir(), "hydragate.db"), "", client))
	})
	t.Run("postgres+redis", func(t *testing.T) { test(t, NewServerClaimFixture(t, nil)) })
}

// NewServerClaimFixture returns a fixture on Postgres and a Redis server. prepare, if not nil, is called
// with the empty database.
func NewServerClaimFixture(t *testing.T, prepare func(*DB)) *ClaimFixture {
	t.Helper()
	database := CreateDatabase(t, TestPostgresURL(t))
	if prepare != nil {
		prepare(OpenDatabase(t, database))
	}
	address := TestRedisURL(t)
	client, err := rediscode.NewClient(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return newClaimFixture(t, database, address, client)
}

func newClaimFixture(t *testing.T, database, redisURL string, client redis.UniversalClient) *ClaimFixture {
	t.Helper()
	h := &ClaimFixture{
		T:         t,
		RedisURL:  redisURL,
		Redis:     client,
		MasterKey: keyring.GenerateKey("k1"),
		Log:       io.Discard,
		Channel:   adapters.Telegram,
		Holder:    "test",
	}
	var err error
	if h.Keys, err = keyring.Parse(h.MasterKey); err != nil {
		t.Fatal(err)
	}
	if h.Store, err = store.Open(t.Context(), database, h.Keys); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Store.Close)
	h.DB = OpenDatabase(t, database)
	codes := &rediscode.Store{Redis: client, Keys: app.ClaimKeys(h.Keys)}
	h.Claims = &claim.Service{Store: h.Store, Codes: patientCodeStore{codes}}
	i, err := h.Store.CreateInstance(
		t.Context(),
		gateway.Instance{TenantID: TestTenantID, Name: "acme", UnknownSenders: gateway.ForwardUnknown},
		gateway.InstanceSecrets{
			AgentSecretKey: "ask_" + uuid.NewString(),
			WebhookSecret:  "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		},
		identity.System,
	)
	if err != nil {
		t.Fatal(err)
	}
	h.InstanceID = i.ID
	h.inbox = ingest.NewInbox(h.Store, func() {}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.inbox.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return h
}

// UseT makes h report to t until done is called.
func (h *ClaimFixture) UseT(t *testing.T) (done func()) {
	outer := h.T
	h.T, h.DB.T = t, t
	return func() { h.T, h.DB.T = outer, outer }
}

// NewWorker returns a worker that uses the claim service and the store given. Database calls that time
// out are retried.
func (h *ClaimFixture) NewWorker(claims *claim.Service, messages process.MessageStore) *process.Worker {
	all := map[adapters.Channel]adapters.Adapter{}
	for _, channel := range adapters.Channels() {
		all[channel] = &telegram.Adapter{}
	}
	return &process.Worker{
		Store: retryingStore{messages}, Claims: claims,
		Endpoints: fixedEndpoint{h.endpoint()}, Adapters: all,
		Log: slog.New(slog.NewJSONHandler(h.Log, nil)), Now: time.Now, Wake: func(...gateway.QueueKind) {},
	}
}

// A fixedEndpoint returns the same endpoint for all instances.
type fixedEndpoint struct{ ep adapters.Endpoint }

func (s fixedEndpoint) Endpoint(context.Context, string, adapters.Channel) (adapters.Endpoint, error) {
	return s.ep, nil
}

func (h *ClaimFixture) endpoint() adapters.Endpoint {
	return adapters.Endpoint{
		ID: "endpoint", TenantID: TestTenantID, InstanceID: h.InstanceID,
		Channel: h.Channel, Mode: adapters.Webhook, Address: "1",
		Settings: map[string]string{adapters.BotUsername: BotUsername},
	}
}

// A LinkedIdentity is an identity of a customer.
type LinkedIdentity struct{ CustomerID, IdentityID, ExternalID string }

// CreateIdentity creates a customer with an unverified identity.
func (h *ClaimFixture) CreateIdentity(external string) LinkedIdentity {
	h.T.Helper()
	c, err := h.Store.CreateCustomer(
		h.T.Context(),
		identity.Customer{TenantID: TestTenantID, FirstName: "Steve"},
		identity.System,
	)
	if err != nil {
		h.T.Fatal(err)
	}
	i, err := h.Store.Link(
		h.T.Context(),
		identity.Identity{
			TenantID:   TestTenantID,
			CustomerID: c.ID,
			InstanceID: h.InstanceID,
			Channel:    string(h.Channel),
			ExternalID: external,
		},
		identity.System,
	)
	if err != nil {
		h.T.Fatal(err)
	}
	return LinkedIdentity{c.ID, i.ID, external}
}

// IssueCode issues a code. Each is issued by another actor, so that the limit per actor is not reached.
func (h *ClaimFixture) IssueCode(p LinkedIdentity) string {
	h.T.Helper()
	c, err := h.Claims.IssueCode(
		h.T.Context(),
		identity.Key{TenantID: TestTenantID, CustomerID: p.CustomerID, IdentityID: p.IdentityID},
		identity.Actor("key:"+uuid.NewString()),
	)
	if err != nil {
		h.T.Fatal(err)
	}
	return c.Code
}

// SendText stores a text that a sender sent in a chat. It returns the key of the message.
func (h *ClaimFixture) SendText(sender, chat, text string) (key string) {
	h.T.Helper()
	return h.SendMessage(
		adapters.Message{Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: sender}, Chat: adapters.Chat{ID: chat}},
	)
}

// SendMessage stores a message with a new key. It returns the key.
func (h *ClaimFixture) SendMessage(m adapters.Message) (key string) {
	h.T.Helper()
	h.SendMessages(&m)
	return m.Key
}

// SendMessages stores messages with new keys, which it sets in them.
func (h *ClaimFixture) SendMessages(ms ...*adapters.Message) {
	h.T.Helper()
	const perCall = 50
	for part := range slices.Chunk(ms, perCall) {
		var in adapters.Inbound
		for _, m := range part {
			m.Key = fmt.Sprintf("1:m:%d", h.nextKey.Add(1))
			if c, ok := adapters.ParseCommand(m.Text, BotUsername); ok {
				m.Command = &c
			}
			in.Messages = append(in.Messages, *m)
		}
		if err := h.inbox.Accept(h.T.Context(), h.endpoint(), in); err != nil {
			h.T.Fatal(err)
		}
	}
}

// ProcessAll processes messages, conversations concurrently, until none is left or none has become
// due for twenty seconds.
func (h *ClaimFixture) ProcessAll(w *process.Worker) {
	h.T.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	const idle = 20 * time.Second
	for deadline := time.Now().Add(idle); ; {
		leases, err := h.Store.Lease(h.T.Context(), gateway.InboxQueue, h.Holder, 100)
		if err != nil {
			h.T.Fatal(err)
		}
		if len(leases) == 0 {
			var left int
			h.Scan(`select count(*) from messages where state = 'new'`, nil, &left)
			if left == 0 || time.Now().After(deadline) {
				return
			}
			<-tick.C
			continue
		}
		for _, err := range Concurrently(len(leases), func(i int) error {
			return w.Run(h.T.Context(), leases[i], queue.NewSlice(h.T.Context(), time.Minute))
		}) {
			if err != nil {
				h.T.Error(err)
			}
		}
		deadline = time.Now().Add(idle)
	}
}

// ProcessOnce processes the messages that are due, once, and ignores errors.
func (h *ClaimFixture) ProcessOnce(w *process.Worker) {
	h.T.Helper()
	leases, err := h.Store.Lease(h.T.Context(), gateway.InboxQueue, h.Holder, 100)
	if err != nil {
		h.T.Fatal(err)
	}
	for _, l := range leases {
		_ = w.Run(h.T.Context(), l, queue.NewSlice(h.T.Context(), time.Minute))
	}
}

// ProcessMessages calls ProcessAll with a worker as in the program.
func (h *ClaimFixture) ProcessMessages() {
	h.T.Helper()
	h.ProcessAll(h.NewWorker(h.Claims, h.Store))
}

// patientCodeStore repeats calls that fail, and ignores deadlines of the caller, because Redis may take too
// long on a busy machine.
type patientCodeStore struct{ claim.CodeStore }

func (s patientCodeStore) Put(ctx context.Context, target claim.Target, code string) error {
	_, err := patiently(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.CodeStore.Put(ctx, target, code)
	})
	return err
}

func (s patientCodeStore) Find(
	ctx context.Context, target claim.Target, codes []string,
) (map[string]claim.Target, error) {
	return patiently(ctx, func(ctx context.Context) (map[string]claim.Target, error) {
		return s.CodeStore.Find(ctx, target, codes)
	})
}

func (s patientCodeStore) Peek(ctx context.Context, target claim.Target, code string) (claim.Result, error) {
	return patiently(ctx, func(ctx context.Context) (claim.Result, error) { return s.CodeStore.Peek(ctx, target, code) })
}

func patiently[T any](ctx context.Context, call func(context.Context) (T, error)) (result T, err error) {
	ctx = context.WithoutCancel(ctx)
	for range 20 {
		if result, err = call(ctx); err == nil {
			break
		}
	}
	return result, err
}

// retryingStore retries database calls that time out, because many concurrent calls may take longer
// than the limit for one.
type retryingStore struct{ process.MessageStore }

func (s retryingStore) PendingMessages(ctx context.Context, l gateway.Lease) (ins []gateway.StoredMessage, err error) {
	for {
		ins, err = s.MessageStore.PendingMessages(ctx, l)
		if !timedOut(err) || ctx.Err() != nil {
			return ins, err
		}
	}
}

func (s retryingStore) Apply(ctx context.Context, st gateway.Commit) error {
	for {
		err := s.MessageStore.Apply(ctx, st)
		if !timedOut(err) || ctx.Err() != nil {
			return err
		}
	}
}

// timedOut reports whether a call of the database took too long. SQLite then rolls back its transaction.
func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sql.ErrTxDone)
}

// Outcome returns the outcome of a message by its key.
func (h *ClaimFixture) Outcome(key string) (outcome string) {
	h.T.Helper()
	h.Scan(`select coalesce(outcome, '') from messages where key = $1`, []any{key}, &outcome)
	return outcome
}

// Replies returns the replies to a message by its key.
func (h *ClaimFixture) Replies(key string) string {
	h.T.Helper()
	return strings.Join(
		h.QueryTexts(
			`select o.text from outbox o join messages m on m.id = o.message_id where m.key = $1 order by o.seq`,
			key,
		),
		"\n",
	)
}

// GrantCount returns how often the identity was claimed, according to the audit log.
func (h *ClaimFixture) GrantCount(identityID string) (n int) {
	h.T.Helper()
	h.Scan(`select count(*) from audit_events where identity_id = $1 and kind = 'claim.redeemed'`, []any{identityID}, &n)
	return n
}

// NewAttempt returns an attempt to redeem a code, with a new message ID.
func (h *ClaimFixture) NewAttempt(p LinkedIdentity, code string) claim.Attempt {
	return claim.Attempt{
		TenantID: TestTenantID, InstanceID: h.InstanceID, Channel: string(h.Channel),
		SenderID: p.ExternalID, IdentityID: p.IdentityID,
		MessageID: uuid.Must(uuid.NewV7()).String(), Code: code, ReceivedAt: time.Now().UTC(),
	}
}

// RemoveClaimFence drops the constraint that rolls back a stale claim.
func (h *ClaimFixture) RemoveClaimFence() {
	h.T.Helper()
	h.DropConstraint("identities", "identities_claim", "constraint identities_claim check (claim_gen >= 0)")
}

// DropConstraint drops a check of a table. check is its definition in SQLite.
func (h *ClaimFixture) DropConstraint(table, name, check string) {
	h.T.Helper()
	if h.IsPostgres() {
		h.Exec(`alter table ` + table + ` drop constraint ` + name)
		return
	}
	conn, err := h.DB.Conn(h.T.Context())
	if err != nil {
		h.T.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, q := range []string{
		`pragma writable_schema = 1`,
		`update sqlite_master set sql = replace(sql, '` + check + `', '') where name = '` + table + `'`,
		`pragma writable_schema = reset`,
		// This changes the schema version, so that other connections read the schema again.
		`create table dropped_constraint (x)`,
	} {
		if _, err := conn.ExecContext(h.T.Context(), q); err != nil {
			h.T.Fatal(q, err)
		}
	}
}

// ShiftedQuery inserts into query the time received_at plus seconds.
func (h *ClaimFixture) ShiftedQuery(query, seconds string) string {
	if h.IsPostgres() {
		return fmt.Sprintf(query, "received_at + interval '"+seconds+" seconds'")
	}
	return fmt.Sprintf(query, "strftime('%Y-%m-%d %H:%M:%f+00:00', received_at, '"+seconds+" seconds')")
}

// NewExternalID returns a new external ID.
func (h *ClaimFixture) NewExternalID() string { return fmt.Sprint(720_000_000 + h.nextKey.Add(1)) }
