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

// callRecorder records the calls of a worker to the stores, in order.
type callRecorder struct {
	mu    sync.Mutex
	calls []string
}

// record appends a call.
func (w *callRecorder) record(call string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, call)
}

// drain returns the recorded calls and resets the recorder.
func (w *callRecorder) drain() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = nil
	return calls
}

// recordingClaimStore is a claim store that records the reads of codes and invites.
type recordingClaimStore struct {
	claim.Store
	*callRecorder
}

func (l recordingClaimStore) CodeState(ctx context.Context, a claim.Attempt) (claim.CodeState, error) {
	l.record("code state")
	return l.Store.CodeState(ctx, a)
}

func (l recordingClaimStore) InviteState(ctx context.Context, a claim.Attempt) (claim.InviteState, error) {
	l.record("invite state")
	return l.Store.InviteState(ctx, a)
}

// recordingStore is a message store that records the reads and commits.
type recordingStore struct {
	process.MessageStore
	*callRecorder
}

func (s recordingStore) PendingMessages(ctx context.Context, l gateway.Lease) ([]gateway.StoredMessage, error) {
	s.record("pending messages")
	return s.MessageStore.PendingMessages(ctx, l)
}

func (s recordingStore) Apply(ctx context.Context, st gateway.Commit) error {
	s.record("apply")
	return s.MessageStore.Apply(ctx, st)
}

// recordingRedisHook is a go-redis hook that records each command.
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

// rejectionCase is a reason for which a code is rejected.
type rejectionCase struct {
	name    string
	prepare func(h *harness.ClaimFixture) (sender, code string)
	want    string
}

// rejectionCases lists all reasons, and one control that is not rejected.
var rejectionCases = []rejectionCase{
	{
		"unknown sender",
		func(h *harness.ClaimFixture) (string, string) { return h.NewExternalID(), claim.NewCode() },
		"declined",
	},
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
	{"expired and dropped", func(h *harness.ClaimFixture) (string, string) {
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
		attempt := func() claim.Attempt { return h.NewAttempt(p, harness.WrongCode(code)) }
		if err := harness.GuessConcurrently(h.T.Context(), h.Claims, claim.MaxTries, attempt); err != nil {
			h.T.Fatal(err)
		}
		return p.ExternalID, code
	}, "declined"},
	{"another customer's", func(h *harness.ClaimFixture) (string, string) {
		p := h.CreateIdentity(h.NewExternalID())
		h.IssueCode(p)
		return p.ExternalID, h.IssueCode(h.CreateIdentity(h.NewExternalID()))
	}, "declined"},
	{"another customer's, unknown sender", func(h *harness.ClaimFixture) (string, string) {
		return h.NewExternalID(), h.IssueCode(h.CreateIdentity(h.NewExternalID()))
	}, "declined"},
	{"control: verified sender", func(h *harness.ClaimFixture) (string, string) {
		p := h.CreateIdentity(h.NewExternalID())
		h.SendText(p.ExternalID, p.ExternalID, "/claim "+h.IssueCode(p))
		h.ProcessMessages()
		return p.ExternalID, claim.NewCode()
	}, "already_verified"},
}

// rejectionReply is the reply to every rejected code and invite.
const rejectionReply = "That code did not work. Codes last 15 minutes and work once; please ask for a new one."

// rejectionCalls are the calls to both stores for every rejected code.
var rejectionCalls = []string{"pending messages", "code state", "evalsha", "get", "get", "code state", "apply"}

// TestRejectedCodes_Indistinguishable checks that the reply to a rejected code is the same for
// every reason, byte for byte, and so are the calls to both stores up to the one that stores the
// reply. Later calls, such as dropping the code, do not delay the reply.
func TestRejectedCodes_Indistinguishable(t *testing.T) {
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		recorder := &callRecorder{}
		h.Redis.AddHook(recordingRedisHook{recorder})
		for _, tt := range rejectionCases {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				service := &claim.Service{Store: recordingClaimStore{h.Store, recorder}, Codes: h.Claims.Codes}
				w := h.NewWorker(service, recordingStore{h.Store, recorder})
				sender, code := tt.prepare(h)
				h.SendText(sender, "warm-up", "hello") // creates the record of an unknown sender
				h.ProcessAll(w)
				// Load the Redis scripts.
				unknown := h.NewAttempt(harness.LinkedIdentity{IdentityID: uuid.NewString()}, code)
				if _, err := h.Claims.DecideRedemption(t.Context(), unknown); err != nil {
					t.Fatal(err)
				}
				recorder.drain()
				key := h.SendText(sender, sender, "/claim "+code)
				h.ProcessAll(w)
				calls := recorder.drain()
				if at := slices.Index(calls, "apply"); at >= 0 {
					calls = calls[:at+1]
				}
				same := slices.Equal(calls, rejectionCalls) && h.Replies(key) == rejectionReply
				if got := h.Outcome(key); got != tt.want || same != (tt.want == "declined") {
					t.Errorf("outcome = %q, want %q; calls = %q, reply = %q", got, tt.want, calls, h.Replies(key))
				}
			})
		}
	})
}

// revokesCode reports whether this rejection revokes a live code. That takes one more write, and
// reveals nothing to the sender.
func (w rejectionCase) revokesCode() bool {
	return w.name == "locked" || strings.HasPrefix(w.name, "another customer's")
}

// TestRejectedCodes_ConstantTime checks that the processing times of all kinds of rejection are
// close to each other. Long runs compare medians, which must be within a tenth, or within a third if
// a code is revoked; the control that skips the code store must be faster than all others. Short
// runs notice only gross differences, such as the control that delays each check. They compare
// minimums, which other processes on the machine affect least, and measure again until these agree.
func TestRejectedCodes_ConstantTime(t *testing.T) {
	rounds, maxRounds, tolerance, revokedTolerance := 5, 50, 2.0, 2.0
	quantile := func(sorted []time.Duration) time.Duration { return sorted[0] }
	if harness.FullRun() {
		rounds, maxRounds, tolerance, revokedTolerance = 500, 500, 0.1, 1./3
		quantile = func(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		times, typical := map[string][]time.Duration{}, map[string]time.Duration{}
		measure := func(name string, codes claim.CodeStore, prepare func(*harness.ClaimFixture) (string, string)) {
			w := h.NewWorker(&claim.Service{Store: h.Store, Codes: codes}, h.Store)
			times[name] = append(times[name], timeRejection(h, w, prepare))
			typical[name] = quantile(slices.Sorted(slices.Values(times[name])))
		}
		var middle time.Duration
		off := func(name string) float64 { return float64(typical[name]-middle) / float64(middle) }
		// different returns the kinds of rejection that take longer or shorter than the others.
		different := func() (names []string) {
			var alike []time.Duration
			for _, tt := range rejectionCases {
				if tt.want == "declined" && !tt.revokesCode() {
					alike = append(alike, typical[tt.name])
				}
			}
			middle = slices.Sorted(slices.Values(alike))[len(alike)/2]
			for _, tt := range rejectionCases {
				limit := tolerance
				if tt.revokesCode() {
					limit = revokedTolerance
				}
				if d := off(tt.name); tt.want == "declined" && (d > limit || d < -min(limit, 2./3)) {
					names = append(names, tt.name)
				}
			}
			return names
		}
		for n := 0; n < rounds || n < maxRounds && len(different()) > 0; n++ {
			for _, tt := range rejectionCases {
				if tt.want == "declined" {
					measure(tt.name, h.Claims.Codes, tt.prepare)
				}
			}
			measure("control", skippingCodeStore{h.Claims.Codes}, rejectionCases[0].prepare)
		}
		for _, name := range different() {
			t.Errorf("typical time of %q = %v of %d, want it close to %v", name, typical[name], len(times[name]), middle)
		}
		t.Logf("typical times: %v; middle %v after %d rounds", typical, middle, len(times["control"]))
		t.Logf("with a revoked code %+.1f %%, control without the code store %+.1f %%",
			100*max(off("locked"), off("another customer's")), 100*off("control"))
		if harness.FullRun() {
			for _, tt := range rejectionCases {
				if tt.want == "declined" && !tt.revokesCode() && typical["control"] >= typical[tt.name] {
					t.Errorf("median without the code store = %v, want less than %v", typical["control"], typical[tt.name])
				}
			}
		}
		// Measure one kind again with a delay in every measurement.
		delayed := rejectionCases[0]
		times[delayed.name] = nil
		measure(delayed.name, delayingCodeStore{h.Claims.Codes, 5 * middle}, delayed.prepare)
		if got := different(); !slices.Contains(got, delayed.name) {
			t.Errorf("control with a delay of %v: different = %q, want %q in it", 5*middle, got, delayed.name)
		}
	})
}

// delayingCodeStore delays every check.
type delayingCodeStore struct {
	claim.CodeStore
	delay time.Duration
}

func (s delayingCodeStore) Check(
	ctx context.Context, target claim.Target, user, code, message string,
) (claim.CheckResult, error) {
	<-time.After(s.delay)
	return s.CodeStore.Check(ctx, target, user, code, message)
}

// skippingCodeStore returns Missing without a lookup.
type skippingCodeStore struct{ claim.CodeStore }

func (skippingCodeStore) Check(context.Context, claim.Target, string, string, string) (claim.CheckResult, error) {
	return claim.CheckResult{Result: claim.Missing}, nil
}

// timeRejection returns how long a worker takes to process the code that prepare returns.
func timeRejection(
	h *harness.ClaimFixture,
	w *process.Worker,
	prepare func(h *harness.ClaimFixture) (sender, code string),
) time.Duration {
	h.T.Helper()
	sender, code := prepare(h)
	h.SendText(sender, sender, "hello") // creates the record of an unknown sender
	h.ProcessAll(w)
	h.SendText(sender, sender, "/claim "+code)
	leases, err := h.Store.Lease(h.T.Context(), gateway.InboxQueue, h.Holder, 2)
	if err != nil || len(leases) != 1 {
		h.T.Fatalf("Lease = %d leases, %v; want 1", len(leases), err)
	}
	slice := queue.NewSlice(h.T.Context(), time.Minute)
	started := time.Now()
	err = w.Run(h.T.Context(), leases[0], slice)
	took := time.Since(started)
	if err != nil {
		h.T.Fatal(err)
	}
	return took
}
