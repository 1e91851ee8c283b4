package gateway

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/claim"
)

// An Inbox takes messages from hooks and pollers and says when they are stored.
// Callers that come at the same time share a commit; one that comes alone does not
// wait for company.
type Inbox struct {
	Store Taker
	Wake  func() // called after each commit: there is work
	Log   *slog.Logger

	Pressure *Pressure // nil: never high
	Spooler  *Spooler  // nil: what cannot be stored is not taken

	queues [committers]chan *waiting // by conversation: two commits never wait for one lane
	heard  chan string               // endpoints that heard something
}

// A Taker stores arrivals; see store.Store.Take and Receive.
type Taker interface {
	Take(ctx context.Context, as []Arrival, c *Cursor) (stored int, err error)
	Receive(ctx context.Context, ep adapters.Endpoint, rs []adapters.Receipt) error
	TouchSeat(ctx context.Context, endpoint string, at time.Time) error
}

type waiting struct {
	arrivals []Arrival
	done     chan error  // of one, never blocks the committer
	begun    atomic.Bool // taken by the committer, or taken back by the caller
}

const (
	maxBatch    = 64   // arrivals in one commit
	maxWaiting  = 2048 // callers; more are sent away at once
	committers  = 2    // one commits while the other's batch fills
	takeTimeout = 4 * time.Second
)

// NewInbox makes an Inbox; Run must run for Accept to return.
func NewInbox(store Taker, wake func(), log *slog.Logger) *Inbox {
	b := &Inbox{Store: store, Wake: wake, Log: log, heard: make(chan string, maxWaiting)}
	for i := range b.queues {
		b.queues[i] = make(chan *waiting, maxWaiting)
	}
	return b
}

// Keep makes a Spooler keep what cannot be stored, of the channels that it is for.
// It is called before the first Accept.
func (b *Inbox) Keep(s *Spooler) { b.Spooler, s.inbox = s, b }

// Accept stores what a channel handed over, and returns nil only when it is stored
// durably, or kept durably until it can be.
func (b *Inbox) Accept(ctx context.Context, ep adapters.Endpoint, in adapters.Inbound) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, takeTimeout)
		defer cancel()
	}
	if len(in.Receipts) > 0 {
		if err := b.Store.Receive(ctx, ep, in.Receipts); err != nil {
			return err
		}
	}
	switch {
	case len(in.Messages) == 0:
		return nil
	case b.Spooler.keeps(ep.Channel):
		return b.Spooler.accept(ctx, ep, in.Messages)
	case b.Pressure.High():
		return ErrBusy
	}
	return b.store(ctx, ep, in.Messages)
}

// store has messages committed together with those of others. When ctx ends before
// that began they are taken back.
func (b *Inbox) store(ctx context.Context, ep adapters.Endpoint, ms []adapters.Message) error {
	w := &waiting{done: make(chan error, 1), arrivals: make([]Arrival, 0, len(ms))}
	for _, m := range ms {
		w.arrivals = append(w.arrivals, arrive(ep, m))
	}
	select {
	case b.queues[w.lane()] <- w:
	default:
		return ErrBusy
	}
	select {
	case err := <-w.done:
		if err == nil {
			b.note(ep)
		}
		return err
	case <-ctx.Done():
		w.begun.Store(true)
		return context.Cause(ctx)
	}
}

// AcceptAt stores what a poller fetched, and moves its cursor in the same
// transaction.
func (b *Inbox) AcceptAt(ctx context.Context, ep adapters.Endpoint, ms []adapters.Message, c Cursor) error {
	if b.Pressure.High() {
		return ErrBusy
	}
	as := make([]Arrival, 0, len(ms))
	for _, m := range ms {
		as = append(as, arrive(ep, m))
	}
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	_, err := b.take(ctx, as, &c)
	if errors.Is(err, ErrUnstorable) {
		// Each alone first, so that only the one at fault is put aside; then the cursor,
		// which finds them all stored.
		for i := range as {
			if as[i], err = b.alone(ctx, as[i]); err != nil {
				return err
			}
		}
		_, err = b.take(ctx, as, &c)
	}
	if err == nil && len(as) > 0 {
		b.Wake()
		b.note(ep)
	}
	return err
}

// AcceptLate stores messages that their provider told of long after they were sent. It
// gives how many are new.
func (b *Inbox) AcceptLate(ctx context.Context, ep adapters.Endpoint, ms []adapters.Message) (stored int, err error) {
	if len(ms) == 0 {
		return 0, nil
	}
	if b.Pressure.High() || b.Spooler.keeps(ep.Channel) && b.Spooler.Spool.Holding() {
		return 0, ErrBusy // what is in the spool came before
	}
	as := make([]Arrival, 0, len(ms))
	for _, m := range ms {
		as = append(as, arrive(ep, m))
	}
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	stored, err = b.take(ctx, as, nil)
	if errors.Is(err, ErrUnstorable) || errors.Is(err, ErrRejected) && len(as) > 1 {
		for _, a := range as {
			if _, err := b.alone(ctx, a); err != nil {
				return stored, err
			}
			stored++
		}
		err = nil
	}
	if err != nil {
		return 0, err
	}
	inboxStored.Add(float64(stored))
	b.Wake()
	return stored, nil
}

// Run commits until ctx ends, then commits what is still waiting.
func (b *Inbox) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { b.touch(ctx) })
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

func (b *Inbox) drain(ctx context.Context, queue chan *waiting) {
	for {
		select {
		case w := <-queue:
			b.commit(ctx, w, queue)
		default:
			return
		}
	}
}

// lane is the queue in which a caller waits.
func (w *waiting) lane() int { return int(w.arrivals[0].ConversationID[0]) % committers }

func (b *Inbox) commit(ctx context.Context, first *waiting, queue chan *waiting) {
	batch, as := make([]*waiting, 0, maxBatch), make([]Arrival, 0, maxBatch)
	take := func(w *waiting) {
		if !w.begun.Swap(true) {
			batch, as = append(batch, w), append(as, w.arrivals...)
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
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeTimeout)
	defer cancel()
	stored, err := b.take(ctx, as, nil)
	if errors.Is(err, ErrUnstorable) || errors.Is(err, ErrRejected) && len(batch) > 1 {
		b.oneByOne(ctx, batch)
		return
	}
	inboxStored.Add(float64(stored))
	inboxRepeated.Add(float64(len(as) - stored))
	for _, w := range batch {
		w.done <- err
	}
	if err == nil {
		b.Wake()
	}
}

// take stores arrivals. A panic says that one of them cannot be stored as it is.
func (b *Inbox) take(ctx context.Context, as []Arrival, c *Cursor) (stored int, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			b.Log.ErrorContext(ctx, "panic in storing", "arrivals", len(as), "error", reason, "stack", string(debug.Stack()))
			err = ErrUnstorable
		}
	}()
	return b.Store.Take(ctx, as, c)
}

// oneByOne finds which of a batch the database refuses, so that it stops nobody else.
func (b *Inbox) oneByOne(ctx context.Context, batch []*waiting) {
	for _, w := range batch {
		var err error
		for i := range w.arrivals {
			if w.arrivals[i], err = b.alone(ctx, w.arrivals[i]); err != nil {
				break
			}
		}
		w.done <- err
	}
	b.Wake()
}

// alone stores one arrival, as sealed bytes when the database refuses it as it is.
func (b *Inbox) alone(ctx context.Context, a Arrival) (Arrival, error) {
	_, err := b.take(ctx, []Arrival{a}, nil)
	if errors.Is(err, ErrUnstorable) {
		b.Log.WarnContext(ctx, "message quarantined", "channel", a.Channel, "instance", a.InstanceID, "id", a.ID)
		a = unstorable(a)
		_, err = b.take(ctx, []Arrival{a}, nil)
	}
	return a, err
}

// noteEvery is how exact the time of an endpoint's last event is.
const noteEvery = 30 * time.Second

// note keeps, for staff to see, that an endpoint heard something; a word too many is
// dropped.
func (b *Inbox) note(ep adapters.Endpoint) {
	select {
	case b.heard <- ep.ID:
	default:
	}
}

// touch writes those notes, beside the hooks and not in them.
func (b *Inbox) touch(ctx context.Context) {
	at := map[string]time.Time{}
	for {
		var id string
		select {
		case id = <-b.heard:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		if now.Sub(at[id]) < noteEvery {
			continue
		}
		if len(at) > maxWaiting {
			clear(at)
		}
		at[id] = now
		bounded, cancel := context.WithTimeout(ctx, takeTimeout)
		if err := b.Store.TouchSeat(bounded, id, now); err != nil && ctx.Err() == nil {
			b.Log.InfoContext(ctx, "endpoint not noted", "error", err)
		}
		cancel()
	}
}

// arrive makes a message ready to be stored: what may hold a claim code is sealed
// here, so that no table ever holds one.
func arrive(ep adapters.Endpoint, m adapters.Message) Arrival {
	a := Arrival{
		ID: uuid.Must(uuid.NewV7()).String(), TenantID: ep.TenantID, InstanceID: ep.InstanceID, Channel: ep.Channel,
		ConversationID: ConversationID(ep.InstanceID, ep.Channel, m.Place.ID), Message: m,
	}
	secret := Secret{Raw: m.Raw, Answer: m.Place.Answer}
	if redacted, ok := redact(m.Text, ep.Settings[adapters.BotUsername]); ok {
		secret.Text, secret.Command = m.Text, m.Command
		a.Message.Text, a.Message.Command = redacted, nil
	}
	a.Message.Raw, a.Message.Place.Answer = nil, ""
	if secret.Text != "" || secret.Answer != "" || len(secret.Raw) > 0 {
		a.Secret = &secret
	}
	return a
}

// redact gives what may be stored of a text that may hold a code, whoever it is for:
// another bot's code is nobody's business here either.
func redact(text, me string) (string, bool) {
	if t, ok := claim.Read(text, me); ok {
		return t.Redacted(), true
	}
	if claim.Addressed(text) {
		return "/claim ******", true
	}
	return "", false
}

// unstorable keeps of a message only its key and, sealed, its bytes.
func unstorable(a Arrival) Arrival {
	raw := a.Message.Raw
	if a.Secret != nil {
		raw = append(raw, a.Secret.Raw...)
		raw = append(raw, a.Secret.Text...)
	}
	raw = append(raw, a.Message.Text...)
	a.Secret = &Secret{Raw: raw}
	a.Message = adapters.Message{Key: adapters.Clean(a.Message.Key, 200), Kind: adapters.Undecodable, Place: adapters.Place{ID: adapters.Clean(a.Message.Place.ID, 200)}}
	a.ConversationID = ConversationID(a.InstanceID, a.Channel, a.Message.Place.ID)
	return a
}
