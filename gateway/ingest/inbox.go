package ingest

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// An Inbox takes messages from hooks and pollers and says when they are stored.
// Callers that come at the same time share a commit; one that comes alone does not
// wait for company.
type Inbox struct {
	Store InboxStore
	Wake  func() // called after each commit: there is work
	Log   *slog.Logger

	Metrics      *Metrics      // nil: not counted
	Backpressure *Backpressure // nil: never high
	Spooler      *Spooler      // nil: what cannot be stored is not taken

	queues  [committers]chan *pendingCommit // by conversation: two commits never wait for one lane
	touches chan string                     // endpoints that heard something
}

// A InboxStore stores arrivals; see store.Store.Take and Receive.
type InboxStore interface {
	InsertMessages(ctx context.Context, as []gateway.IncomingMessage, c *gateway.Cursor) (stored int, err error)
	ApplyReceipts(ctx context.Context, ep adapters.Endpoint, rs []adapters.Receipt) error
	TouchEndpoint(ctx context.Context, endpoint string, at time.Time) error
}

type pendingCommit struct {
	messages []gateway.IncomingMessage
	done     chan error  // of one, never blocks the committer
	claimed  atomic.Bool // taken by the committer, or taken back by the caller
}

const (
	maxBatch         = 64   // arrivals in one commit
	maxQueuedCallers = 2048 // callers; more are sent away at once
	committers       = 2    // one commits while the other's batch fills
	insertTimeout    = 4 * time.Second
)

// NewInbox makes an Inbox; Run must run for Accept to return.
func NewInbox(store InboxStore, wake func(), log *slog.Logger) *Inbox {
	b := &Inbox{Store: store, Wake: wake, Log: log, touches: make(chan string, maxQueuedCallers)}
	for i := range b.queues {
		b.queues[i] = make(chan *pendingCommit, maxQueuedCallers)
	}
	return b
}

// UseSpooler makes a Spooler keep what cannot be stored, of the channels that it is for.
// It is called before the first Accept.
func (b *Inbox) UseSpooler(s *Spooler) { b.Spooler, s.inbox = s, b }

// Accept stores what a channel handed over, and returns nil only when it is stored
// durably, or kept durably until it can be.
func (b *Inbox) Accept(ctx context.Context, ep adapters.Endpoint, in adapters.Inbound) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, insertTimeout)
		defer cancel()
	}
	if len(in.Receipts) > 0 {
		if err := b.Store.ApplyReceipts(ctx, ep, in.Receipts); err != nil {
			return err
		}
	}
	switch {
	case len(in.Messages) == 0:
		return nil
	case b.Spooler.covers(ep.Channel):
		return b.Spooler.accept(ctx, ep, in.Messages)
	case b.Backpressure.Active():
		return gateway.ErrOverloaded
	}
	return b.store(ctx, ep, in.Messages)
}

// store has messages committed together with those of others. When ctx ends before
// that began they are taken back.
func (b *Inbox) store(ctx context.Context, ep adapters.Endpoint, ms []adapters.Message) error {
	w := &pendingCommit{done: make(chan error, 1), messages: make([]gateway.IncomingMessage, 0, len(ms))}
	for _, m := range ms {
		w.messages = append(w.messages, newIncomingMessage(ep, m))
	}
	select {
	case b.queues[w.queueIndex()] <- w:
	default:
		return gateway.ErrOverloaded
	}
	select {
	case err := <-w.done:
		if err == nil {
			b.markActive(ep)
		}
		return err
	case <-ctx.Done():
		w.claimed.Store(true)
		return context.Cause(ctx)
	}
}

// AcceptBatch stores what a poller fetched, and moves its cursor in the same
// transaction.
func (b *Inbox) AcceptBatch(ctx context.Context, ep adapters.Endpoint, ms []adapters.Message, c gateway.Cursor) error {
	if b.Backpressure.Active() {
		return gateway.ErrOverloaded
	}
	as := make([]gateway.IncomingMessage, 0, len(ms))
	for _, m := range ms {
		as = append(as, newIncomingMessage(ep, m))
	}
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	_, err := b.insert(ctx, as, &c)
	if errors.Is(err, gateway.ErrUnstorable) {
		// Each alone first, so that only the one at fault is put aside; then the cursor,
		// which finds them all stored.
		for i := range as {
			if as[i], err = b.storeOne(ctx, as[i]); err != nil {
				return err
			}
		}
		_, err = b.insert(ctx, as, &c)
	}
	if err == nil && len(as) > 0 {
		b.Wake()
		b.markActive(ep)
	}
	return err
}

// AcceptBackfill stores messages that their provider told of long after they were sent. It
// gives how many are new.
func (b *Inbox) AcceptBackfill(ctx context.Context, ep adapters.Endpoint, ms []adapters.Message) (stored int, err error) {
	if len(ms) == 0 {
		return 0, nil
	}
	if b.Backpressure.Active() || b.Spooler.covers(ep.Channel) && b.Spooler.Spool.HasRecords() {
		return 0, gateway.ErrOverloaded // what is in the spool came before
	}
	as := make([]gateway.IncomingMessage, 0, len(ms))
	for _, m := range ms {
		as = append(as, newIncomingMessage(ep, m))
	}
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	stored, err = b.insert(ctx, as, nil)
	if errors.Is(err, gateway.ErrUnstorable) || errors.Is(err, gateway.ErrRejected) && len(as) > 1 {
		for _, a := range as {
			if _, err := b.storeOne(ctx, a); err != nil {
				return stored, err
			}
			stored++
		}
		err = nil
	}
	if err != nil {
		return 0, err
	}
	b.Metrics.recordStored(stored, 0)
	b.Wake()
	return stored, nil
}

// Run commits until ctx ends, then commits what is still waiting.
func (b *Inbox) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { b.touchEndpoints(ctx) })
	for _, queue := range b.queues {
		wg.Go(func() {
			for {
				select {
				case w := <-queue:
					b.commit(ctx, w, queue)
				case <-ctx.Done():
					b.drain(ctx, queue)
					return
				}
			}
		})
	}
	wg.Wait()
}

func (b *Inbox) drain(ctx context.Context, queue chan *pendingCommit) {
	for {
		select {
		case w := <-queue:
			b.commit(ctx, w, queue)
		default:
			return
		}
	}
}

// queueIndex is the queue in which a caller waits.
func (w *pendingCommit) queueIndex() int { return int(w.messages[0].ConversationID[0]) % committers }

func (b *Inbox) commit(ctx context.Context, first *pendingCommit, queue chan *pendingCommit) {
	batch, as := make([]*pendingCommit, 0, maxBatch), make([]gateway.IncomingMessage, 0, maxBatch)
	take := func(w *pendingCommit) {
		if !w.claimed.Swap(true) {
			batch, as = append(batch, w), append(as, w.messages...)
		}
	}
	take(first)
	for more := true; more && len(as) < maxBatch; {
		select {
		case w := <-queue:
			take(w)
		default:
			more = false
		}
	}
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), insertTimeout)
	defer cancel()
	stored, err := b.insert(ctx, as, nil)
	if errors.Is(err, gateway.ErrUnstorable) || errors.Is(err, gateway.ErrRejected) && len(batch) > 1 {
		b.storeEach(ctx, batch)
		return
	}
	b.Metrics.recordStored(stored, len(as)-stored)
	for _, w := range batch {
		w.done <- err
	}
	if err == nil {
		b.Wake()
	}
}

// insert stores arrivals. A panic says that one of them cannot be stored as it is.
func (b *Inbox) insert(ctx context.Context, as []gateway.IncomingMessage, c *gateway.Cursor) (stored int, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			b.Log.ErrorContext(ctx, "panic in storing", "arrivals", len(as), "error", reason, "stack", string(debug.Stack()))
			err = gateway.ErrUnstorable
		}
	}()
	return b.Store.InsertMessages(ctx, as, c)
}

// storeEach finds which of a batch the database refuses, so that it stops nobody else.
func (b *Inbox) storeEach(ctx context.Context, batch []*pendingCommit) {
	for _, w := range batch {
		var err error
		for i := range w.messages {
			if w.messages[i], err = b.storeOne(ctx, w.messages[i]); err != nil {
				break
			}
		}
		w.done <- err
	}
	b.Wake()
}

// storeOne stores one arrival, as sealed bytes when the database refuses it as it is.
func (b *Inbox) storeOne(ctx context.Context, a gateway.IncomingMessage) (gateway.IncomingMessage, error) {
	_, err := b.insert(ctx, []gateway.IncomingMessage{a}, nil)
	if errors.Is(err, gateway.ErrUnstorable) {
		b.Log.WarnContext(ctx, "message quarantined", "channel", a.Channel, "instance", a.InstanceID, "id", a.ID)
		a = quarantined(a)
		_, err = b.insert(ctx, []gateway.IncomingMessage{a}, nil)
	}
	return a, err
}

// touchInterval is how exact the time of an endpoint's last event is.
const touchInterval = 30 * time.Second

// markActive keeps, for staff to see, that an endpoint heard something; a word too many is
// dropped.
func (b *Inbox) markActive(ep adapters.Endpoint) {
	select {
	case b.touches <- ep.ID:
	default:
	}
}

// touchEndpoints writes those notes, beside the hooks and not in them.
func (b *Inbox) touchEndpoints(ctx context.Context) {
	at := map[string]time.Time{}
	for {
		var id string
		select {
		case id = <-b.touches:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		if now.Sub(at[id]) < touchInterval {
			continue
		}
		if len(at) > maxQueuedCallers {
			clear(at)
		}
		at[id] = now
		bounded, cancel := context.WithTimeout(ctx, insertTimeout)
		if err := b.Store.TouchEndpoint(bounded, id, now); err != nil && ctx.Err() == nil {
			b.Log.InfoContext(ctx, "endpoint not noted", "error", err)
		}
		cancel()
	}
}
