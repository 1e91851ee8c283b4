// Package queuetest provides in-memory stores of leases and of the items of queues, and a function that
// runs a queue.Runner for a limited time, for tests of the runner and of the work it does.
package queuetest

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"hydragate/gateway"
	"hydragate/gateway/queue"
)

// A LeaseStore is a queue.LeaseStore in memory. A conversation is due again only when its lease
// is released with a time for the next attempt.
type LeaseStore struct {
	mu            sync.Mutex
	due           map[string]time.Time // by conversation; leased conversations are absent
	conversations []string             // in the order in which they are leased
	instanceOf    func(conversation string) string
}

// NewLeaseStore returns a store in which conversations are due now. instanceOf returns the
// instance of a conversation.
func NewLeaseStore(instanceOf func(conversation string) string, conversations ...string) *LeaseStore {
	s := &LeaseStore{due: map[string]time.Time{}, conversations: conversations, instanceOf: instanceOf}
	for _, c := range conversations {
		s.due[c] = time.Now()
	}
	return s
}

// Lease leases at most n due conversations of instances that are not excluded.
func (s *LeaseStore) Lease(
	_ context.Context, kind gateway.QueueKind, holder string, n int, excluded ...string,
) (leases []gateway.Lease, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conversations {
		at, ok := s.due[c]
		if !ok || at.After(time.Now()) || len(leases) == n || slices.Contains(excluded, s.instanceOf(c)) {
			continue
		}
		delete(s.due, c)
		leases = append(leases, gateway.Lease{ConversationID: c, InstanceID: s.instanceOf(c), Kind: kind, Holder: holder})
	}
	return leases, nil
}

// Apply releases the lease of a commit. It ignores everything else in the commit.
func (s *LeaseStore) Apply(_ context.Context, c gateway.Commit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Release && !c.Next.IsZero() {
		s.due[c.Lease.ConversationID] = c.Next
	}
	return nil
}

// A Store is a LeaseStore with the items of each conversation.
type Store[T any] struct {
	*LeaseStore

	mu    sync.Mutex
	items map[string][]T
	apply func(c gateway.Commit, items []T) []T
}

// NewStore returns a store of items by conversation. Each conversation is due now and belongs to an
// instance of its own, of the same name. apply applies a commit to the items of its conversation and
// returns those that are left.
func NewStore[T any](items map[string][]T, apply func(c gateway.Commit, items []T) []T) *Store[T] {
	instanceOf := func(conversation string) string { return conversation }
	leases := NewLeaseStore(instanceOf, slices.Sorted(maps.Keys(items))...)
	return &Store[T]{LeaseStore: leases, items: items, apply: apply}
}

// Items returns the items of a leased conversation.
func (s *Store[T]) Items(l gateway.Lease) []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.items[l.ConversationID])
}

// Apply applies a commit to the items of its conversation, and releases its lease.
func (s *Store[T]) Apply(ctx context.Context, c gateway.Commit) error {
	s.mu.Lock()
	s.items[c.Lease.ConversationID] = s.apply(c, s.items[c.Lease.ConversationID])
	s.mu.Unlock()
	return s.LeaseStore.Apply(ctx, c)
}

// RunFor runs r for d, then cancels the work in progress and returns when it has ended.
func RunFor(r *queue.Runner, d time.Duration) {
	hard, cancel := context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(hard)
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx, hard) })
	<-time.After(d)
	stop()
	cancel()
	wg.Wait()
}
