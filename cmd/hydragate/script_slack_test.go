package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// A mailbag holds what Slack is delivering in the background. The zero value is ready.
type mailbag struct {
	all sync.WaitGroup

	mu   sync.Mutex
	lost []error
}

// slack is sending PERSON TEXT | is sending PERSON /COMMAND TEXT | has delivered all | loses acks | hears acks | waits | drops | says REASON
func (w *world) slackDoes(ts *testscript.TestScript, args []string) error {
	switch does := strings.Join(args[:min(2, len(args))], " "); {
	case does == "is sending" && len(args) == 4:
		w.mailbag.add(func() error { return w.lines["slack"].says(w.ctx, cast[args[2]], args[3]) })
		return nil
	case does == "is sending" && len(args) == 5:
		w.mailbag.add(func() error { return w.slash(cast[args[2]], args[3], args[4]) })
		return nil
	case strings.Join(args, " ") == "has delivered all":
		return w.mailbag.empty(w.ctx)
	case does == "loses acks", does == "hears acks":
		w.slack.LoseAcks(args[0] == "loses")
		return nil
	case does == "waits":
		return new(bell).until(patience, func() error {
			if w.slack.Waiting() == 0 {
				return errors.New("Slack waits for no acknowledgement")
			}
			return nil
		})
	case does == "drops":
		w.slack.Drop(slackApp)
		return nil
	case args[0] == "says" && len(args) == 2:
		w.slack.Disconnect(slackApp, args[1])
		return nil
	}
	return errors.New("usage: slack is sending PERSON [/COMMAND] TEXT | has delivered all | loses acks | hears acks | waits | drops | says REASON")
}

func (b *mailbag) add(deliver func() error) {
	b.all.Go(func() {
		if err := deliver(); err != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.lost = append(b.lost, err)
		}
	})
}

// empty waits until everything is delivered or given up.
func (b *mailbag) empty(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		b.all.Wait()
		close(done)
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
		return errors.New("Slack is still delivering")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := errors.Join(b.lost...); err != nil {
		return fmt.Errorf("Slack could not deliver all: %w", err)
	}
	return nil
}
