package telegram

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"hydragate/adapters"
)

const (
	pollSeconds     = 50 // the longest that Telegram lets a call wait
	pollTimeout     = pollSeconds*time.Second + 15*time.Second
	minBackoff      = 500 * time.Millisecond
	maxBackoff      = 30 * time.Second
	maxStoreBackoff = 2 * time.Second // for a store that is away: Telegram's patience is not at stake
	pollLimit       = 100
)

// Poll fetches updates until ctx ends. Nothing is confirmed to Telegram before take
// has returned nil for it; a take that fails is tried again with the same batch. It
// gives up only on a token that Telegram does not know.
func (a *Adapter) Poll(ctx context.Context, ep adapters.Endpoint, cursor string, take func(ctx context.Context, batch []adapters.Message, cursor string) error) error {
	at := parsePosition(cursor, ep)
	pause := adapters.NewBackoff(minBackoff, maxBackoff)
	for ctx.Err() == nil {
		raws, err := a.getUpdates(ctx, ep, at.offset(a.now()))
		if err != nil {
			if stop := pause.Sleep(ctx, a.log(), ep, err); stop != nil {
				return stop
			}
			continue
		}
		if len(raws) == 0 {
			pause.Reset()
			continue
		}
		next := at.advance(raws, a.now())
		if err := a.deliver(ctx, ep, parseUpdates(raws, ep), next.String(), take); err != nil {
			return err
		}
		if next.next == at.next { // nothing that Telegram could be told to forget
			if err := adapters.Sleep(ctx, pause.Next()); err != nil {
				return err
			}
		} else {
			pause.Reset()
		}
		at = next
	}
	return ctx.Err()
}

// getUpdates asks once. The kinds of update are named each time, since Telegram keeps
// what another program asked for last.
func (a *Adapter) getUpdates(ctx context.Context, ep adapters.Endpoint, offset int64) ([]json.RawMessage, error) {
	status, raw, err := a.post(ctx, ep, pollTimeout, "getUpdates", struct {
		Offset  int64    `json:"offset,omitempty"`
		Limit   int      `json:"limit"`
		Timeout int      `json:"timeout"`
		Allowed []string `json:"allowed_updates"`
	}{offset, pollLimit, pollSeconds, allowedUpdates()})
	if err != nil {
		return nil, err
	}
	var raws []json.RawMessage
	if err = decodeResponse(status, raw, &raws); err == nil {
		return raws, nil
	}
	if raws, whole := splitUpdates(raw); whole && status.ok() {
		return raws, nil
	}
	return nil, err
}

// deliver gives a batch to take until it is taken or ctx ends.
func (a *Adapter) deliver(ctx context.Context, ep adapters.Endpoint, batch []adapters.Message, cursor string, take func(context.Context, []adapters.Message, string) error) error {
	pause := adapters.NewBackoff(minBackoff, maxStoreBackoff)
	for {
		if err := take(ctx, batch, cursor); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait := pause.Next()
		a.log().WarnContext(ctx, "poll waits", slog.String("endpoint", ep.ID), slog.String("reason", "not stored"), slog.Duration("wait", wait))
		if err := adapters.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func parseUpdates(raws []json.RawMessage, ep adapters.Endpoint) []adapters.Message {
	batch := make([]adapters.Message, 0, len(raws))
	for _, raw := range raws {
		batch = append(batch, parseUpdate(raw, ep))
	}
	return batch
}
