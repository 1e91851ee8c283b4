// Package ingest stores the messages that webhooks, pollers and the logs of providers return, and
// acknowledges them once they are stored: in the database or, while it is unavailable, in a spool on
// disk. It neither decodes messages nor processes them.
package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// An Inbox stores the messages of webhooks and pollers, and reports when they are stored.
// Concurrent calls share a commit; a single call does not wait for others.
type Inbox struct {
	Store InboxStore
	Wake  func() // called after each commit
	Log   *slog.Logger

	Metrics      *Metrics      // nil records nothing
	Backpressure *Backpressure // nil never refuses messages
	Spooler      *Spooler      // nil refuses messages that cannot be stored

	queues  [committers]chan *pendingCommit // by conversation, so that two commits never wait for the same queue row
	touches chan string                     // IDs of endpoints that received a message
}

// An InboxStore stores messages and receipts.
type InboxStore interface {
	InsertMessages(ctx context.Context, as []gateway.IncomingMessage, c *gateway.Cursor) (stored int, err error)
	ApplyReceipts(ctx context.Context, ep adapters.Endpoint, rs []adapters.Receipt) error
	TouchEndpoint(ctx context.Context, endpoint string, at time.Time) error
}

type pendingCommit struct {
	messages []gateway.IncomingMessage
	done     chan error  // buffered, so that the committer never blocks
	claimed  atomic.Bool // by the committer, or by a caller that gave up
}

const (
	maxBatch         = 64   // messages in one commit
	maxQueuedCallers = 2048 // further callers are refused immediately
	committers       = 2    // one commits while the batch of the other fills
	insertTimeout    = 4 * time.Second
)

// NewInbox returns an Inbox. Accept blocks until Run is called.
func NewInbox(store InboxStore, wake func(), log *slog.Logger) *Inbox {
	b := &Inbox{Store: store, Wake: wake, Log: log, touches: make(chan string, maxQueuedCallers)}
	for i := range b.queues {
		b.queues[i] = make(chan *pendingCommit, maxQueuedCallers)
	}
	return b
}

// UseSpooler makes s store messages that the database cannot store, for the channels that s
// covers. It must be called before the first Accept.
func (b *Inbox) UseSpooler(s *Spooler) { b.Spooler, s.inbox = s, b }

// Accept stores the messages and receipts of a webhook. It returns nil only if they are stored
// durably in the database or in the spool. It returns gateway.ErrOverloaded if the provider should
// retry later.
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

// store commits messages together with those of other callers. If ctx ends before the commit
// begins, they are withdrawn.
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

// AcceptBatch stores what a poller fetched, and moves its cursor in the same transaction.
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
	stored, err := b.insert(ctx, as, &c)
	if errors.Is(err, gateway.ErrUnstorable) {
		// Store each message alone, so that only the invalid one is quarantined; then move the
		// cursor.
		for i := range as {
			var n int
			if as[i], n, err = b.storeOne(ctx, as[i]); err != nil {
				return err
			}
			stored += n
		}
		_, err = b.insert(ctx, as, &c)
	}
	if err == nil && len(as) > 0 {
		b.Metrics.recordStored(stored, len(as)-stored)
		b.Wake()
		b.markActive(ep)
	}
	return err
}

// AcceptBackfill stores messages from a provider's log and returns the number of new ones.
func (b *Inbox) AcceptBackfill(
	ctx context.Context,
	ep adapters.Endpoint,
	ms []adapters.Message,
) (stored int, err error) {
	if len(ms) == 0 {
		return 0, nil
	}
	if b.Backpressure.Active() || b.Spooler.covers(ep.Channel) && b.Spooler.Spool.HasRecords() {
		return 0, gateway.ErrOverloaded // the spooled messages are older
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
			_, n, err := b.storeOne(ctx, a)
			if err != nil {
				return stored, err
			}
			stored += n
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

// Run commits until ctx ends, then commits what is still queued.
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

// queueIndex returns the index of the queue for the conversation of w.
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

// insert stores messages. A panic is logged and reported as gateway.ErrUnstorable, because one of the
// messages has caused it.
func (b *Inbox) insert(ctx context.Context, messages []gateway.IncomingMessage, c *gateway.Cursor) (int, error) {
	stored, err := b.insertSafely(ctx, messages, c)
	if errors.Is(err, gateway.ErrPanic) {
		b.Log.ErrorContext(ctx, "insert of messages panicked", "messages", len(messages), "error", err)
		err = gateway.ErrUnstorable
	}
	return stored, err
}

// insertSafely stores messages. A panic becomes an error.
func (b *Inbox) insertSafely(
	ctx context.Context, messages []gateway.IncomingMessage, c *gateway.Cursor,
) (stored int, err error) {
	defer gateway.RecoverInto(&err)
	return b.Store.InsertMessages(ctx, messages, c)
}

// storeEach stores the messages of a batch one by one, so that one that the database rejects does
// not affect the others.
func (b *Inbox) storeEach(ctx context.Context, batch []*pendingCommit) {
	for _, w := range batch {
		var err error
		for i := range w.messages {
			var n int
			if w.messages[i], n, err = b.storeOne(ctx, w.messages[i]); err != nil {
				break
			}
			b.Metrics.recordStored(n, 1-n)
		}
		w.done <- err
	}
	b.Wake()
}

// storeOne stores one message. If the database cannot store it, only its key and its encrypted
// bytes are stored. It returns the message as stored, and 1 if it is new or 0 if it is a
// duplicate.
func (b *Inbox) storeOne(
	ctx context.Context, a gateway.IncomingMessage,
) (asStored gateway.IncomingMessage, stored int, err error) {
	stored, err = b.insert(ctx, []gateway.IncomingMessage{a}, nil)
	if errors.Is(err, gateway.ErrUnstorable) {
		b.Log.WarnContext(ctx, "message quarantined", "channel", a.Channel, "instance", a.InstanceID, "id", a.ID)
		a = quarantined(a)
		stored, err = b.insert(ctx, []gateway.IncomingMessage{a}, nil)
	}
	return a, stored, err
}

// touchInterval is the precision of the time of an endpoint's last event.
const touchInterval = 30 * time.Second

// markActive records that an endpoint received a message. The record is dropped if too many are
// pending.
func (b *Inbox) markActive(ep adapters.Endpoint) {
	select {
	case b.touches <- ep.ID:
	default:
	}
}

// touchEndpoints stores what markActive recorded, outside of webhook requests.
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
			b.Log.InfoContext(ctx, "update time of last event failed", "error", err)
		}
		cancel()
	}
}
