//go:build unix

package main

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
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store"
)

// invite gives a new invite of a new customer, to the bot of the house.
func (h *proofHouse) invite(role string) (claim.Invite, string) {
	h.t.Helper()
	c, err := h.store.CreateCustomer(h.t.Context(), identity.Customer{TenantID: proofTenant, FirstName: "Steve"}, identity.System)
	if err != nil {
		h.t.Fatal(err)
	}
	i, code, err := h.desk.Invite(h.t.Context(), claim.Invite{TenantID: proofTenant, InstanceID: h.instance, Channel: "telegram", CustomerID: c.ID, RoleOverride: role},
		identity.Actor("key:"+uuid.NewString()))
	if err != nil {
		h.t.Fatal(err)
	}
	return i, code
}

// opened counts the accounts that an invite's customer has, verified, and how often the
// audit log says that the invite was opened.
func (h *proofHouse) opened(i claim.Invite) (accounts, told int) {
	h.t.Helper()
	h.scan(`select count(*) from identities where customer_id = $1 and verified_at is not null`, []any{i.CustomerID}, &accounts)
	h.scan(`select count(*) from audit_events where customer_id = $1 and kind = 'invite.redeemed'`, []any{i.CustomerID}, &told)
	return accounts, told
}

// A doorstep is a ledger at which openers wait until all have looked: what they decide
// next rests on the same old news.
type doorstep struct {
	claim.Ledger
	*gathering
}

func (d doorstep) InviteState(ctx context.Context, a claim.Attempt) (claim.InviteState, error) {
	s, err := d.Ledger.InviteState(ctx, a)
	select {
	case <-d.all: // they look again
	default:
		d.waitWithin(ctx)
	}
	return s, err
}

// A stubborn store does again what took the database too long: fifty at once have it
// to themselves for as long as they need.
type stubborn struct{ gateway.WorkStore }

func (s stubborn) Inbound(ctx context.Context, l gateway.Lease) (ins []gateway.Inbound, err error) {
	for {
		ins, err = s.WorkStore.Inbound(ctx, l)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return ins, err
		}
	}
}

func (s stubborn) Settle(ctx context.Context, st gateway.Settlement) error {
	for {
		err := s.WorkStore.Settle(ctx, st)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
}

// TestFiftyOpenersOneWins lets fifty people open one invite at the same time, each
// convinced that it is still live. Without the fence of its row, many get in: that is
// what checking first and writing then does.
func TestFiftyOpenersOneWins(t *testing.T) {
	const n = 50
	fifty := func(h *proofHouse) (claim.Invite, map[string]int) {
		i, code := h.invite("")
		var keys []string
		for p := range n {
			who := fmt.Sprint(710_000 + p)
			keys = append(keys, h.say(who, who, "/start claim_"+code))
		}
		h.work(h.worker(&claim.Desk{Ledger: doorstep{h.store, newGathering(nil, n)}, Proofs: h.desk.Proofs}, stubborn{h.store}))
		got := map[string]int{}
		for _, k := range keys {
			got[h.outcome(k)]++
		}
		return i, got
	}
	onPairs(t, func(t *testing.T, h *proofHouse) {
		i, got := fifty(h)
		accounts, told := h.opened(i)
		if got["claimed"] != 1 || got["declined"] != n-1 || accounts != 1 || told != 1 {
			t.Errorf("outcomes %v, %d accounts, %d told; want 1 claimed, %d declined", got, accounts, told, n-1)
		}
	})
	t.Run("control: check, then write", func(t *testing.T) {
		onPairs(t, func(t *testing.T, h *proofHouse) {
			h.pull("invites", "invites_fence", "constraint invites_fence check (fence >= 0)")
			i, got := fifty(h)
			if accounts, _ := h.opened(i); accounts < 2 {
				t.Errorf("the test does not see what the fence is for: %v", got)
			}
		})
	})
}

// TestInviteTwins holds what must not open an invite beside what must, however odd.
func TestInviteTwins(t *testing.T) {
	alongside(t)
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
	spoil := func(query string) func(h *proofHouse, i claim.Invite) {
		return func(h *proofHouse, i claim.Invite) { h.exec(query, i.ID) }
	}
	tests := []struct {
		name    string
		message func(code, who string) adapters.Message
		before  func(h *proofHouse, i claim.Invite)
		want    string
	}{
		{"deep link", text("/start claim_CODE"), nil, "claimed"},
		{"deep link to this bot", text("/start@" + botName + " claim_CODE"), nil, "claimed"},
		{"as shown", text("/claim GROUPED"), nil, "claimed"},
		{"small, with spaces", text("claim   grouped "), nil, "claimed"},
		{"in quotes of autocorrection", text("„Claim grouped“."), nil, "claimed"},
		{"two lines", text("/claim\nGROUPED"), nil, "claimed"},
		{"by somebody with a username", with(text("/claim CODE"), func(m *adapters.Message, _ string) { m.Sender.Username = "steve" }), nil, "claimed"},
		{"at the last moment", text("/claim CODE"), func(h *proofHouse, i claim.Invite) {
			h.exec(h.moved(`update invites set expires_at = (select max(%s) from messages) where id = $1`, "1"), i.ID)
		}, "claimed"},

		{"without the word", text("GROUPED"), nil, "hint"},
		{"to another bot", text("/claim@other_bot CODE"), nil, "for_another_bot"},
		{"deep link to another bot", text("/start@other_bot claim_CODE"), nil, "for_another_bot"},
		{"in a group", with(text("/claim CODE"), func(m *adapters.Message, who string) { m.Place = adapters.Place{ID: "-100" + who, Group: true} }), nil, "not_private"},
		{"link into a group", with(text("/start@"+botName+" claim_CODE"), func(m *adapters.Message, who string) { m.Place = adapters.Place{ID: "-100" + who, Group: true} }), nil, "not_private"},
		{"alone in a group", with(text("GROUPED"), func(m *adapters.Message, who string) { m.Place = adapters.Place{ID: "-100" + who, Group: true} }), nil, "not_private"},
		{"forwarded to a group", with(text("/claim CODE"), func(m *adapters.Message, who string) {
			m.Place, m.Unproven = adapters.Place{ID: "-100" + who, Group: true}, "forwarded"
		}), nil, "not_private"},
		{"forwarded", with(text("/claim CODE"), func(m *adapters.Message, _ string) { m.Unproven = "forwarded" }), nil, "not_proven"},
		{"edited", with(text("/claim CODE"), func(m *adapters.Message, _ string) { m.Kind = adapters.Edit }), nil, "not_proven"},
		{"another letter", func(code, _ string) adapters.Message {
			return adapters.Message{Kind: adapters.Text, Text: "/claim " + claim.NewInvite()}
		}, nil, "declined"},
		{"expired", text("/claim CODE"), func(h *proofHouse, i claim.Invite) {
			h.exec(h.moved(`update invites set expires_at = (select max(%s) from messages) where id = $1`, "-1"), i.ID)
		}, "declined"},
		{"revoked", text("/claim CODE"), func(h *proofHouse, i claim.Invite) {
			if err := h.store.RevokeInvite(h.t.Context(), proofTenant, i.CustomerID, "", i.ID, identity.System); err != nil {
				h.t.Fatal(err)
			}
		}, "declined"},
		{"used", text("/claim CODE"), spoil(`update invites set used_msg = id where id = $1`), "declined"},
		{"of another instance", text("/claim CODE"), func(h *proofHouse, i claim.Invite) {
			other, err := h.store.CreateInstance(h.t.Context(), gateway.Instance{TenantID: proofTenant, Name: "other"}, gateway.InstanceSecrets{AgentSecretKey: uuid.NewString(), WebhookSecret: "whsec_x"}, identity.System)
			if err != nil {
				h.t.Fatal(err)
			}
			h.exec(`update invites set instance_id = $2 where id = $1`, i.ID, other.ID)
		}, "declined"},
		{"of another channel", text("/claim CODE"), spoil(`update invites set channel = 'slack' where id = $1`), "declined"},
	}
	onPairs(t, func(t *testing.T, h *proofHouse) {
		for n, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				defer h.within(t)()
				i, code := h.invite(identity.RoleOwner)
				who := fmt.Sprint(720_000 + n)
				m := tt.message(code, who)
				m.Sender.ID = who
				if m.Place.ID == "" {
					m.Place.ID = who
				}
				key := h.hear(m)
				if tt.before != nil {
					tt.before(h, i)
				}
				h.works()
				accounts, _ := h.opened(i)
				if got := h.outcome(key); got != tt.want || (accounts == 1) != (tt.want == "claimed") {
					t.Errorf("outcome %q, %d accounts; want %s", got, accounts, tt.want)
				}
				var ended int
				h.scan(`select count(*) from invites where id = $1 and revoked_at is not null`, []any{i.ID}, &ended)
				if read := tt.want == "not_private" || tt.name == "revoked"; read != (ended == 1) {
					t.Errorf("revoked %d; an invite that a group has read ends, and no other", ended)
				}
				var delivered int
				h.scan(`select count(*) from deliveries d join messages m on m.id = d.message_id where m.key = $1`, []any{key}, &delivered)
				if delivered != 0 {
					t.Error("it was handed to the runtime")
				}
			})
		}
		// Twelve letters that are nobody's are words like any other, and whole again.
		key := h.say("720999", "720999", "BCDF-GHJK-LMNP")
		h.works()
		if got := h.outcome(key); got != "forwarded" || !slices.Equal(h.texts(`select text from messages where key = $1`, key), []string{"BCDF-GHJK-LMNP"}) {
			t.Errorf("letters that are no invite's: %q", got)
		}
	})
}

// TestRefusedInvitesLookAlike refuses for every reason: the answer is the same to the
// byte, and so are the calls to both stores.
func TestRefusedInvitesLookAlike(t *testing.T) {
	alongside(t)
	tests := []struct {
		name    string
		prepare func(h *proofHouse, i claim.Invite, code string) string
		want    string
	}{
		{"wrong", func(*proofHouse, claim.Invite, string) string { return claim.NewInvite() }, "declined"},
		{"expired", func(h *proofHouse, i claim.Invite, code string) string {
			h.exec(`update invites set expires_at = '2020-01-01 00:00:00.000+00:00' where id = $1`, i.ID)
			return code
		}, "declined"},
		{"revoked", func(h *proofHouse, i claim.Invite, code string) string {
			h.exec(`update invites set revoked_at = created_at where id = $1`, i.ID)
			return code
		}, "declined"},
		{"used", func(h *proofHouse, i claim.Invite, code string) string {
			h.exec(`update invites set used_msg = id where id = $1`, i.ID)
			return code
		}, "declined"},
		{"another customer's account", func(h *proofHouse, _ claim.Invite, code string) string {
			h.person("730004")
			return code
		}, "declined"},
		{"of another bot", func(h *proofHouse, i claim.Invite, code string) string {
			h.exec(`update invites set channel = 'slack' where id = $1`, i.ID)
			return code
		}, "declined"},
		{"control: live", func(_ *proofHouse, _ claim.Invite, code string) string { return code }, "claimed"},
	}
	onPairs(t, func(t *testing.T, h *proofHouse) {
		seen := &witness{}
		h.redis.AddHook(seenRedis{seen})
		for n, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				defer h.within(t)()
				w := h.worker(&claim.Desk{Ledger: seenLedger{h.store, seen}, Proofs: h.desk.Proofs}, seenStore{h.store, seen})
				i, code := h.invite("")
				typed, who := tt.prepare(h, i, code), fmt.Sprint(730_000+n)
				h.say(who, "warm", "hello")
				h.work(w)
				seen.take()
				key := h.say(who, who, "/claim "+typed)
				h.work(w)
				calls := seen.take()
				if at := slices.Index(calls, "settle"); at >= 0 {
					calls = calls[:at+1]
				}
				same := slices.Equal(calls, []string{"inbound", "invite state", "settle"}) && h.answers(key) == "That code did not work. Codes last 15 minutes and work once; please ask for a new one."
				if got := h.outcome(key); got != tt.want || same != (tt.want == "declined") {
					t.Errorf("outcome %q, calls %q, answer %q", got, calls, h.answers(key))
				}
			})
		}
	})
}

// TestWrongInvitesAreThrottled lets a sender guess invites and codes by turns: after
// five of both together nothing is compared, not even the right letters. Nobody else
// waits for that. Letters that are, or were, an invite's for somebody else count as any
// others do: else they could be told from them by six tries.
func TestWrongInvitesAreThrottled(t *testing.T) {
	alongside(t)
	onPairs(t, func(t *testing.T, h *proofHouse) {
		i, code := h.invite("")
		h.person("740002") // whose account is another customer's
		h.tries("740002", code, "declined")
		_, used := h.invite("")
		opener := h.say("740004", "740004", "/claim "+used)
		h.works()
		if got := h.outcome(opener); got != "claimed" {
			t.Errorf("the opener: %q", got)
		}
		h.tries("740005", used, "declined")
		for range claim.MaxQuarter + 1 {
			again := h.say("740004", "740004", "/claim "+used)
			h.works()
			if got := h.outcome(again); got != "already_verified" {
				t.Errorf("the opener again: %q", got)
			}
		}
		ended, revoked := h.invite("")
		if err := h.store.RevokeInvite(t.Context(), proofTenant, ended.CustomerID, "", ended.ID, identity.System); err != nil {
			t.Fatal(err)
		}
		h.tries("740006", revoked, "declined")
		var keys []string
		for n := range claim.MaxQuarter {
			typed := claim.NewInvite()
			if n%2 == 1 {
				typed = claim.NewCode()
			}
			keys = append(keys, h.say("740001", "740001", "/claim "+typed))
		}
		keys = append(keys, h.say("740001", "740001", "/claim "+code), h.say("740001", "740001", "/start claim_"+code))
		h.works()
		var got []string
		for _, k := range keys {
			got = append(got, h.outcome(k))
		}
		if want := []string{"declined", "declined", "declined", "declined", "declined", "throttled", "throttled"}; !slices.Equal(got, want) {
			t.Errorf("outcomes %v", got)
		}
		if h.answers(keys[5]) == "" || h.answers(keys[6]) != "" {
			t.Errorf("told to wait: %q, then %q", h.answers(keys[5]), h.answers(keys[6]))
		}
		if accounts, _ := h.opened(i); accounts != 0 {
			t.Errorf("%d accounts", accounts)
		}
		key := h.say("740003", "740003", "/claim "+code)
		h.works()
		if got := h.outcome(key); got != "claimed" {
			t.Errorf("somebody else: %q", got)
		}
		// The day's limit outlives the quarter's.
		h.exec(h.aged(`update claim_failures set at = %s where sender_id = '740001'`, "20 minutes"))
		_, again := h.invite("")
		for range claim.MaxDay - claim.MaxQuarter {
			h.say("740001", "740001", "/claim "+claim.NewInvite())
			h.works()
			h.exec(h.aged(`update claim_failures set at = %s where sender_id = '740001'`, "20 minutes"))
		}
		last := h.say("740001", "740001", "/claim "+again)
		h.works()
		if got := h.outcome(last); got != "throttled" {
			t.Errorf("the right letters after a day's tries: %q", got)
		}
	})
}

// tries lets a sender type the same letters as often as anybody may, and once more.
func (h *proofHouse) tries(who, code, want string) {
	h.t.Helper()
	for n := range claim.MaxQuarter + 1 {
		key := h.say(who, who, "/claim "+code)
		h.works()
		if n == claim.MaxQuarter {
			want = "throttled"
		}
		if got := h.outcome(key); got != want {
			h.t.Errorf("%s, try %d: %q; want %s", who, n+1, got, want)
		}
	}
}

// aged puts into query the time so long ago.
func (h *proofHouse) aged(query, ago string) string {
	if store.IsPostgres(h.url) {
		return fmt.Sprintf(query, "now() - interval '"+ago+"'")
	}
	return fmt.Sprintf(query, "strftime('%Y-%m-%d %H:%M:%f+00:00', 'now', '-"+ago+"')")
}

// TestStoresHoldNoInvite issues and opens invites in every way and looks for their
// letters in all that is kept. One that is planted is found.
func TestStoresHoldNoInvite(t *testing.T) {
	onPairs(t, func(t *testing.T, h *proofHouse) {
		var log safeBuffer
		h.log = &log
		var codes []string
		for n, form := range []string{"/claim ", "claim ", "/start claim_", "/claim@" + botName + " ", "", "/claim@other_bot "} {
			i, code := h.invite("")
			codes = append(codes, code)
			who := fmt.Sprint(750_000 + n)
			typed := code
			if n%2 == 1 {
				typed = strings.ToLower(claim.Group(code))
			}
			_, read := h.invite("") // by a group: it ends there
			codes = append(codes, read)
			h.hear(adapters.Message{Kind: adapters.Text, Text: form + read, Sender: adapters.Sender{ID: who}, Place: adapters.Place{ID: "-100" + who, Group: true}})
			h.works()
			h.say(who, who, form+read)
			h.works()
			h.say(who, who, form+typed)
			if hits := found(codes, h.everything(log.String())); len(hits) > 0 {
				t.Error("while it waits:", hits)
			}
			h.works()
			h.say("750999", "750999", "/claim "+code)
			h.works()
			if n == 0 {
				if accounts, _ := h.opened(i); accounts != 1 {
					t.Error("it was not opened")
				}
			}
		}
		_, live := h.invite("")
		codes = append(codes, live)
		if hits := found(codes, h.everything(log.String())); len(hits) > 0 {
			t.Error(hits)
		}
		name := "my link is " + claim.Group(codes[0])
		p := h.person("750998")
		if _, err := h.store.EditIdentity(t.Context(), proofTenant, p.customer, p.identity, identity.Edit{DisplayName: &name}, identity.System); err != nil {
			t.Fatal(err)
		}
		if err := h.redis.Set(t.Context(), "hg:planted:"+h.instance, strings.ToLower(codes[1]), time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		_, _ = log.Write([]byte("https://t.me/" + botName + "?start=claim_" + codes[2]))
		if planted := found(codes, h.everything(log.String())); len(planted) < 3 {
			t.Errorf("of three that were planted there were found: %v", planted)
		}
	})
}
