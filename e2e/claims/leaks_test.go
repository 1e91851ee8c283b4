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

// TestNoCodeLeaks issues and redeems codes in every way and looks for them in all
// that is kept: the bytes of the database with what is not in its main file yet, all of
// Redis, and the log. One that is planted is found.
func TestNoCodeLeaks(t *testing.T) {
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
			group := h.SendMessage(adapters.Message{Kind: adapters.Text, Text: "/claim " + code, Sender: adapters.Sender{ID: p.ExternalID}, Chat: adapters.Chat{ID: "-100" + p.ExternalID, Group: true}})
			wrong := h.SendText(p.ExternalID, p.ExternalID, "/claim "+harness.WrongCode(code))
			right := h.SendText(p.ExternalID, p.ExternalID, typed)
			again := h.SendText(p.ExternalID, p.ExternalID, "/claim "+code)
			h.ProcessMessages()
			foreign := h.SendText(other, other, "/claim "+code)
			h.ProcessMessages()
			for key, want := range map[string]string{group: "not_private", wrong: "declined", right: "claimed", again: "already_verified", foreign: "declined"} {
				if got := h.Outcome(key); got != want {
					t.Errorf("form %q: outcome %q; want %s", form, got, want)
				}
			}
		}
		q := h.CreateIdentity("700058") // a code that stays live while we look
		live := h.IssueCode(q)
		codes = append(codes, live)
		r := h.CreateIdentity("700057") // a code that is typed alone by the wrong account
		strayed := h.IssueCode(r)
		codes = append(codes, strayed)
		h.SendText("700056", "700056", claim.Group(strayed))
		h.SendText(r.ExternalID, "-100"+r.ExternalID, strayed)
		h.ProcessMessages()
		if hits := harness.FindCodes(codes, h.Dump(log.String())); len(hits) > 0 {
			t.Error(hits)
		}
		// Before it is worked, a code is there sealed alone.
		h.SendText(q.ExternalID, q.ExternalID, "/claim "+live)
		if hits := harness.FindCodes(codes, h.Dump(log.String())); len(hits) > 0 {
			t.Error("while it waits:", hits)
		}

		name := "my code is " + claim.Group(codes[0])
		if _, err := h.Store.EditIdentity(t.Context(), identity.Key{TenantID: harness.TestTenantID, CustomerID: q.CustomerID, IdentityID: q.IdentityID}, identity.Edit{DisplayName: &name}, identity.System); err != nil {
			t.Fatal(err)
		}
		if err := h.Redis.Set(t.Context(), "hg:planted:"+h.InstanceID, strings.ToLower(codes[1]), time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		_, _ = log.Write([]byte(claim.Spell(codes[2])))
		planted := harness.FindCodes(codes, h.Dump(log.String()))
		if len(planted) < 3 {
			t.Errorf("of three that were planted there were found: %v", planted)
		}
	})
}
