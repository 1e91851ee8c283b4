package slack

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"hydragate/adapters"
)

const (
	minBackoff = 500 * time.Millisecond
	maxBackoff = 30 * time.Second

	ackTimeout      = 3 * time.Second // how long Slack waits for an acknowledgement
	minStoreBackoff = 200 * time.Millisecond
	maxBatch        = 32 // maximum number of frames per batch
	maxQueued       = 32 // maximum number of waiting frames; reading stops until there are fewer
)

// A receivedFrame is an envelope with its connection.
type receivedFrame struct {
	frame      frame
	socket     *socket
	receivedAt time.Time
}

type batchHandler = func(ctx context.Context, batch []adapters.Message, cursor string) error

// Poll receives from Socket Mode until ctx ends. A connection that ends is replaced; one that
// Slack asks to replace is read until the new one is open. An envelope is acknowledged on its own
// connection, and only after take has returned nil for it: Slack redelivers all others, and those
// whose acknowledgement was lost. Poll returns early only if Slack rejects the app-level token.
// There is no cursor.
func (a *Adapter) Poll(
	ctx context.Context, ep adapters.Endpoint, _ string,
	take func(ctx context.Context, batch []adapters.Message, cursor string) error,
) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	// Connections stay open after reading ends, until the stored messages are acknowledged.
	open, closeAll := context.WithCancel(context.WithoutCancel(ctx))
	defer closeAll()
	frames := make(chan receivedFrame, maxQueued)
	var processor, sockets sync.WaitGroup
	processor.Go(func() { a.processFrames(reading, ep, frames, take) })
	err := a.keepConnected(reading, ep, func(s *socket, leave func(string)) {
		sockets.Go(func() {
			end := context.AfterFunc(open, s.close)
			defer end()
			defer s.close()
			pinging, stopPings := context.WithCancel(open)
			sockets.Go(func() { s.sendPings(pinging) })
			defer stopPings()
			s.readFrames(reading, frames, leave)
		})
	})
	stop()
	processor.Wait()
	closeAll()
	sockets.Wait()
	return err
}

// keepConnected opens a connection, and another one whenever it must be replaced. read must read a
// connection in the background and call leave once when it must be replaced. keepConnected returns early
// only if Slack does not allow another connection.
func (a *Adapter) keepConnected(
	ctx context.Context, ep adapters.Endpoint, read func(s *socket, leave func(reason string)),
) error {
	backoff := adapters.NewBackoff(minBackoff, maxBackoff)
	for ctx.Err() == nil {
		s, err := a.openSocket(ctx, ep)
		if err != nil {
			if stop := a.sleepBeforeRetry(ctx, ep, err, backoff); stop != nil {
				return stop
			}
			continue
		}
		a.log().InfoContext(ctx, "socket opened", "endpoint", ep.ID)
		left := make(chan string, 1)
		read(s, func(reason string) { left <- reason })
		select {
		case reason := <-left:
			if s.hasAcked.Load() || time.Since(s.opened) > maxBackoff {
				backoff.Reset()
			}
			wait := backoff.Next()
			a.log().InfoContext(ctx, "replacing socket",
				"endpoint", ep.ID, "reason", reason, "retry_in_ms", wait.Milliseconds())
			if err := adapters.Sleep(ctx, wait); err != nil {
				return err
			}
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// sleepBeforeRetry waits before the next attempt after err. It returns err if retrying cannot
// help.
func (a *Adapter) sleepBeforeRetry(
	ctx context.Context,
	ep adapters.Endpoint,
	err error,
	backoff *adapters.Backoff,
) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var e *adapters.SendError
	if errors.As(err, &e) && e.Reason == adapters.Refused && errors.Is(e, errSlackResponse) {
		return err
	}
	return backoff.Sleep(ctx, a.log(), ep, err)
}

// processFrames processes frames in order until ctx ends.
func (a *Adapter) processFrames(
	ctx context.Context,
	ep adapters.Endpoint,
	frames <-chan receivedFrame,
	take batchHandler,
) {
	for {
		select {
		case first := <-frames:
			a.processBatch(ctx, ep, collectBatch(first, frames), take)
		case <-ctx.Done():
			return
		}
	}
}

// collectBatch returns first with the frames that are already queued.
func collectBatch(first receivedFrame, frames <-chan receivedFrame) []receivedFrame {
	batch := []receivedFrame{first}
	for len(batch) < maxBatch {
		select {
		case l := <-frames:
			batch = append(batch, l)
		default:
			return batch
		}
	}
	return batch
}

// processBatch stores a batch and acknowledges it. Envelopes for another app or workspace are not
// acknowledged, because Slack may deliver them elsewhere.
func (a *Adapter) processBatch(ctx context.Context, ep adapters.Endpoint, batch []receivedFrame, take batchHandler) {
	var messages []adapters.Message
	acks := make([]func(http.ResponseWriter, error), len(batch))
	for i, l := range batch {
		in, err := a.parsePayload(l.frame, ep)
		if err != nil {
			a.log().WarnContext(ctx, "envelope rejected", "endpoint", ep.ID, "error", err)
			continue
		}
		for _, n := range in.Notices {
			a.notify(ctx, ep, n)
		}
		messages, acks[i] = append(messages, in.Messages...), in.Ack
	}
	if len(messages) > 0 && !a.deliver(ctx, ep, messages, batch[0].receivedAt, take) {
		return
	}
	for i, l := range batch {
		if acks[i] == nil {
			continue
		}
		if ack := l.frame.acknowledgement(acks[i]); ack != nil && l.socket.write(ack) == nil {
			l.socket.hasAcked.Store(true)
		}
	}
}

func (a *Adapter) notify(ctx context.Context, ep adapters.Endpoint, n adapters.ProviderNotice) {
	a.log().WarnContext(ctx, "provider notice", "endpoint", ep.ID, "reason", n.Reason, "detail", n.Detail)
	if a.Notify != nil {
		a.Notify(ctx, ep, n)
	}
}

// deliver calls take with a batch until it succeeds, or until Slack is about to redeliver the
// batch.
func (a *Adapter) deliver(
	ctx context.Context, ep adapters.Endpoint, batch []adapters.Message, receivedAt time.Time, take batchHandler,
) (stored bool) {
	backoff := adapters.NewBackoff(minStoreBackoff, maxBackoff)
	for {
		err := take(ctx, batch, "")
		if err == nil {
			return true
		}
		wait := backoff.Next()
		if ctx.Err() != nil || time.Since(receivedAt)+wait > ackTimeout || adapters.Sleep(ctx, wait) != nil {
			a.log().WarnContext(ctx, "store messages failed, Slack redelivers them",
				"endpoint", ep.ID, "messages", len(batch), "error", err)
			return false
		}
	}
}
