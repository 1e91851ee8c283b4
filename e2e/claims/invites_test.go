package claims

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/gateway"
	"hydragate/gateway/process"
	"hydragate/identity"
)

// barrierClaimStore is a claim store whose first reads of an invite wait for each other, so that
// all callers decide on the same state.
type barrierClaimStore struct {
	claim.Store
	*codeStoreBarrier
}

func (d barrierClaimStore) InviteState(ctx context.Context, a claim.Attempt) (claim.InviteState, error) {
	s, err := d.Store.InviteState(ctx, a)
	select {
	case <-d.released: // a second read
	default:
		d.waitContext(ctx)
	}
	return s, err
}

// retryingStore retries database calls that time out, because fifty concurrent calls may take
// longer than the limit for one.
type retryingStore struct{ process.MessageStore }

func (s retryingStore) PendingMessages(ctx context.Context, l gateway.Lease) (ins []gateway.StoredMessage, err error) {
	for {
		ins, err = s.MessageStore.PendingMessages(ctx, l)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return ins, err
		}
	}
}

func (s retryingStore) Apply(ctx context.Context, st gateway.Commit) error {
	for {
		err := s.MessageStore.Apply(ctx, st)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
}

// TestInvite_ConcurrentRedemption checks that one of fifty senders who redeem an invite
// concurrently is linked, although all have seen the invite as live. The control removes the fence
// of the row and must see several links.
func TestInvite_ConcurrentRedemption(t *testing.T) {
	const n = 50
	redeemConcurrently := func(h *harness.ClaimFixture) (claim.Invite, map[string]int) {
		i, code := h.CreateInvite("")
		var keys []string
		for p := range n {
			sender := fmt.Sprint(710_000 + p)
			keys = append(keys, h.SendText(sender, sender, "/start claim_"+code))
		}
		service := &claim.Service{
			Store: barrierClaimStore{h.Store, newCodeStoreBarrier(nil, n)},
			Codes: h.Claims.Codes,
		}
		h.ProcessAll(h.NewWorker(service, retryingStore{h.Store}))
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
	})
	t.Run("control: check, then write", func(t *testing.T) {
		harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
			h.DropConstraint("invites", "invites_fence", "constraint invites_fence check (fence >= 0)")
			i, got := redeemConcurrently(h)
			if accounts, _ := h.RedemptionCounts(i); accounts < 2 {
				t.Errorf("accounts without the fence = %d (%v), want several", accounts, got)
			}
		})
	})
}

// newMessage builds a message of sender with an invite code.
type newMessage func(code, sender string) adapters.Message

// inviteText returns a text message. It replaces CODE and GROUPED in template by the code as issued
// and as shown to customers, and code and grouped by their lower case forms.
func inviteText(template string) newMessage {
	return func(code, _ string) adapters.Message {
		grouped := claim.Group(code)
		r := strings.NewReplacer(
			"CODE", code, "code", strings.ToLower(code), "GROUPED", grouped, "grouped", strings.ToLower(grouped))
		return adapters.Message{Kind: adapters.Text, Text: r.Replace(template)}
	}
}

// withChange returns the message of build after change was applied.
func withChange(build newMessage, change func(m *adapters.Message, sender string)) newMessage {
	return func(code, sender string) adapters.Message {
		m := build(code, sender)
		change(&m, sender)
		return m
	}
}

// inGroup moves a message to a group chat.
func inGroup(m *adapters.Message, sender string) {
	m.Chat = adapters.Chat{ID: "-100" + sender, Group: true}
}

// updateInvite returns a function that runs query with the id of the invite.
func updateInvite(query string) func(h *harness.ClaimFixture, i claim.Invite) {
	return func(h *harness.ClaimFixture, i claim.Invite) { h.Exec(query, i.ID) }
}

// inviteForm is a message with an invite code and its outcome.
type inviteForm struct {
	name    string
	message newMessage
	before  func(h *harness.ClaimFixture, i claim.Invite) // runs before the message is processed
	want    string
}

// inviteForms returns the accepted and the rejected forms.
func inviteForms() []inviteForm {
	return []inviteForm{
		{"deep link", inviteText("/start claim_CODE"), nil, "claimed"},
		{"deep link to this bot", inviteText("/start@" + harness.BotUsername + " claim_CODE"), nil, "claimed"},
		{"as shown", inviteText("/claim GROUPED"), nil, "claimed"},
		{"lower case, with spaces", inviteText("claim   grouped "), nil, "claimed"},
		{"typographic quotes", inviteText("„Claim grouped“."), nil, "claimed"},
		{"two lines", inviteText("/claim\nGROUPED"), nil, "claimed"},
		{
			"sender with a username",
			withChange(inviteText("/claim CODE"), func(m *adapters.Message, _ string) { m.Sender.Username = "steve" }),
			nil,
			"claimed",
		},
		{"one second left", inviteText("/claim CODE"), func(h *harness.ClaimFixture, i claim.Invite) {
			h.Exec(h.ShiftedQuery(`update invites set expires_at = (select max(%s) from messages) where id = $1`, "1"),
				i.ID)
		}, "claimed"},

		{"without the command", inviteText("GROUPED"), nil, "hint"},
		{"to another bot", inviteText("/claim@other_bot CODE"), nil, "for_another_bot"},
		{"deep link to another bot", inviteText("/start@other_bot claim_CODE"), nil, "for_another_bot"},
		{"in a group", withChange(inviteText("/claim CODE"), inGroup), nil, "not_private"},
		{
			"deep link in a group", withChange(inviteText("/start@"+harness.BotUsername+" claim_CODE"), inGroup),
			nil, "not_private",
		},
		{"without the command in a group", withChange(inviteText("GROUPED"), inGroup), nil, "not_private"},
		{"forwarded to a group", withChange(inviteText("/claim CODE"), func(m *adapters.Message, sender string) {
			m.Chat, m.UnprovenReason = adapters.Chat{ID: "-100" + sender, Group: true}, "forwarded"
		}), nil, "not_private"},
		{
			"forwarded",
			withChange(inviteText("/claim CODE"), func(m *adapters.Message, _ string) {
				m.UnprovenReason = "forwarded"
			}),
			nil,
			"not_proven",
		},
		{
			"edited",
			withChange(inviteText("/claim CODE"), func(m *adapters.Message, _ string) { m.Kind = adapters.Edit }),
			nil,
			"not_proven",
		},
		{"wrong code", func(code, _ string) adapters.Message {
			return adapters.Message{Kind: adapters.Text, Text: "/claim " + claim.NewInviteCode()}
		}, nil, "declined"},
		{"expired", inviteText("/claim CODE"), func(h *harness.ClaimFixture, i claim.Invite) {
			h.Exec(h.ShiftedQuery(`update invites set expires_at = (select max(%s) from messages) where id = $1`, "-1"),
				i.ID)
		}, "declined"},
		{"revoked", inviteText("/claim CODE"), func(h *harness.ClaimFixture, i claim.Invite) {
			k := claim.InviteKey{TenantID: harness.TestTenantID, CustomerID: i.CustomerID, InviteID: i.ID}
			if err := h.Store.RevokeInvite(h.T.Context(), k, identity.System); err != nil {
				h.T.Fatal(err)
			}
		}, "declined"},
		{"used", inviteText("/claim CODE"), updateInvite(`update invites set used_msg = id where id = $1`), "declined"},
		{"of another instance", inviteText("/claim CODE"), func(h *harness.ClaimFixture, i claim.Invite) {
			instance := gateway.Instance{TenantID: harness.TestTenantID, Name: "other"}
			secrets := gateway.InstanceSecrets{AgentSecretKey: uuid.NewString(), WebhookSecret: "whsec_x"}
			other, err := h.Store.CreateInstance(h.T.Context(), instance, secrets, identity.System)
			if err != nil {
				h.T.Fatal(err)
			}
			h.Exec(`update invites set instance_id = $2 where id = $1`, i.ID, other.ID)
		}, "declined"},
		{
			"of another channel",
			inviteText("/claim CODE"),
			updateInvite(`update invites set channel = 'slack' where id = $1`),
			"declined",
		},
	}
}

// TestInvite_AcceptedForms checks which messages redeem an invite and which do not.
func TestInvite_AcceptedForms(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		for n, tt := range inviteForms() {
			t.Run(tt.name, func(t *testing.T) { testInviteForm(t, h, tt, fmt.Sprint(720_000+n)) })
		}
		// Text that only looks like an invite code is delivered unchanged.
		key := h.SendText("720999", "720999", "BCDF-GHJK-LMNP")
		h.ProcessMessages()
		texts := h.QueryTexts(`select text from messages where key = $1`, key)
		if got := h.Outcome(key); got != "forwarded" || !slices.Equal(texts, []string{"BCDF-GHJK-LMNP"}) {
			t.Errorf("outcome of text like an invite code = %q, want forwarded and unchanged", got)
		}
	})
}

// testInviteForm sends a new invite in the given form and checks the outcome.
func testInviteForm(t *testing.T, h *harness.ClaimFixture, tt inviteForm, sender string) {
	defer h.UseT(t)()
	i, code := h.CreateInvite(identity.RoleOwner)
	m := tt.message(code, sender)
	m.Sender.ID = sender
	if m.Chat.ID == "" {
		m.Chat.ID = sender
	}
	key := h.SendMessage(m)
	if tt.before != nil {
		tt.before(h, i)
	}
	h.ProcessMessages()
	accounts, _ := h.RedemptionCounts(i)
	if got := h.Outcome(key); got != tt.want || (accounts == 1) != (tt.want == "claimed") {
		t.Errorf("outcome = %q, accounts = %d; want %q", got, accounts, tt.want)
	}
	var revoked int
	h.Scan(`select count(*) from invites where id = $1 and revoked_at is not null`, []any{i.ID}, &revoked)
	if want := tt.want == "not_private" || tt.name == "revoked"; want != (revoked == 1) {
		t.Errorf("revoked = %v, want %v: only an invite exposed in a group is revoked", revoked == 1, want)
	}
	var delivered int
	h.Scan(`select count(*) from deliveries d join messages m on m.id = d.message_id where m.key = $1`,
		[]any{key}, &delivered)
	if delivered != 0 {
		t.Error("the message was delivered to the application")
	}
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
		recorder := &callRecorder{}
		h.Redis.AddHook(recordingRedisHook{recorder})
		for n, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				service := &claim.Service{Store: recordingClaimStore{h.Store, recorder}, Codes: h.Claims.Codes}
				w := h.NewWorker(service, recordingStore{h.Store, recorder})
				i, code := h.CreateInvite("")
				typed, sender := tt.prepare(h, i, code), fmt.Sprint(730_000+n)
				h.SendText(sender, "warm-up", "hello")
				h.ProcessAll(w)
				recorder.drain()
				key := h.SendText(sender, sender, "/claim "+typed)
				h.ProcessAll(w)
				calls := recorder.drain()
				if at := slices.Index(calls, "apply"); at >= 0 {
					calls = calls[:at+1]
				}
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
		i, code := h.CreateInvite("")
		h.CreateIdentity("740002") // linked to another customer
		exhaustAttempts(h, "740002", code, "declined")
		_, used := h.CreateInvite("")
		first := h.SendText("740004", "740004", "/claim "+used)
		h.ProcessMessages()
		if got := h.Outcome(first); got != "claimed" {
			t.Errorf("outcome = %q, want claimed", got)
		}
		exhaustAttempts(h, "740005", used, "declined")
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
		exhaustAttempts(h, "740006", revokedCode, "declined")
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

// exhaustAttempts sends the same code as often as the limit allows, and once more.
func exhaustAttempts(h *harness.ClaimFixture, sender, code, want string) {
	h.T.Helper()
	for n := range claim.MaxFailuresPerQuarterHour + 1 {
		key := h.SendText(sender, sender, "/claim "+code)
		h.ProcessMessages()
		if n == claim.MaxFailuresPerQuarterHour {
			want = "throttled"
		}
		if got := h.Outcome(key); got != want {
			h.T.Errorf("sender %s, attempt %d: outcome = %q, want %q", sender, n+1, got, want)
		}
	}
}

// TestNoInviteLeaks checks that no invite code is stored or logged in plain text. It creates and
// redeems invites in every form, and then searches the databases and the log. Planted codes show
// that the search works.
func TestNoInviteLeaks(t *testing.T) {
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
			h.SendText(sender, sender, form+exposed)
			h.ProcessMessages()
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
