package claims

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/gateway"
	"hydragate/gateway/process"
	"hydragate/gateway/queue"
)

// A callRecorder writes down which calls a worker makes, in order.
type callRecorder struct {
	mu    sync.Mutex
	calls []string
}

func (w *callRecorder) record(call string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, call)
}

func (w *callRecorder) drain() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = nil
	return calls
}

type recordingClaimStore struct {
	claim.Store
	*callRecorder
}

func (l recordingClaimStore) CodeState(ctx context.Context, a claim.Attempt) (claim.CodeState, error) {
	l.record("state")
	return l.Store.CodeState(ctx, a)
}

func (l recordingClaimStore) InviteState(ctx context.Context, a claim.Attempt) (claim.InviteState, error) {
	l.record("invite state")
	return l.Store.InviteState(ctx, a)
}

type recordingStore struct {
	process.MessageStore
	*callRecorder
}

func (s recordingStore) PendingMessages(ctx context.Context, l gateway.Lease) ([]gateway.StoredMessage, error) {
	s.record("inbound")
	return s.MessageStore.PendingMessages(ctx, l)
}

func (s recordingStore) Apply(ctx context.Context, st gateway.Commit) error {
	s.record("settle")
	return s.MessageStore.Apply(ctx, st)
}

// recordingRedisHook is a hook that writes down each command.
type recordingRedisHook struct{ *callRecorder }

func (r recordingRedisHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (r recordingRedisHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.record(cmd.Name())
		return next(ctx, cmd)
	}
}

func (r recordingRedisHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			r.record(cmd.Name())
		}
		return next(ctx, cmds)
	}
}

// A rejectionCase is a way in which a code does not work.
type rejectionCase struct {
	name    string
	prepare func(h *harness.ClaimFixture) (external, code string) // gives who types what
	want    string
}

// rejectionCases are all of them, and one control that is none.
var rejectionCases = []rejectionCase{
	{"unknown sender", func(h *harness.ClaimFixture) (string, string) { return h.NewExternalID(), claim.NewCode() }, "declined"},
	{"no code", func(h *harness.ClaimFixture) (string, string) {
		return h.CreateIdentity(h.NewExternalID()).ExternalID, claim.NewCode()
	}, "declined"},
	{"wrong", func(h *harness.ClaimFixture) (string, string) {
		p := h.CreateIdentity(h.NewExternalID())
		return p.ExternalID, harness.WrongCode(h.IssueCode(p))
	}, "declined"},
	{"expired", func(h *harness.ClaimFixture) (string, string) {
		p := h.CreateIdentity(h.NewExternalID())
		code := h.IssueCode(p)
		h.Exec(`update identities set claim_expires_at = '2020-01-01 00:00:00.000+00:00' where id = $1`, p.IdentityID)
		return p.ExternalID, code
	}, "declined"},
	{"expired, and the proof is gone", func(h *harness.ClaimFixture) (string, string) {
		p := h.CreateIdentity(h.NewExternalID())
		code := h.IssueCode(p)
		h.Exec(`update identities set claim_expires_at = '2020-01-01 00:00:00.000+00:00' where id = $1`, p.IdentityID)
		h.DropCode(p)
		return p.ExternalID, code
	}, "declined"},
	{"used", func(h *harness.ClaimFixture) (string, string) {
		p := h.CreateIdentity(h.NewExternalID())
		code := h.IssueCode(p)
		h.Exec(`update identities set claim_used_msg = $1 where id = $2`, uuid.NewString(), p.IdentityID)
		h.DropCode(p)
		return p.ExternalID, code
	}, "declined"},
	{"revoked", func(h *harness.ClaimFixture) (string, string) {
		p := h.CreateIdentity(h.NewExternalID())
		code := h.IssueCode(p)
		h.Exec(`update identities set claim_revoked_at = claim_expires_at where id = $1`, p.IdentityID)
		h.DropCode(p)
		return p.ExternalID, code
	}, "declined"},
	{"replaced", func(h *harness.ClaimFixture) (string, string) {
		p := h.CreateIdentity(h.NewExternalID())
		code := h.IssueCode(p)
		h.IssueCode(p)
		return p.ExternalID, code
	}, "declined"},
	{"locked", func(h *harness.ClaimFixture) (string, string) {
		p := h.CreateIdentity(h.NewExternalID())
		code := h.IssueCode(p)
		if err := harness.GuessConcurrently(h.T.Context(), h.Claims, claim.MaxTries, func() claim.Attempt { return h.NewAttempt(p, harness.WrongCode(code)) }); err != nil {
			h.T.Fatal(err)
		}
		return p.ExternalID, code
	}, "declined"},
	{"somebody else's", func(h *harness.ClaimFixture) (string, string) {
		p := h.CreateIdentity(h.NewExternalID())
		h.IssueCode(p)
		return p.ExternalID, h.IssueCode(h.CreateIdentity(h.NewExternalID()))
	}, "declined"},
	{"somebody else's, by a stranger", func(h *harness.ClaimFixture) (string, string) {
		return h.NewExternalID(), h.IssueCode(h.CreateIdentity(h.NewExternalID()))
	}, "declined"},
	{"control: a verified person", func(h *harness.ClaimFixture) (string, string) {
		p := h.CreateIdentity(h.NewExternalID())
		h.SendText(p.ExternalID, p.ExternalID, "/claim "+h.IssueCode(p))
		h.ProcessMessages()
		return p.ExternalID, claim.NewCode()
	}, "already_verified"},
}

// TestRejectedCodes_Indistinguishable fails in every way there is: the answer is the same to the
// byte, and so are the calls to both stores up to the one that stores the answer. What
// comes after it (a proof that is dropped) nobody waits for.
func TestRejectedCodes_Indistinguishable(t *testing.T) {
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		seen := &callRecorder{}
		h.Redis.AddHook(recordingRedisHook{seen})
		for _, tt := range rejectionCases {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				w := h.NewWorker(&claim.Service{Store: recordingClaimStore{h.Store, seen}, Codes: h.Claims.Codes}, recordingStore{h.Store, seen})
				external, code := tt.prepare(h)
				h.SendText(external, "warm", "hello") // an unknown sender is met
				h.ProcessAll(w)
				if _, err := h.Claims.DecideRedemption(t.Context(), h.NewAttempt(harness.LinkedIdentity{IdentityID: uuid.NewString()}, code)); err != nil { // scripts are loaded
					t.Fatal(err)
				}
				seen.drain()
				key := h.SendText(external, external, "/claim "+code)
				h.ProcessAll(w)
				calls := seen.drain()
				if at := slices.Index(calls, "settle"); at >= 0 {
					calls = calls[:at+1]
				}
				same := slices.Equal(calls, []string{"inbound", "state", "evalsha", "get", "get", "state", "settle"}) && h.Replies(key) == "That code did not work. Codes last 15 minutes and work once; please ask for a new one."
				if got := h.Outcome(key); got != tt.want || same != (tt.want == "declined") {
					t.Errorf("%s: outcome %q, calls %q, answer %q", tt.name, got, calls, h.Replies(key))
				}
			})
		}
	})
}

// revokesCode reports whether a failure of this kind ends a code that was live: that is
// more to write, and no news to who typed the letters.
func (w rejectionCase) revokesCode() bool {
	return w.name == "locked" || strings.HasPrefix(w.name, "somebody else's")
}

// TestRejectedCodes_ConstantTime works failures of every kind by turns: the medians of the
// times they take are within a tenth of each other, and within a third where a code
// dies. A failure that skips the proofs on the way is quicker than all.
func TestRejectedCodes_ConstantTime(t *testing.T) {
	rounds, slack, burning := 5, 2.0, 2.0 // few rounds beside other work tell only gross differences
	if harness.FullRun() {
		rounds, slack, burning = 500, 0.1, 1./3
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		w := h.NewWorker(h.Claims, h.Store)
		skips := h.NewWorker(&claim.Service{Store: h.Store, Codes: skippingCodeStore{h.Claims.Codes}}, h.Store)
		times := map[string][]time.Duration{}
		for range rounds {
			for _, tt := range rejectionCases {
				if tt.want == "declined" {
					times[tt.name] = append(times[tt.name], timeRejection(h, w, tt.prepare))
				}
			}
			times["control"] = append(times["control"], timeRejection(h, skips, rejectionCases[0].prepare))
		}
		medians := map[string]time.Duration{}
		for name, all := range times {
			slices.Sort(all)
			medians[name] = all[len(all)/2]
		}
		var alike []time.Duration
		for _, tt := range rejectionCases {
			if tt.want == "declined" && !tt.revokesCode() {
				alike = append(alike, medians[tt.name])
			}
		}
		slices.Sort(alike)
		middle := alike[len(alike)/2]
		off := func(m time.Duration) float64 { return float64(m-middle) / float64(middle) }
		for _, tt := range rejectionCases {
			most := slack
			if tt.revokesCode() {
				most = burning
			}
			if d := off(medians[tt.name]); tt.want == "declined" && (d > most || d < -most) {
				t.Errorf("%s takes %v; the median of all kinds is %v", tt.name, medians[tt.name], middle)
			}
		}
		if harness.FullRun() && medians["control"] >= alike[0] {
			t.Errorf("a failure that skips the proofs takes %v, others from %v: the test sees nothing", medians["control"], alike[0])
		}
		t.Logf("%d rounds: medians %+.1f %% to %+.1f %% from their middle of %v; where a code dies %+.1f %%; control without the proofs %+.1f %%", rounds,
			100*off(alike[0]), 100*off(alike[len(alike)-1]), middle, 100*off(max(medians["locked"], medians["somebody else's"])), 100*off(medians["control"]))
	})
}

// skippingCodeStore proofs answer without looking.
type skippingCodeStore struct{ claim.CodeStore }

func (skippingCodeStore) Check(context.Context, claim.Target, string, string, string) (claim.CheckResult, error) {
	return claim.CheckResult{Result: claim.Missing}, nil
}

// timeRejection gives the time that a worker takes for a code that prepare wants typed.
func timeRejection(h *harness.ClaimFixture, w *process.Worker, prepare func(h *harness.ClaimFixture) (external, code string)) time.Duration {
	h.T.Helper()
	external, code := prepare(h)
	h.SendText(external, external, "hello") // an unknown sender is met
	h.ProcessAll(w)
	h.SendText(external, external, "/claim "+code)
	leases, err := h.Store.Lease(h.T.Context(), gateway.InboxQueue, h.Holder, 2)
	if err != nil || len(leases) != 1 {
		h.T.Fatalf("%d lanes to work, %v", len(leases), err)
	}
	turn := queue.NewSlice(h.T.Context(), time.Minute)
	started := time.Now()
	err = w.Run(h.T.Context(), leases[0], turn)
	took := time.Since(started)
	if err != nil {
		h.T.Fatal(err)
	}
	return took
}
