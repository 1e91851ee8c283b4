//go:build unix

package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
)

// TestKilledGatewayLosesNothing kills the gateway again and again while people write
// on every channel. What was acknowledged is stored once, handed over in order as one
// effect, and answered; a reply is repeated at most for each that was on its way at a
// kill. With HYDRAGATE_TEST_LONG=1: 200 kills and 5,040 messages.
func TestKilledGatewayLosesNothing(t *testing.T) {
	alongside(t)
	kills, each, n := share(12, 200), share(8, 30), share(10, 42)
	s, p := newStorm(t, climate{})
	p.kill()
	r := s.gather(each)
	s.mortality(r, n, kills)
	r.holds(3*each*n, kills*outboxSize)
	s.healthy()

	t.Run("control: acknowledged before it is stored", func(t *testing.T) {
		wholeOnly(t) // a dozen kills may all come at the wrong moment
		s.role = "hasty gateway"
		r := s.gather(each)
		s.mortality(r, n, max(kills/8, 12))
		r.failing(func(v verdict) int { return v.lost })
	})
}

// mortality lets the people of a round say n messages each while the gateway is killed
// so often, 10 to 200 ms after it began to listen, and lets one live in the end.
func (s *storm) mortality(r *round, n, kills int) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), 10*time.Minute)
	defer stop()
	var killed tide
	r.pace = during(n, kills, &killed)
	r.talk(ctx, n)
	for range kills {
		p, err := s.start(ctx)
		if err != nil {
			s.t.Fatalf("%v\n%s", err, s.tail())
		}
		<-time.After(10*time.Millisecond + rand.N(190*time.Millisecond))
		p.kill()
		s.leasesEnd(ctx)
		killed.turn()
	}
	p, err := s.start(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	defer p.kill()
	r.talks.Wait()
	if !s.quiet(time.Minute) {
		s.t.Errorf("it is not quiet a minute after the last kill\n%s", s.tail())
	}
	s.t.Logf("killed %d times", kills)
}

// beHasty makes a gateway acknowledge before it stores.
func beHasty(p *parts, _ *settings) error {
	p.hooks.Inbox = &hasty{inbox: p.inbox, log: p.log}
	return nil
}

// A hasty inbox says that a message is stored, and then stores it.
type hasty struct {
	inbox *gateway.Inbox
	all   sync.WaitGroup
	log   *slog.Logger
}

func (h *hasty) Accept(ctx context.Context, ep adapters.Endpoint, in adapters.Inbound) error {
	h.all.Go(func() {
		if err := h.inbox.Accept(context.WithoutCancel(ctx), ep, in); err != nil {
			h.log.Info("not stored after all", "error", err)
		}
	})
	return nil
}
