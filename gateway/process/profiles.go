package process

import (
	"context"
	"errors"
	"sync"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

const (
	profileTimeout     = 2 * time.Second // for the look-up of a name, which holds up the conversation
	profilePause       = time.Minute     // without look-ups at an endpoint after one failed
	profileMemory      = time.Hour       // how long a sender is not looked up again
	maxProfilesInCache = 10_000
)

// profiles remembers which names were looked up. The zero value is ready to use.
type profiles struct {
	mu    sync.Mutex
	until map[string]time.Time // by endpoint, and by endpoint and sender
}

// takeTurn reports whether a sender of an endpoint is to be looked up, and then remembers that they
// were.
func (p *profiles) takeTurn(endpoint, sender string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := endpoint + " " + sender
	if now.Before(p.until[endpoint]) || now.Before(p.until[key]) {
		return false
	}
	if p.until == nil || len(p.until) >= maxProfilesInCache {
		p.until = map[string]time.Time{}
	}
	p.until[key] = now.Add(profileMemory)
	return true
}

// pause stops look-ups at an endpoint until a time.
func (p *profiles) pause(endpoint string, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until[endpoint] = until
}

// addProfile sets the names of an unknown sender in a message, if they are not known, on a channel
// whose messages do not contain them. Without names the message is processed all the same.
func (w *Worker) addProfile(ctx context.Context, in *gateway.StoredMessage) {
	sender := &in.Message.Sender
	a, ok := w.Adapters[in.Channel].(adapters.Profiler)
	if !ok || sender.ID == "" || sender.Name != "" || in.SenderBlocked || in.Sender.CustomerID != "" ||
		in.Sender.DisplayName != "" {
		return
	}
	ep, err := w.Endpoints.Endpoint(ctx, in.InstanceID, in.Channel)
	if err != nil || !w.profiles.takeTurn(ep.ID, sender.ID, w.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, profileTimeout)
	defer cancel()
	found, err := a.Profile(ctx, ep, sender.ID)
	if err != nil {
		pause := profilePause
		if e, ok := errors.AsType[*adapters.SendError](err); ok {
			pause = max(pause, e.RetryAfter)
		}
		w.profiles.pause(ep.ID, w.Now().Add(pause))
		w.Log.WarnContext(ctx, "look up sender failed", "endpoint", ep.ID, "error", err)
		return
	}
	sender.Name = found.Name
	if sender.Username == "" {
		sender.Username = found.Username
	}
}
