//go:build unix

package main

import (
	"context"
	"database/sql"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"hydragate/adapters/simulator"
	"hydragate/claim"
	"hydragate/claim/redisproof"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store"
)

const ruinToken = "7000002:AAE0123456789abcdefghijklmnopqrstuv"

// A ruin is a world in which everything breaks: servers of its own, a pretend
// Telegram and an agent in this process, and a gateway in another that is killed.
type ruin struct {
	count
	t      *testing.T
	limit  toll
	enough func() bool

	*door
	postgres *ownPostgres
	redis    *redis.Client
	sql      *sql.DB
	store    *store.Store
	telegram *simulator.Telegram
	instance string

	events safeBuffer
	mu     sync.Mutex
	codes  []string // all that were ever read out
}

// networkDelay is added to each answer of Postgres.
const networkDelay = 3 * time.Millisecond

func newRuin(t *testing.T, role string) *ruin {
	t.Helper()
	r := &ruin{t: t, door: newDoor(t, role), postgres: startPostgres(t)}
	var redisURL string
	redisURL, r.redis = startRedis(t)
	direct := r.postgres.url(r.postgres.port)
	master := store.NewMasterKey("k1")
	keys, err := store.ParseKeyRing(master)
	if err != nil {
		t.Fatal(err)
	}
	if r.store, err = store.Open(t.Context(), direct, keys); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.store.Close)
	r.sql = openDatabase(t, direct)
	// Every grant is written down by the database itself, whatever the program says.
	for _, q := range []string{
		`alter table audit_events disable trigger audit_events_keep`, // so that time can pass for the limits on codes
		`create table proof_grants (identity_id uuid, gen bigint, message uuid)`,
		`create function proof_grant() returns trigger language plpgsql as 'begin insert into proof_grants values (new.id, new.claim_gen, new.claim_used_msg); return new; end'`,
		`create trigger proof_grant after update on identities for each row when (old.verified_at is null and new.verified_at is not null) execute function proof_grant()`,
	} {
		if _, err := r.sql.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	r.telegram = simulator.NewTelegram()
	r.telegram.Scale = 0.02
	r.telegram.AddBot(ruinToken, botName)
	api := httptest.NewServer(r.telegram)
	agent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { _, _ = io.Copy(&r.events, req.Body) }))
	t.Cleanup(agent.Close)
	t.Cleanup(api.Close)
	t.Cleanup(r.telegram.Close)
	r.settings = append(r.settings,
		"HYDRAGATE_DATABASE_URL="+r.postgres.url(slowly(t, r.postgres.port, networkDelay)), "HYDRAGATE_REDIS_URL="+redisURL,
		"HYDRAGATE_MASTER_KEYS="+master, "HYDRAGATE_TELEGRAM_API_URL="+api.URL, "HYDRAGATE_LOG_LEVEL=debug")
	i, err := r.store.CreateInstance(t.Context(), gateway.Instance{TenantID: proofTenant, Name: "acme", AgentURL: agent.URL, UnknownSenders: gateway.Forward},
		gateway.InstanceSecrets{AgentSecretKey: "ask_" + uuid.NewString(), WebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, identity.System)
	if err != nil {
		t.Fatal(err)
	}
	r.instance = i.ID
	p, err := r.start(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log.String())
	}
	defer p.kill()
	if status, body := r.call(t.Context(), "POST", "/v1/instances/"+r.instance+"/channels/telegram", map[string]string{"bot_token": ruinToken}); status != http.StatusOK {
		t.Fatalf("setting up Telegram: %d %s", status, body)
	}
	return r
}

// serveNaively is the gateway with proofs that a comparison consumes.
func serveNaively(t *testing.T) {
	serveChanged(t, func(p *parts, s *settings) error {
		keys, err := s.keyRing()
		if err != nil {
			return err
		}
		desk := &claim.Desk{Ledger: p.store, Proofs: consuming{&redisproof.Proofs{Redis: p.redis, Keys: claimKeys(keys)}}}
		naive := &gateway.Worker{Store: p.store, Desk: desk, Channels: p.channels, Adapters: p.channels.Adapters, Log: p.log, Now: time.Now, Woken: func(...gateway.LaneKind) {}}
		for _, lanes := range p.lanes {
			if lanes.Kind == gateway.InboxLane {
				lanes.Work = naive.Work
			}
		}
		return nil
	})
}

// consuming proofs are gone once they were compared and found right.
type consuming struct{ claim.Proofs }

func (c consuming) Check(ctx context.Context, s claim.Subject, typedIn, code, message string) (claim.Finding, error) {
	f, err := c.Proofs.Check(ctx, s, typedIn, code, message)
	if err == nil && f.Verdict == claim.Match {
		err = c.Proofs.Drop(ctx, s)
	}
	return f, err
}
