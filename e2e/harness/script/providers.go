//go:build unix

package script

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"hydragate/e2e/harness"
)

// pendingDeliveries are the deliveries of Slack in the background. The zero value is ready to use.
type pendingDeliveries struct {
	wg sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// slackCommand implements the command slack.
func (w *scriptFixture) slackCommand(_ *testscript.TestScript, args []string) error {
	if len(args) == 0 {
		return errors.New(slackUsage)
	}
	switch args[0] {
	case "send-background":
		return w.sendSlackInBackground(args[1:])
	case "wait-delivered":
		return w.deliveries.wait(w.ctx)
	case "drop-acks", "accept-acks":
		w.Slack.DropAcks(args[0] == "drop-acks")
		return nil
	case "wait-pending":
		return new(harness.Broadcast).WaitFor(harness.EventTimeout, func() error {
			if w.Slack.PendingEnvelopes() == 0 {
				return errors.New("no envelope is waiting for an acknowledgment")
			}
			return nil
		})
	case "cut-sockets":
		w.Slack.CutSockets(harness.SlackAppID)
		return nil
	case "disconnect":
		if len(args) == 2 {
			w.Slack.DisconnectSockets(harness.SlackAppID, args[1])
			return nil
		}
	}
	return errors.New(slackUsage)
}

const slackUsage = "usage: slack send-background USER [/COMMAND] TEXT | wait-delivered | drop-acks | accept-acks | " +
	"wait-pending | cut-sockets | disconnect REASON"

func (w *scriptFixture) sendSlackInBackground(args []string) error {
	switch len(args) {
	case 2:
		w.deliveries.add(func() error { return w.clients["slack"].send(w.ctx, users[args[0]], args[1], typed) })
	case 3:
		w.deliveries.add(func() error { return w.slashCommand(users[args[0]], args[1], args[2]) })
	default:
		return errors.New(slackUsage)
	}
	return nil
}

func (b *pendingDeliveries) add(deliver func() error) {
	b.wg.Go(func() {
		if err := deliver(); err != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.errs = append(b.errs, err)
		}
	})
}

// wait waits for all deliveries. It returns an error if one of them failed.
func (b *pendingDeliveries) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		b.wg.Wait()
		close(done)
	}()
	ctx, cancel := context.WithTimeout(ctx, harness.EventTimeout)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
		return errors.New("deliveries have not ended")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := errors.Join(b.errs...); err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	return nil
}

// telegramCommand implements the command telegram.
func (w *scriptFixture) telegramCommand(_ *testscript.TestScript, args []string) error {
	if strings.Join(args, " ") == "wait-confirmed" {
		return w.waitTelegramConfirmed()
	}
	return errors.New("usage: telegram wait-confirmed")
}

// waitTelegramConfirmed waits until the gateway has confirmed all updates.
func (w *scriptFixture) waitTelegramConfirmed() error {
	ctx, cancel := context.WithTimeout(w.ctx, harness.EventTimeout)
	defer cancel()
	for _, id := range w.Telegram.PendingUpdates(harness.TelegramBot) {
		if attempts, err := w.Telegram.WaitDelivered(ctx, id); err != nil {
			return fmt.Errorf("update %d not confirmed after %d attempts: %w", id, attempts, err)
		}
	}
	return nil
}
