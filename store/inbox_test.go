package store

import (
	"slices"
	"testing"

	"hydragate/gateway"
)

func TestMessagesAreInOrderOfAcceptance(t *testing.T) {
	onBoth(t, func(t *testing.T, h house) {
		older := h.arrival("1", "k1", "id made first")
		h.take(h.arrival("1", "k2", "stored first"))
		h.take(older)
		h.waits("stored first", "id made first")
	})
}

// waits checks what is to be worked in the conversation with sender 1.
func (h house) waits(want ...string) {
	h.t.Helper()
	var got []string
	for _, in := range h.inbound(gateway.Lease{TenantID: tenant, ConversationID: h.arrival("1", "", "").ConversationID}) {
		got = append(got, in.Message.Text)
	}
	if !slices.Equal(got, want) {
		h.t.Fatalf("to be worked are %q, not %q", got, want)
	}
}
