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

// A barrierClaimStore is a ledger at which openers wait until all have looked: what they decide
// next rests on the same old news.
type barrierClaimStore struct {
	claim.Store
	*codeStoreBarrier
}

func (d barrierClaimStore) InviteState(ctx context.Context, a claim.Attempt) (claim.InviteState, error) {
	s, err := d.Store.InviteState(ctx, a)
	select {
	case <-d.released: // they look again
	default:
		d.waitContext(ctx)
	}
	return s, err
}

// A retryingStore store does again what took the database too long: fifty at once have it
// to themselves for as long as they need.
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

// TestInvite_ConcurrentRedemption lets fifty people open one invite at the same time, each
// convinced that it is still live. Without the fence of its row, many get in: that is
// what checking first and writing then does.
func TestInvite_ConcurrentRedemption(t *testing.T) {
	const n = 50
	fifty := func(h *harness.ClaimFixture) (claim.Invite, map[string]int) {
		i, code := h.CreateInvite("")
		var keys []string
		for p := range n {
			who := fmt.Sprint(710_000 + p)
			keys = append(keys, h.SendText(who, who, "/start claim_"+code))
		}
		h.ProcessAll(h.NewWorker(&claim.Service{Store: barrierClaimStore{h.Store, newCodeStoreBarrier(nil, n)}, Codes: h.Claims.Codes}, retryingStore{h.Store}))
		got := map[string]int{}
		for _, k := range keys {
			got[h.Outcome(k)]++
		}
		return i, got
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		i, got := fifty(h)
		accounts, told := h.RedemptionCounts(i)
		if got["claimed"] != 1 || got["declined"] != n-1 || accounts != 1 || told != 1 {
			t.Errorf("outcomes %v, %d accounts, %d told; want 1 claimed, %d declined", got, accounts, told, n-1)
		}
	})
	t.Run("control: check, then write", func(t *testing.T) {
		harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
			h.DropConstraint("invites", "invites_fence", "constraint invites_fence check (fence >= 0)")
			i, got := fifty(h)
			if accounts, _ := h.RedemptionCounts(i); accounts < 2 {
				t.Errorf("the test does not see what the fence is for: %v", got)
			}
		})
	})
}

// TestInvite_AcceptedForms holds what must not open an invite beside what must, however odd.
func TestInvite_AcceptedForms(t *testing.T) {
	harness.ParallelUnlessFull(t)
	text := func(of string) func(code, who string) adapters.Message {
		return func(code, who string) adapters.Message {
			return adapters.Message{Kind: adapters.Text, Text: strings.NewReplacer("CODE", code, "code", strings.ToLower(code), "GROUPED", claim.Group(code), "grouped", strings.ToLower(claim.Group(code))).Replace(of)}
		}
	}
	with := func(m func(code, who string) adapters.Message, change func(m *adapters.Message, who string)) func(code, who string) adapters.Message {
		return func(code, who string) adapters.Message {
			made := m(code, who)
			change(&made, who)
			return made
		}
	}
	spoil := func(query string) func(h *harness.ClaimFixture, i claim.Invite) {
		return func(h *harness.ClaimFixture, i claim.Invite) { h.Exec(query, i.ID) }
	}
	tests := []struct {
		name    string
		message func(code, who string) adapters.Message
		before  func(h *harness.ClaimFixture, i claim.Invite)
		want    string
	}{
		{"deep link", text("/start claim_CODE"), nil, "claimed"},
		{"deep link to this bot", text("/start@" + harness.BotUsername + " claim_CODE"), nil, "claimed"},
		{"as shown", text("/claim GROUPED"), nil, "claimed"},
		{"small, with spaces", text("claim   grouped "), nil, "claimed"},
		{"in quotes of autocorrection", text("„Claim grouped“."), nil, "claimed"},
		{"two lines", text("/claim\nGROUPED"), nil, "claimed"},
		{"by somebody with a username", with(text("/claim CODE"), func(m *adapters.Message, _ string) { m.Sender.Username = "steve" }), nil, "claimed"},
		{"at the last moment", text("/claim CODE"), func(h *harness.ClaimFixture, i claim.Invite) {
			h.Exec(h.ShiftedQuery(`update invites set expires_at = (select max(%s) from messages) where id = $1`, "1"), i.ID)
		}, "claimed"},

		{"without the word", text("GROUPED"), nil, "hint"},
		{"to another bot", text("/claim@other_bot CODE"), nil, "for_another_bot"},
		{"deep link to another bot", text("/start@other_bot claim_CODE"), nil, "for_another_bot"},
		{"in a group", with(text("/claim CODE"), func(m *adapters.Message, who string) { m.Chat = adapters.Chat{ID: "-100" + who, Group: true} }), nil, "not_private"},
		{"link into a group", with(text("/start@"+harness.BotUsername+" claim_CODE"), func(m *adapters.Message, who string) { m.Chat = adapters.Chat{ID: "-100" + who, Group: true} }), nil, "not_private"},
		{"alone in a group", with(text("GROUPED"), func(m *adapters.Message, who string) { m.Chat = adapters.Chat{ID: "-100" + who, Group: true} }), nil, "not_private"},
		{"forwarded to a group", with(text("/claim CODE"), func(m *adapters.Message, who string) {
			m.Chat, m.UnprovenReason = adapters.Chat{ID: "-100" + who, Group: true}, "forwarded"
		}), nil, "not_private"},
		{"forwarded", with(text("/claim CODE"), func(m *adapters.Message, _ string) { m.UnprovenReason = "forwarded" }), nil, "not_proven"},
		{"edited", with(text("/claim CODE"), func(m *adapters.Message, _ string) { m.Kind = adapters.Edit }), nil, "not_proven"},
		{"another letter", func(code, _ string) adapters.Message {
			return adapters.Message{Kind: adapters.Text, Text: "/claim " + claim.NewInviteCode()}
		}, nil, "declined"},
		{"expired", text("/claim CODE"), func(h *harness.ClaimFixture, i claim.Invite) {
			h.Exec(h.ShiftedQuery(`update invites set expires_at = (select max(%s) from messages) where id = $1`, "-1"), i.ID)
		}, "declined"},
		{"revoked", text("/claim CODE"), func(h *harness.ClaimFixture, i claim.Invite) {
			if err := h.Store.RevokeInvite(h.T.Context(), claim.InviteKey{TenantID: harness.TestTenantID, CustomerID: i.CustomerID, InviteID: i.ID}, identity.System); err != nil {
				h.T.Fatal(err)
			}
		}, "declined"},
		{"used", text("/claim CODE"), spoil(`update invites set used_msg = id where id = $1`), "declined"},
		{"of another instance", text("/claim CODE"), func(h *harness.ClaimFixture, i claim.Invite) {
			other, err := h.Store.CreateInstance(h.T.Context(), gateway.Instance{TenantID: harness.TestTenantID, Name: "other"}, gateway.InstanceSecrets{AgentSecretKey: uuid.NewString(), WebhookSecret: "whsec_x"}, identity.System)
			if err != nil {
				h.T.Fatal(err)
			}
			h.Exec(`update invites set instance_id = $2 where id = $1`, i.ID, other.ID)
		}, "declined"},
		{"of another channel", text("/claim CODE"), spoil(`update invites set channel = 'slack' where id = $1`), "declined"},
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		for n, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				i, code := h.CreateInvite(identity.RoleOwner)
				who := fmt.Sprint(720_000 + n)
				m := tt.message(code, who)
				m.Sender.ID = who
				if m.Chat.ID == "" {
					m.Chat.ID = who
				}
				key := h.SendMessage(m)
				if tt.before != nil {
					tt.before(h, i)
				}
				h.ProcessMessages()
				accounts, _ := h.RedemptionCounts(i)
				if got := h.Outcome(key); got != tt.want || (accounts == 1) != (tt.want == "claimed") {
					t.Errorf("outcome %q, %d accounts; want %s", got, accounts, tt.want)
				}
				var ended int
				h.Scan(`select count(*) from invites where id = $1 and revoked_at is not null`, []any{i.ID}, &ended)
				if read := tt.want == "not_private" || tt.name == "revoked"; read != (ended == 1) {
					t.Errorf("revoked %d; an invite that a group has read ends, and no other", ended)
				}
				var delivered int
				h.Scan(`select count(*) from deliveries d join messages m on m.id = d.message_id where m.key = $1`, []any{key}, &delivered)
				if delivered != 0 {
					t.Error("it was handed to the runtime")
				}
			})
		}
		// Twelve letters that are nobody's are words like any other, and whole again.
		key := h.SendText("720999", "720999", "BCDF-GHJK-LMNP")
		h.ProcessMessages()
		if got := h.Outcome(key); got != "forwarded" || !slices.Equal(h.QueryTexts(`select text from messages where key = $1`, key), []string{"BCDF-GHJK-LMNP"}) {
			t.Errorf("letters that are no invite's: %q", got)
		}
	})
}

// TestRejectedInvites_Indistinguishable refuses for every reason: the answer is the same to the
// byte, and so are the calls to both stores.
func TestRejectedInvites_Indistinguishable(t *testing.T) {
	harness.ParallelUnlessFull(t)
	tests := []struct {
		name    string
		prepare func(h *harness.ClaimFixture, i claim.Invite, code string) string
		want    string
	}{
		{"wrong", func(*harness.ClaimFixture, claim.Invite, string) string { return claim.NewInviteCode() }, "declined"},
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
		seen := &callRecorder{}
		h.Redis.AddHook(recordingRedisHook{seen})
		for n, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				w := h.NewWorker(&claim.Service{Store: recordingClaimStore{h.Store, seen}, Codes: h.Claims.Codes}, recordingStore{h.Store, seen})
				i, code := h.CreateInvite("")
				typed, who := tt.prepare(h, i, code), fmt.Sprint(730_000+n)
				h.SendText(who, "warm", "hello")
				h.ProcessAll(w)
				seen.drain()
				key := h.SendText(who, who, "/claim "+typed)
				h.ProcessAll(w)
				calls := seen.drain()
				if at := slices.Index(calls, "settle"); at >= 0 {
					calls = calls[:at+1]
				}
				same := slices.Equal(calls, []string{"inbound", "invite state", "settle"}) && h.Replies(key) == "That code did not work. Codes last 15 minutes and work once; please ask for a new one."
				if got := h.Outcome(key); got != tt.want || same != (tt.want == "declined") {
					t.Errorf("outcome %q, calls %q, answer %q", got, calls, h.Replies(key))
				}
			})
		}
	})
}

// TestInvite_GuessesThrottled lets a sender guess invites and codes by turns: after
// five of both together nothing is compared, not even the right letters. Nobody else
// waits for that. Letters that are, or were, an invite's for somebody else count as any
// others do: else they could be told from them by six tries.
func TestInvite_GuessesThrottled(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		i, code := h.CreateInvite("")
		h.CreateIdentity("740002") // whose account is another customer's
		exhaustAttempts(h, "740002", code, "declined")
		_, used := h.CreateInvite("")
		opener := h.SendText("740004", "740004", "/claim "+used)
		h.ProcessMessages()
		if got := h.Outcome(opener); got != "claimed" {
			t.Errorf("the opener: %q", got)
		}
		exhaustAttempts(h, "740005", used, "declined")
		for range claim.MaxFailuresPerQuarterHour + 1 {
			again := h.SendText("740004", "740004", "/claim "+used)
			h.ProcessMessages()
			if got := h.Outcome(again); got != "already_verified" {
				t.Errorf("the opener again: %q", got)
			}
		}
		ended, revoked := h.CreateInvite("")
		if err := h.Store.RevokeInvite(t.Context(), claim.InviteKey{TenantID: harness.TestTenantID, CustomerID: ended.CustomerID, InviteID: ended.ID}, identity.System); err != nil {
			t.Fatal(err)
		}
		exhaustAttempts(h, "740006", revoked, "declined")
		var keys []string
		for n := range claim.MaxFailuresPerQuarterHour {
			typed := claim.NewInviteCode()
			if n%2 == 1 {
				typed = claim.NewCode()
			}
			keys = append(keys, h.SendText("740001", "740001", "/claim "+typed))
		}
		keys = append(keys, h.SendText("740001", "740001", "/claim "+code), h.SendText("740001", "740001", "/start claim_"+code))
		h.ProcessMessages()
		var got []string
		for _, k := range keys {
			got = append(got, h.Outcome(k))
		}
		if want := []string{"declined", "declined", "declined", "declined", "declined", "throttled", "throttled"}; !slices.Equal(got, want) {
			t.Errorf("outcomes %v", got)
		}
		if h.Replies(keys[5]) == "" || h.Replies(keys[6]) != "" {
			t.Errorf("told to wait: %q, then %q", h.Replies(keys[5]), h.Replies(keys[6]))
		}
		if accounts, _ := h.RedemptionCounts(i); accounts != 0 {
			t.Errorf("%d accounts", accounts)
		}
		key := h.SendText("740003", "740003", "/claim "+code)
		h.ProcessMessages()
		if got := h.Outcome(key); got != "claimed" {
			t.Errorf("somebody else: %q", got)
		}
		// The day's limit outlives the quarter's.
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
			t.Errorf("the right letters after a day's tries: %q", got)
		}
	})
}

// exhaustAttempts lets a sender type the same letters as often as anybody may, and once more.
func exhaustAttempts(h *harness.ClaimFixture, who, code, want string) {
	h.T.Helper()
	for n := range claim.MaxFailuresPerQuarterHour + 1 {
		key := h.SendText(who, who, "/claim "+code)
		h.ProcessMessages()
		if n == claim.MaxFailuresPerQuarterHour {
			want = "throttled"
		}
		if got := h.Outcome(key); got != want {
			h.T.Errorf("%s, try %d: %q; want %s", who, n+1, got, want)
		}
	}
}

// TestNoInviteLeaks issues and opens invites in every way and looks for their
// letters in all that is kept. One that is planted is found.
func TestNoInviteLeaks(t *testing.T) {
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		var log harness.LockedBuffer
		h.Log = &log
		var codes []string
		for n, form := range []string{"/claim ", "claim ", "/start claim_", "/claim@" + harness.BotUsername + " ", "", "/claim@other_bot "} {
			i, code := h.CreateInvite("")
			codes = append(codes, code)
			who := fmt.Sprint(750_000 + n)
			typed := code
			if n%2 == 1 {
				typed = strings.ToLower(claim.Group(code))
			}
			_, read := h.CreateInvite("") // by a group: it ends there
			codes = append(codes, read)
			h.SendMessage(adapters.Message{Kind: adapters.Text, Text: form + read, Sender: adapters.Sender{ID: who}, Chat: adapters.Chat{ID: "-100" + who, Group: true}})
			h.ProcessMessages()
			h.SendText(who, who, form+read)
			h.ProcessMessages()
			h.SendText(who, who, form+typed)
			if hits := harness.FindCodes(codes, h.Dump(log.String())); len(hits) > 0 {
				t.Error("while it waits:", hits)
			}
			h.ProcessMessages()
			h.SendText("750999", "750999", "/claim "+code)
			h.ProcessMessages()
			if n == 0 {
				if accounts, _ := h.RedemptionCounts(i); accounts != 1 {
					t.Error("it was not opened")
				}
			}
		}
		_, live := h.CreateInvite("")
		codes = append(codes, live)
		if hits := harness.FindCodes(codes, h.Dump(log.String())); len(hits) > 0 {
			t.Error(hits)
		}
		name := "my link is " + claim.Group(codes[0])
		p := h.CreateIdentity("750998")
		if _, err := h.Store.EditIdentity(t.Context(), identity.Key{TenantID: harness.TestTenantID, CustomerID: p.CustomerID, IdentityID: p.IdentityID}, identity.Edit{DisplayName: &name}, identity.System); err != nil {
			t.Fatal(err)
		}
		if err := h.Redis.Set(t.Context(), "hg:planted:"+h.InstanceID, strings.ToLower(codes[1]), time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		_, _ = log.Write([]byte("https://t.me/" + harness.BotUsername + "?start=claim_" + codes[2]))
		if planted := harness.FindCodes(codes, h.Dump(log.String())); len(planted) < 3 {
			t.Errorf("of three that were planted there were found: %v", planted)
		}
	})
}
