//go:build unix

package main

import (
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
