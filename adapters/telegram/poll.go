package telegram

import (
	"context"
	"encoding/json"
	"time"

	"hydragate/adapters"
)

const (
	pollSeconds     = 50 // maximum of the Bot API
	pollTimeout     = pollSeconds*time.Second + 15*time.Second
	minBackoff      = 500 * time.Millisecond
	maxBackoff      = 30 * time.Second
	maxStoreBackoff = 2 * time.Second // while the store is unavailable
	pollLimit       = 100
)

// Poll fetches updates until ctx ends. An update is acknowledged to Telegram only after take has
// returned nil for it; take is retried with the same batch. Poll returns early only if Telegram
// rejects the token.
func (a *Adapter) Poll(
	ctx context.Context, ep adapters.Endpoint, cursor string,
	take func(ctx context.Context, batch []adapters.Message, cursor string) error,
) error {
	at := parsePosition(cursor, ep)
	backoff := adapters.NewBackoff(minBackoff, maxBackoff)
	for ctx.Err() == nil {
		raws, err := a.getUpdates(ctx, ep, at.offset(a.now()))
		if err != nil {
			if stop := backoff.Sleep(ctx, a.log(), ep, err); stop != nil {
				return stop
			}
			continue
		}
		if len(raws) == 0 {
			backoff.Reset()
			continue
		}
		next := at.advance(raws, a.now())
		if err := a.deliver(ctx, ep, parseUpdates(raws, ep), next.String(), take); err != nil {
			return err
		}
		if next.next == at.next { // nothing to acknowledge
			if err := adapters.Sleep(ctx, backoff.Next()); err != nil {
				return err
			}
		} else {
			backoff.Reset()
		}
		at = next
	}
	return ctx.Err()
}

// getUpdates makes one long poll. It is not a method of the SDK, which has only a poller of its
// own. The kinds of updates are sent with each call, because Telegram remembers those of the last
// call, by any program.
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

// deliver calls take with a batch until it succeeds or ctx ends.
func (a *Adapter) deliver(
	ctx context.Context, ep adapters.Endpoint, batch []adapters.Message, cursor string,
	take func(context.Context, []adapters.Message, string) error,
) error {
	backoff := adapters.NewBackoff(minBackoff, maxStoreBackoff)
	for {
		err := take(ctx, batch, cursor)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait := backoff.Next()
		a.log().WarnContext(ctx, "store updates failed, retrying",
			"endpoint", ep.ID, "retry_in_ms", wait.Milliseconds(), "error", err)
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
