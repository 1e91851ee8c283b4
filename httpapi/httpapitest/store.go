// Package httpapitest provides in-memory stores and services for tests of package httpapi and its
// surfaces. They implement what the API relies on, such as the separation of tenants; they do not
// write the audit log. The real stores are in package store.
package httpapitest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/identity"
)

// A Store implements all stores of httpapi.Stores in memory. Rows are in order of creation. The
// exported fields must not be changed while a request is being handled.
type Store struct {
	Responses     map[gateway.IdempotencyKey]gateway.StoredResponse // by key without fingerprint
	Issued        []claim.Invite
	Events        []identity.Event     // of the audit log
	Owners        []identity.Ownership // of all addresses
	Conversations []gateway.CustomerConversation
	Received      []gateway.ReceivedMessage // of each conversation
	Sent          []gateway.SentMessage     // of each conversation
	Created       int                       // number of customers ever created
	Erased        []string                  // IDs of erased customers and unknown senders
	ActorNames    map[identity.Actor]string // of members of staff

	// Faults.

	Err              error // returned by APIKeys, SaveActorName and Ping
	LaterErr         error // returned by AuditEvents for all but the first page
	PanicOnCreate    bool  // CreateCustomer panics
	NeedsGrant       bool  // MergeCustomer and UndoMerge require the right to grant
	IdentifierReused bool  // UndoMerge returns identity.ErrIdentifierReused

	mu         sync.Mutex
	serial     int
	now        time.Time
	keys       []identity.APIKey
	hashes     map[string]string // IDs of keys by hash
	customers  []identity.Customer
	identities []identity.Identity
	instances  []gateway.Instance
	merged     map[string]merge     // by ID of the merged customer
	blocked    map[string]time.Time // by ID of the identity
	tenants    map[string]identity.TenantSettings
}

// NewStore returns an empty store in which everything happens at the given time.
func NewStore(now time.Time) *Store {
	return &Store{
		Responses: map[gateway.IdempotencyKey]gateway.StoredResponse{}, now: now, hashes: map[string]string{},
		merged: map[string]merge{}, blocked: map[string]time.Time{}, tenants: map[string]identity.TenantSettings{},
	}
}

// newID returns the next ID. The caller must hold the lock.
func (s *Store) newID() string {
	s.serial++
	return fmt.Sprintf("01930f6e-0000-7000-8000-%012x", s.serial)
}

// lock locks the store and returns the function that unlocks it.
func (s *Store) lock() func() {
	s.mu.Lock()
	return s.mu.Unlock
}

// Ping implements httpapi.HealthStore.
func (s *Store) Ping(context.Context) error { return s.Err }

// Migrated implements httpapi.HealthStore.
func (s *Store) Migrated(context.Context) error { return nil }

// filterRows returns up to limit rows that match.
func filterRows[T any](rows []T, limit int, match func(T) bool) []T {
	var found []T
	for _, row := range rows {
		if match(row) && len(found) < limit {
			found = append(found, row)
		}
	}
	return found
}

// findRow returns the first row that matches. It returns identity.ErrNotFound if there is none.
func findRow[T any](rows []T, match func(T) bool) (T, error) {
	for _, row := range rows {
		if match(row) {
			return row, nil
		}
	}
	var zero T
	return zero, identity.ErrNotFound
}
