package claims

import (
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestNoCodeLeaks checks that no claim code is stored or logged in plain text. It issues and
// redeems codes in every form, and then searches the database files, all of Redis and the log.
// Planted codes show that the search works.
func TestNoCodeLeaks(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		var log harness.LockedBuffer
		h.Log = &log
		var codes []string
		forms := []string{"/claim ", "claim ", "/claim@" + harness.BotUsername + " ", "/start claim_", "Claim: ", ""}
		for i, form := range forms {
			p := h.CreateIdentity(string(rune('1'+i)) + "700051")
			code := h.IssueCode(p)
			codes = append(codes, code)
			typed := form + code
			if i%2 == 1 {
				typed = form + claim.Group(strings.ToLower(code))
			}
			other := string(rune('1'+i)) + "700059"
			h.SendText(other, other, "hello")
			h.ProcessMessages()
			group := h.SendMessage(adapters.Message{
				Kind: adapters.Text, Text: "/claim " + code, Sender: adapters.Sender{ID: p.ExternalID},
				Chat: adapters.Chat{ID: "-100" + p.ExternalID, Group: true},
			})
			wrong := h.SendText(p.ExternalID, p.ExternalID, "/claim "+harness.WrongCode(code))
			right := h.SendText(p.ExternalID, p.ExternalID, typed)
			again := h.SendText(p.ExternalID, p.ExternalID, "/claim "+code)
			h.ProcessMessages()
			foreign := h.SendText(other, other, "/claim "+code)
			h.ProcessMessages()
			for key, want := range map[string]string{
				group: "not_private", wrong: "declined", right: "claimed",
				again: "already_verified", foreign: "declined",
			} {
				if got := h.Outcome(key); got != want {
					t.Errorf("form %q: outcome = %q, want %q", form, got, want)
				}
			}
		}
		q := h.CreateIdentity("700058") // its code stays live during the search
		live := h.IssueCode(q)
		codes = append(codes, live)
		exposed := h.IssueCode(h.CreateIdentity("700057")) // sent without a command by another account
		bare := h.CreateIdentity("700055")
		typed := h.IssueCode(bare)
		codes = append(codes, exposed, typed)
		h.SendText("700056", "700056", claim.Group(exposed))
		h.SendText(bare.ExternalID, bare.ExternalID, typed)
		h.ProcessMessages()
		if hits := harness.FindCodes(codes, h.Dump(log.String())); len(hits) > 0 {
			t.Error("codes found:", hits)
		}
		// While a message is queued, its code is stored encrypted only.
		h.SendText(q.ExternalID, q.ExternalID, "/claim "+live)
		if hits := harness.FindCodes(codes, h.Dump(log.String())); len(hits) > 0 {
			t.Error("codes found while the message is queued:", hits)
		}

		name := "my code is " + claim.Group(codes[0])
		k := identity.Key{TenantID: harness.TestTenantID, CustomerID: q.CustomerID, IdentityID: q.IdentityID}
		edit := identity.Edit{DisplayName: &name}
		if _, err := h.Store.EditIdentity(t.Context(), k, edit, identity.System); err != nil {
			t.Fatal(err)
		}
		planted := strings.ToLower(codes[1])
		if err := h.Redis.Set(t.Context(), "hg:planted:"+h.InstanceID, planted, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		_, _ = log.Write([]byte(claim.Spell(codes[2])))
		found := harness.FindCodes(codes, h.Dump(log.String()))
		if len(found) < 3 {
			t.Errorf("FindCodes = %v, want the three planted codes", found)
		}
	})
}
