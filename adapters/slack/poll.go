package slack

import (
	"context"
	"errors"
	"log/slog"
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
	maxBatch        = 32 // letters taken at once
	maxQueued       = 32 // letters waiting; then nothing more is read
)

// A receivedFrame is an envelope with the connection it came on.
type receivedFrame struct {
	frame      frame
	socket     *socket
	receivedAt time.Time
}

type batchHandler = func(ctx context.Context, batch []adapters.Message, cursor string) error

// Poll hears Socket Mode until ctx ends. A connection that ends is replaced, and one
// that Slack asks to replace is heard until the new one is there. An envelope is
// acknowledged, on the connection it came on, only after take has returned nil for it:
// Slack delivers every other one again, also one whose acknowledgement was lost. It
// gives up only when Slack refuses the app-level token. There is no cursor.
func (a *Adapter) Poll(ctx context.Context, ep adapters.Endpoint, _ string, take func(ctx context.Context, batch []adapters.Message, cursor string) error) error {
	hearing, stop := context.WithCancel(ctx)
	defer stop()
	// Connections outlive hearing until what is taken is acknowledged.
	line, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	letters := make(chan receivedFrame, maxQueued)
	var desk, sockets sync.WaitGroup
	desk.Go(func() { a.processFrames(hearing, ep, letters, take) })
	err := a.keepConnected(hearing, ep, func(s *socket, leave func(string)) {
		sockets.Go(func() {
			end := context.AfterFunc(line, s.close)
			defer end()
			defer s.close()
			beating, still := context.WithCancel(line)
			sockets.Go(func() { s.sendPings(beating) })
			defer still()
			s.readFrames(hearing, letters, leave)
		})
	})
	stop()
	desk.Wait()
	hangUp()
	sockets.Wait()
	return err
}

// keepConnected opens a connection, and the next whenever one is needed. hear hears a
// connection in the background and calls its leave once, when it is to be replaced.
func (a *Adapter) keepConnected(ctx context.Context, ep adapters.Endpoint, hear func(s *socket, leave func(reason string))) error {
	pause := adapters.NewBackoff(minBackoff, maxBackoff)
	for ctx.Err() == nil {
		s, err := a.openSocket(ctx, ep)
		if err != nil {
			if stop := a.sleepBeforeRetry(ctx, ep, err, pause); stop != nil {
				return stop
			}
			continue
		}
		a.log().InfoContext(ctx, "socket opened", slog.String("endpoint", ep.ID))
		left := make(chan string, 1)
		hear(s, func(reason string) { left <- reason })
		select {
		case reason := <-left:
			if s.hasAcked.Load() || time.Since(s.opened) > maxBackoff {
				pause.Reset()
			}
			wait := pause.Next()
			a.log().InfoContext(ctx, "socket to be replaced", slog.String("endpoint", ep.ID), slog.String("reason", reason), slog.Duration("wait", wait))
			if err := adapters.Sleep(ctx, wait); err != nil {
				return err
			}
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// sleepBeforeRetry waits as long as a failed connection calls for, or says why waiting is
// senseless.
func (a *Adapter) sleepBeforeRetry(ctx context.Context, ep adapters.Endpoint, err error, pause *adapters.Backoff) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var e *adapters.SendError
	if errors.As(err, &e) && e.Reason == adapters.Refused && errors.Is(e, errSlackResponse) {
		return err
	}
	return pause.Sleep(ctx, a.log(), ep, err)
}

// processFrames takes letters in the order they came, until ctx ends.
func (a *Adapter) processFrames(ctx context.Context, ep adapters.Endpoint, letters <-chan receivedFrame, take batchHandler) {
	for {
		select {
		case first := <-letters:
			a.processBatch(ctx, ep, collectBatch(first, letters), take)
		case <-ctx.Done():
			return
		}
	}
}

// collectBatch adds to the first letter those that wait already.
func collectBatch(first receivedFrame, letters <-chan receivedFrame) []receivedFrame {
	batch := []receivedFrame{first}
	for len(batch) < maxBatch {
		select {
		case l := <-letters:
			batch = append(batch, l)
		default:
			return batch
		}
	}
	return batch
}

// processBatch has a batch taken and acknowledges it. What is another app's or workspace's is
// left to Slack, which may have somebody else to deliver it to.
func (a *Adapter) processBatch(ctx context.Context, ep adapters.Endpoint, batch []receivedFrame, take batchHandler) {
	var messages []adapters.Message
	answers := make([]func(http.ResponseWriter, error), len(batch))
	for i, l := range batch {
		in, err := a.parsePayload(l.frame, ep)
		if err != nil {
			a.log().WarnContext(ctx, "envelope refused", slog.String("endpoint", ep.ID), slog.String("reason", err.Error()))
			continue
		}
		messages, answers[i] = append(messages, in.Messages...), in.Ack
	}
	if len(messages) > 0 && !a.deliver(ctx, ep, messages, batch[0].receivedAt, take) {
		return
	}
	for i, l := range batch {
		if answers[i] == nil {
			continue
		}
		if words := l.frame.acknowledgement(answers[i]); words != nil && l.socket.write(words) == nil {
			l.socket.hasAcked.Store(true)
		}
	}
}

// deliver gives a batch to take until it is taken or Slack has stopped waiting for it, and
// is about to deliver it again.
func (a *Adapter) deliver(ctx context.Context, ep adapters.Endpoint, batch []adapters.Message, came time.Time, take batchHandler) (taken bool) {
	pause := adapters.NewBackoff(minStoreBackoff, maxBackoff)
	for {
		if err := take(ctx, batch, ""); err == nil {
			return true
		}
		wait := pause.Next()
		if ctx.Err() != nil || time.Since(came)+wait > ackTimeout || adapters.Sleep(ctx, wait) != nil {
			a.log().WarnContext(ctx, "messages left to Slack", slog.String("endpoint", ep.ID), slog.String("reason", "not stored"), slog.Int("messages", len(batch)))
			return false
		}
	}
}
