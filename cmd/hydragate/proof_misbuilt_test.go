//go:build unix

package main

import (
	"bytes"
	"context"
	"sync"

	"hydragate/adapters"
	"hydragate/gateway"
)

// beNarrow makes a gateway that has one call of a runtime in hand.
func beNarrow(p *parts, _ *settings) error {
	for _, l := range p.lanes {
		if l.Kind == gateway.DeliveryLane {
			l.Size = 1
		}
	}
	return nil
}

// beHoarding makes a gateway that keeps what it read.
func beHoarding(p *parts, _ *settings) error {
	p.hooks.Inbox = &hoarding{inbox: p.inbox}
	return nil
}

type hoarding struct {
	inbox *gateway.Inbox
	mu    sync.Mutex
	kept  [][]byte
}

func (h *hoarding) Accept(ctx context.Context, ep adapters.Endpoint, in adapters.Inbound) error {
	h.mu.Lock()
	h.kept = append(h.kept, bytes.Repeat([]byte("kept"), 4<<10))
	h.mu.Unlock()
	return h.inbox.Accept(ctx, ep, in)
}
