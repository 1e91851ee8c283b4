package claims

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/gateway"
	"hydragate/gateway/process"
	"hydragate/gateway/queue"
)

// rejectionCase is a reason for which a code is rejected, and the outcome.
type rejectionCase struct {
	name string
	// prepare returns the sender and the code of an attempt. It is called with an identity and its code.
	prepare func(h *harness.ClaimFixture, p harness.LinkedIdentity, code string) (sender, attempt string)
	want    string
}

// rejectionCases returns all reasons, and one control that is not rejected.
func rejectionCases() []rejectionCase {
	// updated returns a function that changes the identity of the code and may drop the code.
	updated := func(drop bool, query string) func(*harness.ClaimFixture, harness.LinkedIdentity, string) (string, string) {
		return func(h *harness.ClaimFixture, p harness.LinkedIdentity, code string) (string, string) {
			h.Exec(query, p.IdentityID)
			if drop {
				h.DropCode(p)
			}
			return p.ExternalID, code
		}
	}
	const expire = `update identities set claim_expires_at = '2020-01-01 00:00:00.000+00:00' where id = $1`
	return []rejectionCase{
		{"unknown sender", func(h *harness.ClaimFixture, _ harness.LinkedIdentity, _ string) (string, string) {
			return h.NewExternalID(), claim.NewCode()
		}, "declined"},
		{"no code", func(h *harness.ClaimFixture, _ harness.LinkedIdentity, _ string) (string, string) {
			return h.CreateIdentity(h.NewExternalID()).ExternalID, claim.NewCode()
		}, "declined"},
		{"wrong", func(_ *harness.ClaimFixture, p harness.LinkedIdentity, code string) (string, string) {
			return p.ExternalID, harness.WrongCode(code)
		}, "declined"},
		{"expired", updated(false, expire), "declined"},
		{"expired and dropped", updated(true, expire), "declined"},
		{"used", updated(true, `update identities set claim_used_msg = id where id = $1`), "declined"},
		{"revoked", updated(true, `update identities set claim_revoked_at = claim_expires_at where id = $1`), "declined"},
		{"replaced", func(h *harness.ClaimFixture, p harness.LinkedIdentity, code string) (string, string) {
			h.IssueCode(p)
			return p.ExternalID, code
		}, "declined"},
		{"locked", func(h *harness.ClaimFixture, p harness.LinkedIdentity, code string) (string, string) {
			attempt := func() claim.Attempt { return h.NewAttempt(p, harness.WrongCode(code)) }
			if err := harness.GuessConcurrently(h.T.Context(), h.Claims, claim.MaxTries, attempt); err != nil {
				h.T.Fatal(err)
			}
			return p.ExternalID, code
		}, "declined"},
		{"another customer's", func(h *harness.ClaimFixture, p harness.LinkedIdentity, _ string) (string, string) {
			return p.ExternalID, h.IssueCode(h.CreateIdentity(h.NewExternalID()))
		}, "declined"},
		{
			"another customer's, unknown sender",
			func(h *harness.ClaimFixture, _ harness.LinkedIdentity, code string) (string, string) {
				return h.NewExternalID(), code
			},
			"declined",
		},
		{"control: verified sender", func(h *harness.ClaimFixture, p harness.LinkedIdentity, code string) (string, string) {
			h.SendText(p.ExternalID, p.ExternalID, "/claim "+code)
			h.ProcessMessages()
			return p.ExternalID, claim.NewCode()
		}, "already_verified"},
	}
}

// attempt returns a sender and a code that is rejected for this reason. The sender has sent a message
// before, so that there is a record of it.
func (w rejectionCase) attempt(h *harness.ClaimFixture) (sender, code string) {
	h.T.Helper()
	p := h.CreateIdentity(h.NewExternalID())
	sender, code = w.prepare(h, p, h.IssueCode(p))
	h.SendText(sender, "warm-up", "hello")
	h.ProcessMessages()
	return sender, code
}

// rejectionReply is the reply to every rejected code and invite.
const rejectionReply = "That code did not work. Codes last 15 minutes and work once; please ask for a new one."

// TestRejectedCodes_Indistinguishable checks that the reply to a rejected code is the same for
// every reason, byte for byte, and so are the calls to both stores up to the one that stores the
// reply. Later calls, such as dropping the code, do not delay the reply.
func TestRejectedCodes_Indistinguishable(t *testing.T) {
	harness.ParallelUnlessFull(t)
	want := []string{"pending messages", "code state", "evalsha", "get", "get", "code state", "apply"}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		recorder := newCallRecorder(h)
		for _, tt := range rejectionCases() {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				sender, code := tt.attempt(h)
				// Load the Redis scripts.
				unknown := h.NewAttempt(harness.LinkedIdentity{IdentityID: uuid.NewString()}, code)
				if _, err := h.Claims.DecideRedemption(t.Context(), unknown); err != nil {
					t.Fatal(err)
				}
				key := h.SendText(sender, sender, "/claim "+code)
				calls := recorder.processAll(h)
				same := slices.Equal(calls, want) && h.Replies(key) == rejectionReply
				if got := h.Outcome(key); got != tt.want || same != (tt.want == "declined") {
					t.Errorf("outcome = %q, want %q; calls = %q, reply = %q", got, tt.want, calls, h.Replies(key))
				}
			})
		}
	})
}

// TestRejectedCodes_ConstantTime checks that the processing times of all kinds of rejection are
// close to each other. Long runs compare medians, which must be within a tenth, or within a third if
// a code is revoked, which takes one more write and reveals nothing to the sender; the control that
// skips the code store must be faster than all others. Short runs notice only gross differences, such
// as the control that delays each check. They compare minimums, which other processes on the machine
// affect least, and measure again until these agree.
func TestRejectedCodes_ConstantTime(t *testing.T) {
	rounds, maxRounds, tolerance, revokedTolerance := 3, 50, 2.0, 3.0
	quantile := func(sorted []time.Duration) time.Duration { return sorted[0] }
	if harness.FullRun() {
		rounds, maxRounds, tolerance, revokedTolerance = 500, 500, 0.1, 1./3
		quantile = func(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }
	}
	cases := slices.DeleteFunc(rejectionCases(), func(tt rejectionCase) bool { return tt.want != "declined" })
	revokesCode := func(name string) bool {
		return name == "locked" || strings.HasPrefix(name, "another customer's")
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		times, typical := map[string][]time.Duration{}, map[string]time.Duration{}
		measure := func(name string, codes claim.CodeStore, tt rejectionCase) {
			w := h.NewWorker(&claim.Service{Store: h.Store, Codes: codes}, h.Store)
			times[name] = append(times[name], timeRejection(h, w, tt))
			typical[name] = quantile(slices.Sorted(slices.Values(times[name])))
		}
		var alike []time.Duration // typical times of the kinds that revoke no code
		var middle time.Duration
		off := func(name string) float64 { return float64(typical[name]-middle) / float64(middle) }
		// different returns the kinds of rejection that take longer or shorter than the others.
		different := func() (names []string) {
			alike = nil
			for _, tt := range cases {
				if !revokesCode(tt.name) {
					alike = append(alike, typical[tt.name])
				}
			}
			slices.Sort(alike)
			middle = alike[len(alike)/2]
			for _, tt := range cases {
				limit := tolerance
				if revokesCode(tt.name) {
					limit = revokedTolerance
				}
				if d := off(tt.name); d > limit || d < -min(limit, 2./3) {
					names = append(names, tt.name)
				}
			}
			return names
		}
		for n := 0; n < rounds || n < maxRounds && len(different()) > 0; n++ {
			for _, tt := range cases {
				measure(tt.name, h.Claims.Codes, tt)
			}
			measure("control", skippingCodeStore{h.Claims.Codes}, cases[0])
		}
		for _, name := range different() {
			t.Errorf("typical time of %q = %v of %d, want it close to %v", name, typical[name], len(times[name]), middle)
		}
		if harness.FullRun() && typical["control"] >= alike[0] {
			t.Errorf("median without the code store = %v, want less than %v", typical["control"], alike[0])
		}
		t.Logf("%d rounds: typical times %+.1f %% to %+.1f %% from %v", len(times["control"]),
			100*float64(alike[0]-middle)/float64(middle), 100*float64(alike[len(alike)-1]-middle)/float64(middle), middle)
		t.Logf("with a revoked code %+.1f %%, control without the code store %+.1f %%",
			100*max(off("locked"), off("another customer's")), 100*off("control"))

		// Control: the same check notices when one kind takes longer.
		delay, slow := 5*middle, cases[0]
		times[slow.name] = nil
		measure(slow.name, hookedCodeStore{h.Claims.Codes, func(context.Context) error {
			<-time.After(delay)
			return nil
		}}, slow)
		if got := different(); !slices.Contains(got, slow.name) {
			t.Errorf("control with a delay of %v: different = %q, want %q in it", delay, got, slow.name)
		}
	})
}

// skippingCodeStore returns Missing without a lookup.
type skippingCodeStore struct{ claim.CodeStore }

func (skippingCodeStore) Check(context.Context, claim.Target, string, string, string) (claim.CheckResult, error) {
	return claim.CheckResult{Result: claim.Missing}, nil
}

// timeRejection returns how long a worker takes to process an attempt.
func timeRejection(h *harness.ClaimFixture, w *process.Worker, tt rejectionCase) time.Duration {
	h.T.Helper()
	sender, code := tt.attempt(h)
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
