package claims

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/identity"
)

// TestInvite_ConcurrentRedemption checks that one of many senders who redeem an invite concurrently is
// linked, although all have seen the invite as live. The control removes the fence of the row and must
// see several links.
func TestInvite_ConcurrentRedemption(t *testing.T) {
	harness.ParallelUnlessFull(t)
	n := harness.Scaled(25, 50)
	redeemConcurrently := func(h *harness.ClaimFixture) (claim.Invite, map[string]int) {
		i, code := h.CreateInvite("")
		var keys []string
		for range n {
			sender := h.NewExternalID()
			keys = append(keys, h.SendText(sender, sender, "/start claim_"+code))
		}
		wait := newBarrier(int64(n))
		store := hookedClaimStore{h.Store, func(ctx context.Context, read string) error {
			if read == "invite state" {
				wait(ctx)
			}
			return nil
		}}
		h.ProcessAll(h.NewWorker(&claim.Service{Store: store, Codes: h.Claims.Codes}, h.Store))
		got := map[string]int{}
		for _, k := range keys {
			got[h.Outcome(k)]++
		}
		return i, got
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		i, got := redeemConcurrently(h)
		accounts, events := h.RedemptionCounts(i)
		if got["claimed"] != 1 || got["declined"] != n-1 || accounts != 1 || events != 1 {
			t.Errorf("outcomes = %v, accounts = %d, events = %d; want 1 claimed, %d declined, 1 account, 1 event",
				got, accounts, events, n-1)
		}
		h.DropConstraint("invites", "invites_fence", "constraint invites_fence check (fence >= 0)")
		i, got = redeemConcurrently(h)
		if accounts, _ := h.RedemptionCounts(i); accounts < 2 {
			t.Errorf("control without the fence: accounts = %d (%v), want several", accounts, got)
		}
	})
}

// TestRejectedInvites_Indistinguishable checks that the reply to a rejected invite is the same for
// every reason, byte for byte, and so are the calls to both stores.
func TestRejectedInvites_Indistinguishable(t *testing.T) {
	harness.ParallelUnlessFull(t)
	tests := []struct {
		name    string
		prepare func(h *harness.ClaimFixture, i claim.Invite, code string) string
		want    string
	}{
		{
			"wrong",
			func(*harness.ClaimFixture, claim.Invite, string) string { return claim.NewInviteCode() },
			"declined",
		},
		{"expired", func(h *harness.ClaimFixture, i claim.Invite, code string) string {
			h.Exec(`update invites set expires_at = '2020-01-01 00:00:00.000+00:00' where id = $1`, i.ID)
			return code
		}, "declined"},
		{"revoked", func(h *harness.ClaimFixture, i claim.Invite, code string) string {
			h.Exec(`update invites set revoked_at = created_at where id = $1`, i.ID)
			return code
		}, "declined"},
		{"used", func(h *harness.ClaimFixture, i claim.Invite, code string) string {
			h.Exec(`update invites set used_msg = id where id = $1`, i.ID)
			return code
		}, "declined"},
		{"another customer's account", func(h *harness.ClaimFixture, _ claim.Invite, code string) string {
			h.CreateIdentity("730004")
			return code
		}, "declined"},
		{"of another bot", func(h *harness.ClaimFixture, i claim.Invite, code string) string {
			h.Exec(`update invites set channel = 'slack' where id = $1`, i.ID)
			return code
		}, "declined"},
		{"control: live", func(_ *harness.ClaimFixture, _ claim.Invite, code string) string { return code }, "claimed"},
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		recorder := newCallRecorder(h)
		for n, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				i, code := h.CreateInvite("")
				typed, sender := tt.prepare(h, i, code), fmt.Sprint(730_000+n)
				h.SendText(sender, "warm-up", "hello")
				h.ProcessMessages()
				key := h.SendText(sender, sender, "/claim "+typed)
				calls := recorder.processAll(h)
				same := slices.Equal(calls, []string{"pending messages", "invite state", "apply"}) &&
					h.Replies(key) == rejectionReply
				if got := h.Outcome(key); got != tt.want || same != (tt.want == "declined") {
					t.Errorf("outcome = %q, want %q; calls = %q, reply = %q", got, tt.want, calls, h.Replies(key))
				}
			})
		}
	})
}

// TestInvite_GuessesThrottled checks that after five wrong invites and codes together a sender is
// throttled, even with a right invite, while other senders are not. Invites of other customers
// count like wrong ones; otherwise six attempts would distinguish them.
func TestInvite_GuessesThrottled(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		// exhaustAttempts sends a code that is declined as often as the limit allows, and once more.
		exhaustAttempts := func(sender, code string) {
			for n := range claim.MaxFailuresPerQuarterHour + 1 {
				key, want := h.SendText(sender, sender, "/claim "+code), "declined"
				h.ProcessMessages()
				if n == claim.MaxFailuresPerQuarterHour {
					want = "throttled"
				}
				if got := h.Outcome(key); got != want {
					t.Errorf("sender %s, attempt %d: outcome = %q, want %q", sender, n+1, got, want)
				}
			}
		}
		i, code := h.CreateInvite("")
		h.CreateIdentity("740002") // linked to another customer
		exhaustAttempts("740002", code)
		_, used := h.CreateInvite("")
		first := h.SendText("740004", "740004", "/claim "+used)
		h.ProcessMessages()
		if got := h.Outcome(first); got != "claimed" {
			t.Errorf("outcome = %q, want claimed", got)
		}
		exhaustAttempts("740005", used)
		for range claim.MaxFailuresPerQuarterHour + 1 {
			again := h.SendText("740004", "740004", "/claim "+used)
			h.ProcessMessages()
			if got := h.Outcome(again); got != "already_verified" {
				t.Errorf("outcome of a repeated redemption = %q, want already_verified", got)
			}
		}
		revoked, revokedCode := h.CreateInvite("")
		k := claim.InviteKey{TenantID: harness.TestTenantID, CustomerID: revoked.CustomerID, InviteID: revoked.ID}
		if err := h.Store.RevokeInvite(t.Context(), k, identity.System); err != nil {
			t.Fatal(err)
		}
		exhaustAttempts("740006", revokedCode)
		var keys []string
		for n := range claim.MaxFailuresPerQuarterHour {
			typed := claim.NewInviteCode()
			if n%2 == 1 {
				typed = claim.NewCode()
			}
			keys = append(keys, h.SendText("740001", "740001", "/claim "+typed))
		}
		keys = append(keys,
			h.SendText("740001", "740001", "/claim "+code), h.SendText("740001", "740001", "/start claim_"+code))
		h.ProcessMessages()
		var got []string
		for _, k := range keys {
			got = append(got, h.Outcome(k))
		}
		want := []string{"declined", "declined", "declined", "declined", "declined", "throttled", "throttled"}
		if !slices.Equal(got, want) {
			t.Errorf("outcomes = %v, want %v", got, want)
		}
		if h.Replies(keys[5]) == "" || h.Replies(keys[6]) != "" {
			t.Errorf("replies while throttled = %q, %q; want one reply, then none",
				h.Replies(keys[5]), h.Replies(keys[6]))
		}
		if accounts, _ := h.RedemptionCounts(i); accounts != 0 {
			t.Errorf("accounts = %d, want 0", accounts)
		}
		key := h.SendText("740003", "740003", "/claim "+code)
		h.ProcessMessages()
		if got := h.Outcome(key); got != "claimed" {
			t.Errorf("outcome of another sender = %q, want claimed", got)
		}
		// The daily limit still applies when the limit per quarter of an hour has expired.
		h.Exec(h.AgedQuery(`update claim_failures set at = %s where sender_id = '740001'`, "20 minutes"))
		_, again := h.CreateInvite("")
		for range claim.MaxFailuresPerDay - claim.MaxFailuresPerQuarterHour {
			h.SendText("740001", "740001", "/claim "+claim.NewInviteCode())
			h.ProcessMessages()
			h.Exec(h.AgedQuery(`update claim_failures set at = %s where sender_id = '740001'`, "20 minutes"))
		}
		last := h.SendText("740001", "740001", "/claim "+again)
		h.ProcessMessages()
		if got := h.Outcome(last); got != "throttled" {
			t.Errorf("outcome after the daily limit = %q, want throttled", got)
		}
	})
}

// TestNoInviteLeaks checks that no invite code is stored or logged in plain text. It creates and
// redeems invites in every form, and then searches the databases and the log. Planted codes show
// that the search works.
func TestNoInviteLeaks(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		var log harness.LockedBuffer
		h.Log = &log
		var codes []string
		forms := []string{
			"/claim ", "claim ", "/start claim_", "/claim@" + harness.BotUsername + " ", "", "/claim@other_bot ",
		}
		for n, form := range forms {
			i, code := h.CreateInvite("")
			codes = append(codes, code)
			sender := fmt.Sprint(750_000 + n)
			typed := code
			if n%2 == 1 {
				typed = strings.ToLower(claim.Group(code))
			}
			_, exposed := h.CreateInvite("") // revoked because a group sees it
			codes = append(codes, exposed)
			h.SendMessage(adapters.Message{
				Kind: adapters.Text, Text: form + exposed, Sender: adapters.Sender{ID: sender},
				Chat: adapters.Chat{ID: "-100" + sender, Group: true},
			})
			h.ProcessMessages()
			if form != "" { // without a command a revoked invite is an ordinary text
				h.SendText(sender, sender, form+exposed)
				h.ProcessMessages()
			}
			h.SendText(sender, sender, form+typed)
			if hits := harness.FindCodes(codes, h.Dump(log.String())); len(hits) > 0 {
				t.Error("codes found while the message is queued:", hits)
			}
			h.ProcessMessages()
			h.SendText("750999", "750999", "/claim "+code)
			h.ProcessMessages()
			if n == 0 {
				if accounts, _ := h.RedemptionCounts(i); accounts != 1 {
					t.Error("the invite was not redeemed")
				}
			}
		}
		_, live := h.CreateInvite("")
		codes = append(codes, live)
		if hits := harness.FindCodes(codes, h.Dump(log.String())); len(hits) > 0 {
			t.Error("codes found:", hits)
		}
		name := "my link is " + claim.Group(codes[0])
		p := h.CreateIdentity("750998")
		k := identity.Key{TenantID: harness.TestTenantID, CustomerID: p.CustomerID, IdentityID: p.IdentityID}
		edit := identity.Edit{DisplayName: &name}
		if _, err := h.Store.EditIdentity(t.Context(), k, edit, identity.System); err != nil {
			t.Fatal(err)
		}
		planted := strings.ToLower(codes[1])
		if err := h.Redis.Set(t.Context(), "hg:planted:"+h.InstanceID, planted, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		_, _ = log.Write([]byte("https://t.me/" + harness.BotUsername + "?start=claim_" + codes[2]))
		if found := harness.FindCodes(codes, h.Dump(log.String())); len(found) < 3 {
			t.Errorf("FindCodes = %v, want the three planted codes", found)
		}
	})
}
