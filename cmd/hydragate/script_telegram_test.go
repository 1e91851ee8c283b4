package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// telegram has nothing left | delivers UPDATE_ID TEXT to ADDRESS
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
			return fmt.Errorf("update %s was handed over %d times and is not confirmed: %w", strconv.FormatInt(id, 10), attempts, err)
		}
	}
	return nil
}
