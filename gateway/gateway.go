// Package gateway is what happens to a message: it is accepted, its conversation is
// worked in order, commands are answered, everything else is handed on, and replies
// leave. It does not know how a channel speaks, nor how a database keeps its word.
package gateway

import (
	"errors"
)

// Errors of the stores behind the gateway.
var (
	// ErrLeaseLost says that somebody else works the lane now: what was about to be
	// written was not.
	ErrLeaseLost = errors.New("gateway: lease lost")
	// ErrFenced says that a claim is not good any more; nothing was written.
	ErrFenced = errors.New("gateway: claim refused by its fence")
	// ErrUnstorable says that the database refuses the data itself.
	ErrUnstorable = errors.New("gateway: data cannot be stored")
	// ErrRejected says that the database answered, and not with yes: a part of what was
	// to be stored is at fault, not the way there.
	ErrRejected = errors.New("gateway: refused by the database")
	// ErrUnavailable says that the database does not answer, or that it cannot work now.
	ErrUnavailable = errors.New("gateway: the database is away")
	// ErrNoMasterKey says that what is stored is sealed with a master key that this
	// process was not given. Another process may have it: nothing is given up for it.
	ErrNoMasterKey = errors.New("gateway: sealed with a master key that is not here")
	// ErrOverloaded says that more waits to be stored than can be stored soon.
	ErrOverloaded = errors.New("gateway: too much is waiting")
)

// Errors of everything that keeps instances and endpoints.
var (
	// ErrNoInstance says no such instance, or one of another tenant.
	ErrNoInstance = errors.New("gateway: no such instance")
	// ErrNoEndpoint says that the instance has no endpoint on the channel.
	ErrNoEndpoint = errors.New("gateway: no such endpoint")
)
