package claims

import (
	"regexp"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/e2e/harness"
	"hydragate/identity"
)

// unlinkWord matches the word in the reply to /unlink.
var unlinkWord = regexp.MustCompile(`send /unlink ([A-Z]{5}) within`)

// A claimedIdentity is a verified identity on the channel of a fixture.
type claimedIdentity struct {
	harness.LinkedIdentity
	h *harness.ClaimFixture
}

// claimIdentity links an identity to a customer and verifies it. A new customer is created if customer
// is empty.
func claimIdentity(h *harness.ClaimFixture, customer string) claimedIdentity {
	h.T.Helper()
	external := "+1415555" + h.NewExternalID()[5:]
	if h.Channel == adapters.Telegram {
		external = h.NewExternalID()
	}
	p := harness.LinkedIdentity{CustomerID: customer, ExternalID: external}
	if customer == "" {
		p = h.CreateIdentity(external)
	} else {
		i, err := h.Store.Link(h.T.Context(), identity.Identity{
			TenantID: harness.TestTenantID, CustomerID: customer, InstanceID: h.InstanceID, Channel: string(h.Channel),
			ExternalID: external,
		}, identity.System)
		if err != nil {
			h.T.Fatal(err)
		}
		p.IdentityID = i.ID
	}
	c := claimedIdentity{p, h}
	c.expect("/claim "+h.IssueCode(p), "claimed")
	return c
}

// expect sends a text as the identity, checks its outcome and returns the reply.
func (c claimedIdentity) expect(text, outcome string) (reply string) {
	c.h.T.Helper()
	key := c.h.SendText(c.ExternalID, c.ExternalID, text)
	c.h.ProcessMessages()
	if got := c.h.Outcome(key); got != outcome {
		c.h.T.Errorf("%s: outcome of %q = %q, want %q", c.h.Channel, text, got, outcome)
	}
	return c.h.Replies(key)
}

// askedWord returns the word in the reply to /unlink.
func (c claimedIdentity) askedWord() string {
	c.h.T.Helper()
	found := unlinkWord.FindStringSubmatch(c.expect("/unlink", "unlink_asked"))
	if found == nil {
		c.h.T.Fatalf("%s: the reply to /unlink contains no word", c.h.Channel)
	}
	return found[1]
}

// eventCount returns the number of events of a kind about the identity.
func (c claimedIdentity) eventCount(kind string) (n int) {
	c.h.T.Helper()
	c.h.Scan(`select count(*) from audit_events where identity_id = $1 and kind = $2`, []any{c.IdentityID, kind}, &n)
	return n
}

// TestUnlink_ForgedSender checks that a person who can forge the number of a sender, but cannot read the
// replies, does not unlink the account, and that its owner does.
func TestUnlink_ForgedSender(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		for _, h.Channel = range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
			forged := claimIdentity(h, "")
			forged.expect("/unlink", "unlink_asked")
			forged.expect("/unlink", "unlink_asked")
			forged.expect("/unlink unlink", "unlink_failed")
			withdrawn := forged.askedWord()
			forged.expect("/unlink again", "unlink_failed")
			forged.expect("/unlink "+withdrawn, "unlink_asked")
			forged.expect("/unlink BCDFG", "unlink_failed")
			forged.expect("/unlink", "unlink_refused")
			var n int
			h.Scan(`select count(*) from identities where id = $1 and verified_at is not null`, []any{forged.IdentityID}, &n)
			if n != 1 || forged.eventCount("identity.unlinked") != 0 {
				t.Fatalf("%s: a forged sender unlinked the identity", h.Channel)
			}
			if n := forged.eventCount("identity.unlink_failed"); n != 3 {
				t.Errorf("%s: %d events identity.unlink_failed, want 3", h.Channel, n)
			}
			h.Exec(h.AgedQuery(`update identities set unlink_failed_at = %s`, "25 hours"))
			word := strings.ToLower(forged.askedWord())
			forged.expect("/Unlink "+word[:2]+"-"+word[2:]+".", "unlinked")
		}
		h.Channel = adapters.Telegram
		owner := claimIdentity(h, "")
		if reply := owner.expect("/unlink", "unlink_asked"); !strings.Contains(reply, "send /unlink again") {
			t.Errorf("reply = %q, want no word", reply)
		}
		owner.expect("/unlink", "unlinked")
	})
}

// TestUnlink_NotifiesOtherIdentities checks that the other verified identities of the customer are
// notified of an unlinking, whatever the channel, and that it is in the audit log.
func TestUnlink_NotifiesOtherIdentities(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		other := claimIdentity(h, "")
		for channel, name := range map[adapters.Channel]string{adapters.SMS: "SMS", adapters.Telegram: "Telegram"} {
			h.Channel = channel
			unlinked := claimIdentity(h, other.CustomerID)
			h.Exec(`delete from outbox where recipient = $1`, other.ExternalID)
			confirmation := "/unlink"
			if channel == adapters.SMS {
				confirmation += " " + unlinked.askedWord()
			} else {
				unlinked.expect("/unlink", "unlink_asked")
			}
			unlinked.expect(confirmation, "unlinked")
			notices := h.QueryTexts(`select text from outbox where recipient = $1 and cause = 'notice'`, other.ExternalID)
			want := "Your " + name + " account was just unlinked. If this was not you, please tell us right away."
			if len(notices) != 1 || notices[0] != want {
				t.Errorf("notices = %q, want %q", notices, want)
			}
			if n := unlinked.eventCount("identity.unlinked"); n != 1 {
				t.Errorf("%s: %d events identity.unlinked, want 1", channel, n)
			}
		}
	})
}

// TestPaidReplies_InstanceLimit checks that an instance answers at most 100 SMS and WhatsApp messages an
// hour by itself, however many senders are forged, that this is recorded once, and that a claim is still
// answered.
func TestPaidReplies_InstanceLimit(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		const limit = 100
		count := func(query string) (n int) {
			t.Helper()
			h.Scan(query, nil, &n)
			return n
		}
		flood := func(senders int) {
			t.Helper()
			for _, h.Channel = range []adapters.Channel{adapters.SMS, adapters.WhatsApp} {
				for n := range senders {
					sender := "+1415555" + h.NewExternalID()[5:]
					h.SendText(sender, sender, "/help")
					if n%5 == 4 { // some concurrently; all at a time would only wait for the database
						h.ProcessMessages()
					}
				}
			}
			h.ProcessMessages()
		}
		const replies = `select count(*) from outbox where cause = 'command'`
		const events = `select count(*) from audit_events where kind = 'replies.limited'`
		flood(limit/2 - 5)
		if r, e := count(replies), count(events); r != limit-10 || e != 0 {
			t.Errorf("below the limit: %d replies, %d events, want %d and 0", r, e, limit-10)
		}
		flood(20)
		if r, e := count(replies), count(events); r != limit || e != 1 {
			t.Errorf("above the limit: %d replies, %d events, want %d and 1", r, e, limit)
		}
		h.Channel = adapters.SMS
		if reply := claimIdentity(h, "").expect("/whoami", "whoami"); reply != "" {
			t.Errorf("reply above the limit = %q", reply)
		}
		if n := count(`select count(*) from outbox where text like 'You are now verified%'`); n != 1 {
			t.Errorf("%d replies to the claim above the limit, want 1", n)
		}
		h.Channel = adapters.Telegram
		sender := h.NewExternalID()
		key := h.SendText(sender, sender, "/help")
		h.ProcessMessages()
		if h.Replies(key) == "" {
			t.Error("no reply on a free channel")
		}
		h.Exec(h.AgedQuery(`update outbox set created_at = %s`, "61 minutes"))
		flood(10)
		if r := count(replies + ` and text like 'You can write%' and channel <> 'telegram'`); r != limit+20 {
			t.Errorf("after an hour: %d replies, want %d", r, limit+20)
		}
	})
}
