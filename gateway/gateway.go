// Package gateway defines the types and errors that the stages of the message pipeline share with
// each other and with the store. The stages are its subpackages: ingest accepts messages, process
// resolves their senders and executes commands, delivery calls the application, and outbox sends
// replies. Package gateway knows neither the protocol of a channel nor the database.
package gateway

import "errors"

// Errors returned by stores.
var (
	// ErrLeaseLost is returned if another process holds the lease, or what was processed under it was
	// erased. Nothing was written.
	ErrLeaseLost = errors.New("gateway: lease lost")
	// ErrFenced is returned if a claim is no longer valid when it is stored. Nothing was written.
	ErrFenced = errors.New("gateway: claim rejected by its fence")
	// ErrUnstorable is returned if the database cannot represent the data.
	ErrUnstorable = errors.New("gateway: data cannot be stored")
	// ErrRejected is returned if the database is available but rejects a part of the data.
	ErrRejected = errors.New("gateway: rejected by the database")
	// ErrUnavailable is returned if the database cannot be reached or cannot execute statements.
	ErrUnavailable = errors.New("gateway: database unavailable")
	// ErrNoMasterKey is returned if stored data is encrypted with a master key that this process
	// does not have. The work must be retried later, since another process may have the key.
	ErrNoMasterKey = errors.New("gateway: master key not available")
	// ErrOverloaded is returned if too much work is waiting to accept more.
	ErrOverloaded = errors.New("gateway: overloaded")
)

// Errors returned when instances and endpoints are looked up.
var (
	// ErrNoInstance is returned if the tenant has no such instance.
	ErrNoInstance = errors.New("gateway: no such instance")
	// ErrNoEndpoint is returned if the instance has no endpoint on the channel.
	ErrNoEndpoint = errors.New("gateway: no such endpoint")
)
