package claims

import (
	"context"
	"errors"
	"strings"
	"testing"

	"hydragate/claim"
	"hydragate/e2e/harness"
)

// findlessCodeStore does not respond to Find.
type findlessCodeStore struct{ claim.CodeStore }

func (findlessCodeStore) Find(context.Context, claim.Target, []string) (map[string]claim.Target, error) {
	return nil, errors.New("no answer")
}

// TestUnavailableCodes_WordsPassedOn checks that without the code store an ordinary message is passed on
// as it is if nothing is live at the instance, and otherwise without what could be a code.
func TestUnavailableCodes_WordsPassedOn(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		w := h.NewWorker(&claim.Service{Store: h.Store, Codes: findlessCodeStore{h.Claims.Codes}}, h.Store)
		stranger := h.NewExternalID()
		check := func(text, want string) {
			t.Helper()
			key := h.SendText(stranger, stranger, text)
			h.ProcessAll(w)
			got := h.QueryTexts(`select m.text from messages m join deliveries d on d.message_id = m.id where m.key = $1`, key)
			if len(got) != 1 || got[0] != want {
				t.Errorf("%q is passed on as %q, want %q", text, got, want)
			}
		}
		check("flight", "flight")
		check("hello?", "hello?")
		i, invite := h.CreateInvite("")
		check("flight", "flight") // the database alone knows invites
		p := h.CreateIdentity(h.NewExternalID())
		code := h.IssueCode(p)
		check("flight", "[withheld]")
		check("hello?", "hello?")
		check("my code: "+claim.Group(code)+"!", "my code: [withheld]!")
		key := h.SendText(stranger, stranger, "see "+invite)
		h.ProcessAll(w)
		checkNotPassedOn(t, h, key, invite, "hint")
		if i.Status() != claim.Live {
			t.Error("the invite is not live")
		}
		bare := h.SendText(p.ExternalID, p.ExternalID, code)
		claimed := h.SendText(p.ExternalID, p.ExternalID, "/claim "+code)
		h.ProcessAll(w)
		if reply := h.Replies(bare); !strings.HasPrefix(reply, "Please send /claim followed by") {
			t.Errorf("reply to the code alone = %q, want a hint", reply)
		}
		if got := h.Outcome(claimed); got != "claimed" {
			t.Errorf("outcome of the claim = %q, want claimed", got)
		}
	})
}
