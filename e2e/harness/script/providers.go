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

// A pendingDeliveries holds what Slack is delivering in the background. The zero value is ready.
type pendingDeliveries struct {
	wg sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// slack is sending PERSON TEXT | is sending PERSON /COMMAND TEXT | has delivered all | loses acks | hears acks | waits | drops | says REASON
func (w *scriptFixture) slackCommand(ts *testscript.TestScript, args []string) error {
	switch does := strings.Join(args[:min(2, len(args))], " "); {
	case does == "is sending" && len(args) == 4:
		w.deliveries.add(func() error { return w.clients["slack"].send(w.ctx, users[args[2]], args[3]) })
		return nil
	case does == "is sending" && len(args) == 5:
		w.deliveries.add(func() error { return w.slashCommand(users[args[2]], args[3], args[4]) })
		return nil
	case strings.Join(args, " ") == "has delivered all":
		return w.deliveries.wait(w.ctx)
	case does == "loses acks", does == "hears acks":
		w.slack.DropAcks(args[0] == "loses")
		return nil
	case does == "waits":
		return new(harness.Broadcast).WaitFor(harness.EventTimeout, func() error {
			if w.slack.PendingEnvelopes() == 0 {
				return errors.New("Slack waits for no acknowledgement")
			}
			return nil
		})
	case does == "drops":
		w.slack.CutSockets(harness.SlackAppID)
		return nil
	case args[0] == "says" && len(args) == 2:
		w.slack.DisconnectSockets(harness.SlackAppID, args[1])
		return nil
	}
	return errors.New("usage: slack is sending PERSON [/COMMAND] TEXT | has delivered all | loses acks | hears acks | waits | drops | says REASON")
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

// wait waits until everything is delivered or given up.
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
		return errors.New("Slack is still delivering")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := errors.Join(b.errs...); err != nil {
		return fmt.Errorf("Slack could not deliver all: %w", err)
	}
	return nil
}

// telegram has nothing left: it could hand over all that people wrote.
func (w *scriptFixture) telegramCommand(ts *testscript.TestScript, args []string) error {
	if strings.Join(args, " ") == "has nothing left" {
		return w.waitTelegramConfirmed()
	}
	return errors.New("usage: telegram has nothing left")
}

// waitTelegramConfirmed waits until every update is confirmed.
func (w *scriptFixture) waitTelegramConfirmed() error {
	ctx, cancel := context.WithTimeout(w.ctx, harness.EventTimeout)
	defer cancel()
	for _, id := range w.telegram.PendingUpdates(harness.TelegramBot) {
		if attempts, err := w.telegram.WaitDelivered(ctx, id); err != nil {
			return fmt.Errorf("update %d was handed over %d times and is not confirmed: %w", id, attempts, err)
		}
	}
	return nil
}
