//go:build unix

package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"hydragate/cmd/hydragate/app"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store"
	"hydragate/store/keyring"
)

// A CrashFixture has its own Postgres and Redis servers, which crash, and a gateway that is killed while
// users claim identities.
type CrashFixture struct {
	crashCounters
	t         *testing.T
	Limit     CrashLimits
	StopEarly func() bool // reports whether the test has seen enough; may be nil
	stop      func()      // ends Run

	*Harness
	postgres   *PostgresServer
	redis      *redis.Client
	store      *store.Store
	instanceID string

	mu          sync.Mutex
	issuedCodes []string // all codes and invites
}

// NewCrashFixture starts the servers and sets up a Telegram bot.
func NewCrashFixture(t *testing.T, fault Fault) *CrashFixture {
	t.Helper()
	r := &CrashFixture{t: t, postgres: StartPostgres(t)}
	var redisURL string
	redisURL, r.redis = startRedis(t)
	direct := r.postgres.URL(r.postgres.Port)
	var p *Process
	r.Harness, p = Start(t, Options{Fault: fault, DatabaseURL: direct, NoChannels: true, Settings: func(s *app.Settings) {
		s.DatabaseURL = r.postgres.URL(StartDelayProxy(t, r.postgres.Port, NetworkDelay))
		s.RedisURL, s.LogLevel = redisURL, "debug"
	}})
	defer p.Kill()
	// A request that is given up while its gateway lives could issue a code after that of its repetition.
	r.API.HTTP.Timeout = EventTimeout
	keys, err := keyring.Parse(r.Settings.MasterKeys)
	if err != nil {
		t.Fatal(err)
	}
	if r.store, err = store.Open(t.Context(), direct, keys); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.store.Close)
	// A trigger records each claim, independently of the gateway.
	for _, q := range []string{
		`alter table audit_events disable trigger audit_events_keep`, // lets the test age the events that limit codes
		`create table granted_claims (identity_id uuid, gen bigint, message uuid)`,
		`create function record_grant() returns trigger language plpgsql as '
			begin
				insert into granted_claims values (new.id, new.claim_gen, new.claim_used_msg);
				return new;
			end'`,
		`create trigger record_grant after update on identities for each row
			when (old.verified_at is null and new.verified_at is not null) execute function record_grant()`,
	} {
		r.Exec(q)
	}
	i, err := r.store.CreateInstance(t.Context(), gateway.Instance{
		TenantID: TestTenantID, Name: "acme", AgentURL: r.App.URL, UnknownSenders: gateway.ForwardUnknown,
	}, gateway.InstanceSecrets{
		AgentSecretKey: "ask_" + uuid.NewString(), WebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
	}, identity.System)
	if err != nil {
		t.Fatal(err)
	}
	r.instanceID = i.ID
	r.ConnectChannel(r.instanceID, "telegram", map[string]string{"bot_token": TelegramToken})
	return r
}

// CrashLimits are the numbers of claims and faults after which a test ends.
type CrashLimits struct{ Claims, Kills, Crashes, RedisRestores int64 }

// Run injects faults while users claim identities, until the limits are reached.
func (r *CrashFixture) Run(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), r.timeout())
	defer stop()
	r.stop = stop
	faultCtx, stopFaults := context.WithCancel(ctx)
	defer stopFaults()
	var breaking, claiming sync.WaitGroup
	breaking.Go(func() { r.killGateways(faultCtx, ctx) })
	if r.Limit.RedisRestores > 0 {
		breaking.Go(func() { r.disruptRedis(faultCtx) })
	}
	if r.Limit.Crashes > 0 {
		breaking.Go(func() { r.crashPostgres(faultCtx) })
	}
	for range 8 {
		claiming.Go(func() {
			for !r.reachedLimit() && ctx.Err() == nil {
				r.runClaimant(ctx, r.started.Add(1))
			}
		})
	}
	claiming.Wait()
	stopFaults()
	stop()
	breaking.Wait()
	if !r.reachedLimit() {
		messages := r.QueryTexts(`
			select concat_ws(' ', state, sender_id, attempts, received_at, text) from messages where state <> 'done'`)
		queues := r.QueryTexts(`
			select concat_ws(' ', kind, holder, due_at, lease_until, now()) from lanes where due_at is not null`)
		t.Errorf("timeout: %s\nmessages left: %q\nqueues: %q\npending updates: %d",
			r, messages, queues, len(r.Telegram.PendingUpdates(BotUsername)))
	}
}

func (r *CrashFixture) timeout() time.Duration {
	if FullRun() {
		return 2 * time.Hour
	}
	return 10 * time.Minute
}

func (r *CrashFixture) stopsEarly() bool { return r.StopEarly != nil && r.StopEarly() }

func (r *CrashFixture) reachedLimit() bool {
	if r.stopsEarly() {
		return true
	}
	return r.done.Load() >= r.Limit.Claims && r.gatewayKills.Load() >= r.Limit.Kills &&
		r.postgresCrashes.Load() >= r.Limit.Crashes &&
		r.redisRestores.Load() >= r.Limit.RedisRestores
}

// String summarizes what happened.
func (r *CrashFixture) String() string {
	return fmt.Sprintf("%d claims, %d kills, %d crashes of Postgres, %d times Redis flushed or restored; "+
		"%d codes reported lost, %d of them without cause; %d valid codes rejected",
		r.done.Load(), r.gatewayKills.Load(), r.postgresCrashes.Load(), r.redisRestores.Load(),
		r.lostReplies.Load(), r.UnexplainedLosses.Load(), r.WrongReplies.Load())
}

// killGateways starts the gateway and kills it after 30 to 150 ms, or later on a machine where it
// starts slowly, until ctx ends. If a gateway processed nothing before it was killed, the next one lives
// for up to twice as long.
func (r *CrashFixture) killGateways(ctx, life context.Context) {
	processed, patience := 0, 1
	for life.Err() == nil {
		began := time.Now()
		p, err := r.StartReplica(life)
		if err != nil {
			continue // the database is down
		}
		lifespan := 30*time.Millisecond + time.Duration(patience)*rand.N(120*time.Millisecond+time.Since(began)/4)
		if r.Limit.Kills > 0 && r.gatewayKills.Load() >= r.Limit.Kills && !FullRun() {
			lifespan = time.Minute // lets the remaining claims succeed on a busy machine
		}
		select {
		case <-time.After(lifespan):
		case <-p.Exited:
		case <-ctx.Done():
		}
		p.Kill()
		r.gatewayKills.Add(1)
		r.ExpireLeases(life)
		if ctx.Err() != nil {
			return
		}
		patience = min(2*patience, 64)
		var n int
		err = r.DB.QueryRowContext(life, `select count(*) from messages where state <> 'new'`).Scan(&n)
		if err == nil && n > processed {
			processed, patience = n, 1
		}
	}
}

// disruptRedis flushes Redis or restores an earlier snapshot.
func (r *CrashFixture) disruptRedis(ctx context.Context) {
	var older []redisSnapshot
	for ctx.Err() == nil {
		select {
		case <-time.After(100*time.Millisecond + rand.N(500*time.Millisecond)):
		case <-ctx.Done():
			return
		}
		if c, err := snapshotRedis(ctx, r.redis); err == nil {
			older = append(older, c)
		}
		older = older[max(0, len(older)-5):]
		if r.redisRestores.Load() >= r.Limit.RedisRestores && (!FullRun() || rand.N(4) > 0) {
			continue
		}
		r.redisEpoch.Add(1)
		var err error
		if rand.N(4) == 0 {
			err = r.redis.FlushAll(ctx).Err()
		} else {
			err = older[rand.N(len(older))].restore(ctx, r.redis)
		}
		r.redisEpoch.Add(1)
		if err == nil {
			r.redisRestores.Add(1)
		}
	}
}

// crashPostgres crashes Postgres every few seconds.
func (r *CrashFixture) crashPostgres(ctx context.Context) {
	for ctx.Err() == nil && r.postgresCrashes.Load() < r.Limit.Crashes {
		select {
		case <-time.After(3*time.Second + rand.N(4*time.Second)):
		case <-ctx.Done():
			return
		}
		if err := r.postgres.crash(); err != nil {
			r.t.Error(err)
			return
		}
		r.postgresCrashes.Add(1)
	}
}

// crashCounters count what happened during the test.
type crashCounters struct {
	started, done                                atomic.Int64
	gatewayKills, postgresCrashes, redisRestores atomic.Int64
	redisEpoch                                   atomic.Int64 // incremented before and after each disruption of Redis
	lostReplies, UnexplainedLosses, WrongReplies atomic.Int64
}
