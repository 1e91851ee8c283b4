//go:build unix

package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"hydragate/adapters"
	"hydragate/adapters/telegram"
	"hydragate/claim"
	"hydragate/claim/redisproof"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store"
)

const proofTenant = identity.DefaultTenant

// botName is the username of the bot that proofs are typed to.
const botName = "acme_bot"

// A proofHouse is the real store, the real proofs and the real worker with one
// instance, and a hand on the database itself.
type proofHouse struct {
	t        *testing.T
	store    *store.Store
	redis    redis.UniversalClient
	keys     *store.KeyRing
	masterK  string
	desk     *claim.Desk
	inbox    *gateway.Inbox
	sql      *sql.DB
	url      string // of the database
	redisURL string // empty: in this process
	instance string
	log      io.Writer
	holder   string

	typed atomic.Int64
}

// onPairs runs test on each pair of engines: SQLite with the Redis built in, and
// Postgres with a Redis server.
func onPairs(t *testing.T, test func(t *testing.T, h *proofHouse)) {
	t.Run("sqlite+embedded", func(t *testing.T) {
		client, stop := redisproof.Embedded()
		t.Cleanup(stop)
		test(t, newProofHouse(t, filepath.Join(t.TempDir(), "hydragate.db"), "", client))
	})
	t.Run("postgres+redis", func(t *testing.T) { test(t, serverHouse(t, nil)) })
}

// serverHouse is a house on servers. prepare, when not nil, may change the empty
// database first.
func serverHouse(t *testing.T, prepare func(*sql.DB)) *proofHouse {
	t.Helper()
	database := freshDatabase(t, testPostgres(t))
	if prepare != nil {
		db := openDatabase(t, database)
		prepare(db)
	}
	address := testRedis(t)
	client, err := redisproof.NewClient(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return newProofHouse(t, database, address, client)
}

func newProofHouse(t *testing.T, database, redisURL string, client redis.UniversalClient) *proofHouse {
	t.Helper()
	h := &proofHouse{t: t, url: database, redisURL: redisURL, redis: client, masterK: store.NewMasterKey("k1"), log: io.Discard, holder: "test"}
	var err error
	if h.keys, err = store.ParseKeyRing(h.masterK); err != nil {
		t.Fatal(err)
	}
	if h.store, err = store.Open(t.Context(), database, h.keys); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.store.Close)
	h.sql = openDatabase(t, database)
	h.desk = &claim.Desk{Ledger: h.store, Proofs: &redisproof.Proofs{Redis: client, Keys: claimKeys(h.keys)}}
	i, err := h.store.CreateInstance(t.Context(), gateway.Instance{TenantID: proofTenant, Name: "acme", UnknownSenders: gateway.Forward},
		gateway.InstanceSecrets{AgentSecretKey: "ask_" + uuid.NewString(), WebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, identity.System)
	if err != nil {
		t.Fatal(err)
	}
	h.instance = i.ID
	h.inbox = gateway.NewInbox(h.store, func() {}, slog.New(slog.DiscardHandler))
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

// within makes t the test that h works for, until the function given is called.
func (h *proofHouse) within(t *testing.T) (done func()) {
	outer := h.t
	h.t = t
	return func() { h.t = outer }
}

// worker gives a worker at desk that settles in settling.
func (h *proofHouse) worker(desk *claim.Desk, settling gateway.WorkStore) *gateway.Worker {
	return &gateway.Worker{
		Store: settling, Desk: desk, Channels: proofSeat{h.seat()}, Adapters: map[adapters.Channel]adapters.Adapter{adapters.Telegram: &telegram.Adapter{}},
		Log: slog.New(slog.NewJSONHandler(h.log, nil)), Now: time.Now, Woken: func(...gateway.LaneKind) {},
	}
}

// A proofSeat finds the one endpoint there is.
type proofSeat struct{ ep adapters.Endpoint }

func (s proofSeat) Endpoint(context.Context, string, adapters.Channel) (adapters.Endpoint, error) {
	return s.ep, nil
}

func (h *proofHouse) seat() adapters.Endpoint {
	return adapters.Endpoint{
		ID: "seat", TenantID: proofTenant, InstanceID: h.instance, Channel: adapters.Telegram, Mode: adapters.Webhook, Address: "1",
		Settings: map[string]string{adapters.BotUsername: botName},
	}
}

// A person is an identity of a customer, not verified.
type person struct{ customer, identity, external string }

func (h *proofHouse) person(external string) person {
	h.t.Helper()
	c, err := h.store.CreateCustomer(h.t.Context(), identity.Customer{TenantID: proofTenant, FirstName: "Steve"}, identity.System)
	if err != nil {
		h.t.Fatal(err)
	}
	i, err := h.store.Link(h.t.Context(), identity.Identity{TenantID: proofTenant, CustomerID: c.ID, InstanceID: h.instance, Channel: "telegram", ExternalID: external}, identity.System)
	if err != nil {
		h.t.Fatal(err)
	}
	return person{c.ID, i.ID, external}
}

// issue gives a new code. Every press is somebody else's, so that the limit on one
// member of staff is not met.
func (h *proofHouse) issue(p person) string {
	h.t.Helper()
	c, err := h.desk.Issue(h.t.Context(), proofTenant, p.customer, p.identity, identity.Actor("key:"+uuid.NewString()))
	if err != nil {
		h.t.Fatal(err)
	}
	return c.Code
}

// say hands text over as if sender had typed it in place, and gives its key.
func (h *proofHouse) say(sender, place, text string) (key string) {
	h.t.Helper()
	return h.hear(adapters.Message{Kind: adapters.Text, Text: text, Sender: adapters.Sender{ID: sender}, Place: adapters.Place{ID: place}})
}

// hear hands a message over, under a key of its own.
func (h *proofHouse) hear(m adapters.Message) (key string) {
	h.t.Helper()
	m.Key = fmt.Sprintf("1:m:%d", h.typed.Add(1))
	if c, ok := adapters.ParseCommand(m.Text, botName); ok {
		m.Command = &c
	}
	if err := h.inbox.Accept(h.t.Context(), h.seat(), adapters.Inbound{Messages: []adapters.Message{m}}); err != nil {
		h.t.Fatal(err)
	}
	return m.Key
}

// work works all there is with worker, as many lanes at once as there are. What is not
// due within a second is left.
func (h *proofHouse) work(w *gateway.Worker) {
	h.t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for late := time.Now().Add(time.Second); ; {
		leases, err := h.store.Lease(h.t.Context(), gateway.InboxLane, h.holder, 100)
		if err != nil {
			h.t.Fatal(err)
		}
		if len(leases) == 0 {
			var left int
			h.scan(`select count(*) from messages where state = 'new'`, nil, &left)
			if left == 0 || time.Now().After(late) {
				return
			}
			<-look.C
			continue
		}
		for _, err := range atOnce(len(leases), func(i int) error {
			return w.Work(h.t.Context(), leases[i], gateway.NewTurn(h.t.Context(), time.Minute))
		}) {
			if err != nil {
				h.t.Error(err)
			}
		}
	}
}

// look works what is due now, once, and does not mind when that fails.
func (h *proofHouse) look(w *gateway.Worker) {
	h.t.Helper()
	leases, err := h.store.Lease(h.t.Context(), gateway.InboxLane, h.holder, 100)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, l := range leases {
		_ = w.Work(h.t.Context(), l, gateway.NewTurn(h.t.Context(), time.Minute))
	}
}

// works is work with the worker as it is in the program.
func (h *proofHouse) works() {
	h.t.Helper()
	h.work(h.worker(h.desk, h.store))
}

// outcome gives what became of the message of a key.
func (h *proofHouse) outcome(key string) (outcome string) {
	h.t.Helper()
	h.scan(`select coalesce(outcome, '') from messages where key = $1`, []any{key}, &outcome)
	return outcome
}

// answers gives the replies to the message of a key.
func (h *proofHouse) answers(key string) string {
	h.t.Helper()
	return strings.Join(h.texts(`select o.text from outbox o join messages m on m.id = o.message_id where m.key = $1 order by o.seq`, key), "\n")
}

// grants counts how often the identity was granted, by the audit log.
func (h *proofHouse) grants(identityID string) (n int) {
	h.t.Helper()
	h.scan(`select count(*) from audit_events where identity_id = $1 and kind = 'claim.redeemed'`, []any{identityID}, &n)
	return n
}

// row gives a row of the table identities, every column of it.
func (h *proofHouse) row(identityID string) string {
	h.t.Helper()
	rows, err := h.sql.QueryContext(h.t.Context(), `select * from identities where id = $1`, identityID)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		h.t.Fatal(err)
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	return fmt.Sprintf("%v=%v", columns, values)
}

func (h *proofHouse) exec(query string, args ...any) {
	h.t.Helper()
	if _, err := h.sql.ExecContext(h.t.Context(), query, args...); err != nil {
		h.t.Fatal(err)
	}
}

func (h *proofHouse) scan(query string, args []any, into ...any) {
	h.t.Helper()
	if err := h.sql.QueryRowContext(h.t.Context(), query, args...).Scan(into...); err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
}

func (h *proofHouse) texts(query string, args ...any) (all []string) {
	h.t.Helper()
	rows, err := h.sql.QueryContext(h.t.Context(), query, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var s sql.NullString
		if err := rows.Scan(&s); err != nil {
			h.t.Fatal(err)
		}
		all = append(all, s.String)
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	return all
}

// attempt gives what a worker would ask the desk, under a message id of its own.
func (h *proofHouse) attempt(p person, code string) claim.Attempt {
	return claim.Attempt{
		TenantID: proofTenant, InstanceID: h.instance, Channel: "telegram", SenderID: p.external, IdentityID: p.identity,
		MessageID: uuid.Must(uuid.NewV7()).String(), Code: code, ReceivedAt: time.Now().UTC(),
	}
}

// otherThan gives a code that is none of codes.
func otherThan(codes ...string) string {
	for {
		c := claim.NewCode()
		if !strings.Contains(strings.Join(codes, " "), c) {
			return c
		}
	}
}

func testPostgres(t *testing.T) string {
	t.Helper()
	server := os.Getenv("HYDRAGATE_TEST_POSTGRES")
	if server == "" {
		t.Fatal("HYDRAGATE_TEST_POSTGRES names no server: run make test, or set it to a postgres:// URL of a superuser")
	}
	return server
}

// testRedis names the Redis to test on. Without a database in it, one is taken that
// nobody uses by chance.
func testRedis(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(os.Getenv("HYDRAGATE_TEST_REDIS"))
	if err != nil || u.Host == "" {
		t.Fatal("HYDRAGATE_TEST_REDIS must name a Redis server, such as redis://127.0.0.1:6379")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/11"
	}
	return u.String()
}

// freshDatabase makes a database on server that ends with the test.
func freshDatabase(t *testing.T, server string) string {
	t.Helper()
	admin, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	name := "p_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := admin.ExecContext(t.Context(), "create database "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.ExecContext(context.Background(), "drop database "+name+" with (force)"); err != nil {
			t.Error(err)
		}
		_ = admin.Close()
	})
	u := mustURL(t, server)
	u.Path = "/" + name
	return u.String()
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func openDatabase(t *testing.T, database string) *sql.DB {
	t.Helper()
	driver := "pgx"
	if !store.IsPostgres(database) {
		driver, database = "sqlite", "file:"+database+"?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, database)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(2)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
