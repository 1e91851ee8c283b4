package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// telegram has nothing left: it could hand over all that people wrote.
func (w *world) telegramDoes(ts *testscript.TestScript, args []string) error {
	if strings.Join(args, " ") == "has nothing left" {
		return w.telegramEmpty()
	}
	return errors.New("usage: telegram has nothing left")
}

// telegramEmpty waits until every update is confirmed.
func (w *world) telegramEmpty() error {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	for _, id := range w.telegram.Pending(telegramBot) {
		if attempts, err := w.telegram.WaitDelivered(ctx, id); err != nil {
			return fmt.Errorf("update %d was handed over %d times and is not confirmed: %w", id, attempts, err)
		}
	}
	return nil
}
