package claims

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/gateway"
	"hydragate/gateway/process"
)

// TestUnavailableStores_NoClaimLost checks that a valid code in time is granted although the
// stores fail many attempts to process it.
func TestUnavailableStores_NoClaimLost(t *testing.T) {
	errUnavailable := errors.New("down")
	tests := []struct {
		name               string
		failures, from, to int64 // failed checks, and the first and last failed read of the code state
		attempts           int
		want               string
	}{
		{"code store unavailable for twenty attempts", 20, 0, 0, 21, "claimed"},
		{"database fails once", 0, 1, 1, 2, "claimed"},
		{"code store unavailable for ten attempts, then database fails once", 10, 11, 11, 12, "claimed"},
		{"control: code store never available", 1000, 0, 0, 30, ""},
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				p := h.CreateIdentity(h.NewExternalID())
				key := h.SendText(p.ExternalID, p.ExternalID, "/claim "+h.IssueCode(p))
				var checks, reads int64
				codes := hookedCodeStore{h.Claims.Codes, func(context.Context) error {
					if checks++; checks <= tt.failures {
						return errUnavailable
					}
					return nil
				}}
				store := hookedClaimStore{h.Store, func(context.Context, string) error {
					if reads++; tt.from <= reads && reads <= tt.to {
						return errUnavailable
					}
					return nil
				}}
				w := h.NewWorker(&claim.Service{Store: store, Codes: codes}, h.Store)
				for range tt.attempts {
					// End the retry delay.
					h.Exec(`update lanes set due_at = lease_until where due_at is not null and lease_until <= due_at`)
					h.ProcessOnce(w)
				}
				if got := h.Outcome(key); got != tt.want {
					t.Errorf("outcome = %q, want %q", got, tt.want)
				}
			})
		}
	})
}

// A hookedCodeStore calls before ahead of each check. The check fails if before returns an error. It
// has no time limit, because before may wait for other callers.
type hookedCodeStore struct {
	claim.CodeStore
	before func(context.Context) error
}

func (s hookedCodeStore) Check(
	ctx context.Context, target claim.Target, typedIn, code, message string,
) (claim.CheckResult, error) {
	ctx = context.WithoutCancel(ctx)
	if err := s.before(ctx); err != nil {
		return claim.CheckResult{}, err
	}
	return s.CodeStore.Check(ctx, target, typedIn, code, message)
}

// A hookedClaimStore calls after with the name of each read. The read fails if after returns an error.
type hookedClaimStore struct {
	claim.Store
	after func(ctx context.Context, read string) error
}

func (s hookedClaimStore) CodeState(ctx context.Context, a claim.Attempt) (claim.CodeState, error) {
	state, err := s.Store.CodeState(ctx, a)
	return state, errors.Join(err, s.after(ctx, "code state"))
}

func (s hookedClaimStore) InviteState(ctx context.Context, a claim.Attempt) (claim.InviteState, error) {
	state, err := s.Store.InviteState(ctx, a)
	return state, errors.Join(err, s.after(ctx, "invite state"))
}

// newBarrier returns a function that returns after it was called n times, or when ctx ends.
func newBarrier(n int64) func(ctx context.Context) {
	var calls atomic.Int64
	released := make(chan struct{})
	return func(ctx context.Context) {
		if calls.Add(1) == n {
			close(released)
		}
		select {
		case <-released:
		case <-ctx.Done():
		}
	}
}

// callRecorder records the calls of a worker to the stores, in order. It is a hook of go-redis and the
// worker's message store.
type callRecorder struct {
	process.MessageStore
	mu    sync.Mutex
	calls []string
}

// newCallRecorder returns a recorder for the stores of h.
func newCallRecorder(h *harness.ClaimFixture) *callRecorder {
	r := &callRecorder{MessageStore: h.Store}
	h.Redis.AddHook(r)
	return r
}

// processAll processes all messages. It returns the calls up to the first Apply.
func (r *callRecorder) processAll(h *harness.ClaimFixture) []string {
	h.T.Helper()
	r.mu.Lock()
	r.calls = nil
	r.mu.Unlock()
	claims := hookedClaimStore{h.Store, func(_ context.Context, read string) error { r.record(read); return nil }}
	h.ProcessAll(h.NewWorker(&claim.Service{Store: claims, Codes: h.Claims.Codes}, r))
	return r.calls[:slices.Index(r.calls, "apply")+1]
}

func (r *callRecorder) record(call string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
}

func (r *callRecorder) PendingMessages(ctx context.Context, l gateway.Lease) ([]gateway.StoredMessage, error) {
	r.record("pending messages")
	return r.MessageStore.PendingMessages(ctx, l)
}

func (r *callRecorder) Apply(ctx context.Context, st gateway.Commit) error {
	r.record("apply")
	return r.MessageStore.Apply(ctx, st)
}

func (r *callRecorder) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (r *callRecorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.record(cmd.Name())
		return next(ctx, cmd)
	}
}

func (r *callRecorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			r.record(cmd.Name())
		}
		return next(ctx, cmds)
	}
}
