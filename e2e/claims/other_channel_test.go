package claims

import (
	"testing"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestExposedCodes_OtherChannel checks that a code or an invite that is written on another channel of its
// instance is neither delivered nor stored, and can still be redeemed on its own.
func TestExposedCodes_OtherChannel(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		p := h.CreateIdentity(h.NewExternalID())
		code := h.IssueCode(p)
		_, invite := h.CreateInvite(identity.RoleOwner)
		phone := "+14155550100"
		send := func(text string) (key string) {
			h.Channel = adapters.SMS
			defer func() { h.Channel = adapters.Telegram }()
			key = h.SendText(phone, phone, text)
			h.ProcessMessages()
			return key
		}
		for _, tt := range []struct{ letters, text, want string }{
			{code, "my code is " + claim.Group(code), "hint"},
			{code, "Is it " + claim.Spell(code) + "?", "hint"},
			{code, code, "declined"},
			{code, "/claim " + code, "declined"},
			{invite, "see https://t.me/acme_bot?start=claim_" + invite, "hint"},
			{invite, invite, "hint"},
			{invite, "/claim " + invite, "declined"},
		} {
			checkNotPassedOn(t, h, send(tt.text), tt.letters, tt.want)
		}
		other := "my code is " + claim.NewCode()
		if key := send(other); deliveries(h, key) != 1 {
			t.Errorf("%q: deliveries = %d, want 1", other, deliveries(h, key))
		}
		for _, c := range []struct{ sender, code string }{{p.ExternalID, code}, {h.NewExternalID(), invite}} {
			key := h.SendText(c.sender, c.sender, "/claim "+c.code)
			h.ProcessMessages()
			if got := h.Outcome(key); got != "claimed" {
				t.Errorf("outcome of %s on its own channel = %q, want claimed", c.code, got)
			}
		}
	})
}
