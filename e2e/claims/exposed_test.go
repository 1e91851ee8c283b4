package claims

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/gateway"
	"hydragate/gateway/process"
	"hydragate/identity"
)

// exposedForms are texts that contain CODE and are no proper claim.
var exposedForms = []string{
	"my code is CODE", "please claim CODE", "1. my code: CODE", "hi /claim CODE", "claim <@U023BECGF> CODE",
	"@" + harness.BotUsername + " CODE", ":wave: CODE thanks", "👋 here: CODE",
	"here https://t.me/acme_bot?start=claim_CODE",
	"/claim CODE (SPELLED)", "it is SPELLED", "*CODE* please", "/help CODE", "see claim%20CODE",
}

// dress replaces CODE and SPELLED in a form.
func dress(form, code string) string {
	return strings.NewReplacer("CODE", claim.Group(code), "SPELLED", claim.Spell(code)).Replace(form)
}

// checkNotPassedOn checks that a message was neither delivered nor is stored with the letters of code.
func checkNotPassedOn(t *testing.T, h *harness.ClaimFixture, key, code, want string) {
	t.Helper()
	var text, body string
	h.Scan(`select text, body from messages where key = $1`, []any{key}, &text, &body)
	for _, stored := range []string{text, body} {
		for _, c := range claim.Scan(stored) {
			if c.Code == code {
				t.Errorf("stored as %q, which contains the code", stored)
			}
		}
	}
	if got := h.Outcome(key); got != want {
		t.Errorf("outcome = %q, want %q", got, want)
	}
	if n := deliveries(h, key); n != 0 {
		t.Errorf("deliveries = %d, want 0", n)
	}
}

// deliveries returns how many deliveries of a message there are.
func deliveries(h *harness.ClaimFixture, key string) int {
	return h.QueryInt(`select count(*) from deliveries d join messages m on m.id = d.message_id where m.key = $1`, key)
}

// TestExposedCodes_Withheld checks that a live code or invite in a message that is no proper claim is
// neither delivered nor stored, and what it is answered. The code of another account is revoked, and so
// is an invite in a group. The same letters without a live code are passed on as they are.
func TestExposedCodes_Withheld(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		revoked := func(id string) bool {
			return h.QueryInt(`select count(*) from identities where id = $1 and claim_revoked_at is not null`, id) == 1
		}
		for _, form := range exposedForms {
			t.Run(form, func(t *testing.T) {
				defer h.UseT(t)()
				p := h.CreateIdentity(h.NewExternalID())
				code := h.IssueCode(p)
				own := h.SendText(p.ExternalID, p.ExternalID, dress(form, code))
				h.ProcessMessages()
				checkNotPassedOn(t, h, own, code, "hint")
				if reply := h.Replies(own); !strings.HasPrefix(reply, "Please send /claim followed by") || revoked(p.IdentityID) {
					t.Errorf("own code: reply = %q, revoked = %v, want a hint, and the code live", reply, revoked(p.IdentityID))
				}
				stranger := h.NewExternalID()
				foreign := h.SendText(stranger, stranger, dress(form, code))
				h.ProcessMessages()
				checkNotPassedOn(t, h, foreign, code, "hint")
				if !revoked(p.IdentityID) || h.QueryInt(`select count(*) from audit_events where identity_id = $1
					and kind = 'claim.wrong_sender'`, p.IdentityID) != 1 {
					t.Error("the code of another account is not revoked, or staff are not told")
				}

				i, invite := h.CreateInvite(identity.RoleOwner)
				private := h.SendText(stranger, stranger, dress(form, invite))
				h.ProcessMessages()
				checkNotPassedOn(t, h, private, invite, "hint")
				group := h.SendMessage(adapters.Message{
					Kind: adapters.Text, Text: dress(form, invite), Sender: adapters.Sender{ID: stranger},
					Chat: adapters.Chat{ID: "-100" + stranger, Group: true},
				})
				live := h.QueryInt(`select count(*) from invites where id = $1 and revoked_at is null`, i.ID)
				h.ProcessMessages()
				checkNotPassedOn(t, h, group, invite, "not_private")
				if n := h.QueryInt(`select count(*) from invites where id = $1 and revoked_at is null`, i.ID); live != 1 || n != 0 {
					t.Errorf("live invites before and after the group = %d, %d, want 1, 0", live, n)
				}

				if strings.HasPrefix(form, "/") || strings.HasPrefix(form, "claim") {
					return // a command, which is never passed on
				}
				dead := dress(form, claim.NewCode())
				key := h.SendText(stranger, stranger, dead)
				h.ProcessMessages()
				if got := h.QueryTexts(`select text from messages where key = $1`, key); got[0] != dead || deliveries(h, key) != 1 {
					t.Errorf("without a live code: stored %q, deliveries = %d, want %q, 1", got, deliveries(h, key), dead)
				}
			})
		}
	})
}

// TestExposedCodes_EveryField checks that a live code in any string of a message that a person can fill
// is not passed on, and that the names of a sender are passed on without it.
func TestExposedCodes_EveryField(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		p := h.CreateIdentity(h.NewExternalID())
		code := h.IssueCode(p)
		exposed := "see " + claim.Group(code) + " ok"
		sender := h.NewExternalID()
		for name, change := range map[string]func(m *adapters.Message){
			"caption": func(m *adapters.Message) { m.Kind, m.Text = adapters.Media, exposed },
			"edit":    func(m *adapters.Message) { m.Kind, m.Text = adapters.Edit, exposed },
			"file name": func(m *adapters.Message) {
				m.Media = []adapters.Attachment{{Kind: "file", Ref: "r", Name: exposed}}
			},
			"media type": func(m *adapters.Message) {
				m.Media = []adapters.Attachment{{Kind: "file", Ref: "r", MIME: exposed}}
			},
			"pressed button": func(m *adapters.Message) { m.Kind, m.Action = adapters.Callback, exposed },
			"display name":   func(m *adapters.Message) { m.Sender.Name = exposed },
			"username":       func(m *adapters.Message) { m.Sender.Username = code },
		} {
			t.Run(name, func(t *testing.T) {
				defer h.UseT(t)()
				m := adapters.Message{
					Kind: adapters.Text, Text: "hello", Sender: adapters.Sender{ID: p.ExternalID, Name: "Steve"},
					Chat: adapters.Chat{ID: p.ExternalID},
				}
				if name == "display name" || name == "username" {
					m.Sender.ID, m.Chat.ID = sender, sender
				}
				change(&m)
				key := h.SendMessage(m)
				if hits := harness.FindCodes([]string{code}, h.Dump("")); len(hits) > 0 {
					t.Error("codes found while the message is queued:", hits)
				}
				h.ProcessMessages()
				want := "not_proven"
				switch {
				case m.Sender.ID == sender:
					want = "forwarded"
				case m.Kind == adapters.Text:
					want = "hint"
				}
				if got := h.Outcome(key); got != want {
					t.Errorf("outcome = %q, want %q", got, want)
				}
				if hits := harness.FindCodes([]string{code}, h.Dump("")); len(hits) > 0 {
					t.Error("codes found:", hits)
				}
			})
		}
	})
}

// TestBareCodes_Limits checks that letters without a command cost none of the tries of a code or its
// sender, and that a sender who guesses that way can soon revoke nothing and gets no reply. Live letters
// are withheld all the same, and the owner's code is not affected.
func TestBareCodes_Limits(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		p, victim := h.CreateIdentity(h.NewExternalID()), h.CreateIdentity(h.NewExternalID())
		code, foreign := h.IssueCode(p), h.IssueCode(victim)
		for n := range claim.MaxBareMisses + 5 {
			guess := h.SendText(p.ExternalID, p.ExternalID, claim.NewCode())
			h.ProcessMessages()
			if got := h.Outcome(guess); got != "forwarded" || deliveries(h, guess) != 1 {
				t.Fatalf("guess %d: outcome = %q, want forwarded", n, got)
			}
		}
		if n := h.QueryInt(`select count(*) from claim_failures where kind = 'failure'`); n != 0 {
			t.Errorf("failures = %d, want 0", n)
		}
		if n := h.QueryInt(`select count(*) from claim_failures where kind = 'bare'`); n != claim.MaxBareMisses {
			t.Errorf("misses = %d, want %d", n, claim.MaxBareMisses)
		}
		for _, text := range []string{foreign, claim.Group(foreign), "look: " + foreign, code} {
			key, want := h.SendText(p.ExternalID, p.ExternalID, text), "withheld"
			if strings.HasPrefix(text, "look") {
				want = "hint"
			}
			h.ProcessMessages()
			checkNotPassedOn(t, h, key, foreign, want)
			if reply := h.Replies(key); (reply == "") != (want == "withheld") {
				t.Errorf("reply to %q = %q", text, reply)
			}
		}
		for _, owner := range []struct {
			harness.LinkedIdentity
			text string
		}{{victim, foreign}, {p, "/claim " + code}} {
			key := h.SendText(owner.ExternalID, owner.ExternalID, owner.text)
			h.ProcessMessages()
			if got := h.Outcome(key); got != "claimed" {
				t.Errorf("outcome of the owner's %q = %q, want claimed", owner.text, got)
			}
		}
	})
}

// TestBareCode_LostByCodeStore checks that someone who types a code alone is asked to get a new one if the
// code store has lost it, and that it is withheld. If it has lost the index entry alone, the code is
// redeemed. Without a loss other letters are passed on.
func TestBareCode_LostByCodeStore(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		dropIndex := func(p harness.LinkedIdentity) {
			record := "hg:{instance/" + h.InstanceID + "}:claim:" + p.IdentityID
			index, err := h.Redis.HGet(t.Context(), record, "x").Result()
			if err == nil {
				err = h.Redis.Del(t.Context(), index).Err()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		rollBack := func(p harness.LinkedIdentity) { // as if the newer code had never been stored
			h.Exec(`update identities set claim_gen = claim_gen + 1 where id = $1`, p.IdentityID)
		}
		for _, tt := range []struct {
			name    string
			lose    func(harness.LinkedIdentity)
			text    string // CODE is the code
			outcome string
			passed  string
		}{
			{"code", h.DropCode, "CODE", "lost", "[withheld]"},
			{"code, other letters", h.DropCode, "BCDFGH", "lost", "[withheld]"},
			{"code, ordinary word", h.DropCode, "flight", "forwarded", "flight"},
			{"code, no candidate", h.DropCode, "hello?", "forwarded", "hello?"},
			{"newest generation", rollBack, "CODE", "lost", ""}, // an older code is live in the code store
			{"newest generation, other letters", rollBack, "BCDFGH", "lost", "[withheld]"},
			{"index entry", dropIndex, "CODE", "claimed", ""},
			{"index entry, other letters", dropIndex, "BCDFGH", "forwarded", "BCDFGH"},
			{"nothing", func(harness.LinkedIdentity) {}, "CODE", "claimed", ""},
			{"nothing, other letters", func(harness.LinkedIdentity) {}, "BCDFGH", "forwarded", "BCDFGH"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				p := h.CreateIdentity(h.NewExternalID())
				code := h.IssueCode(p)
				tt.lose(p)
				key := h.SendText(p.ExternalID, p.ExternalID, strings.ReplaceAll(tt.text, "CODE", code))
				h.ProcessMessages()
				if got := h.Outcome(key); got != tt.outcome {
					t.Errorf("outcome = %q, want %q", got, tt.outcome)
				}
				passed := strings.Join(h.QueryTexts(`select m.text from messages m
					join deliveries d on d.message_id = m.id where m.key = $1`, key), "\n")
				if passed != tt.passed {
					t.Errorf("passed on = %q, want %q", passed, tt.passed)
				}
				lost := h.QueryInt(`select count(*) from audit_events where identity_id = $1 and customer_id = $2
					and kind = 'claim.lost'`, p.IdentityID, p.CustomerID)
				if reply := h.Replies(key); (lost == 1) != (tt.outcome == "lost") ||
					strings.HasPrefix(reply, "I could not check your code.") != (tt.outcome == "lost") {
					t.Errorf("reply = %q, events claim.lost = %d", reply, lost)
				}
				if n := h.QueryInt(`select count(*) from claim_failures where sender_id = $1 and kind = 'failure'`,
					p.ExternalID); n != 0 {
					t.Errorf("failures = %d, want 0", n)
				}
			})
		}
	})
}

// TestFailures_CountedPerTenant checks that the tries of a sender who writes to two instances are
// counted together.
func TestFailures_CountedPerTenant(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		first, sender := h.InstanceID, h.NewExternalID()
		other, err := h.Store.CreateInstance(t.Context(), gateway.Instance{TenantID: harness.TestTenantID, Name: "other"},
			gateway.InstanceSecrets{AgentSecretKey: "ask_other", WebhookSecret: "whsec_x"}, identity.System)
		if err != nil {
			t.Fatal(err)
		}
		for n := range claim.MaxFailuresPerQuarterHour + 1 {
			h.InstanceID = first
			want := "declined"
			if n%2 == 1 {
				h.InstanceID = other.ID
			}
			if n == claim.MaxFailuresPerQuarterHour {
				want = "throttled"
			}
			key := h.SendText(sender, fmt.Sprint(sender, n), "/claim "+claim.NewCode())
			h.ProcessMessages()
			if got := h.Outcome(key); got != want {
				t.Errorf("try %d: outcome = %q, want %q", n+1, got, want)
			}
		}
	})
}

// probedCodeStore does not respond to Find, which calls probe.
type probedCodeStore struct {
	claim.CodeStore
	probe func(ctx context.Context)
}

func (s probedCodeStore) Find(ctx context.Context, _ claim.Target, _ []string) (map[string]claim.Target, error) {
	s.probe(ctx)
	return nil, errors.New("no answer")
}

// committedStore calls committed after each commit.
type committedStore struct {
	process.MessageStore
	committed func()
}

func (s committedStore) Apply(ctx context.Context, c gateway.Commit) error {
	err := s.MessageStore.Apply(ctx, c)
	s.committed()
	return err
}

// TestUnavailableCodes_OneProbe checks that once the code store has not responded, no message waits for it
// for a second, and after that one at a time, while others are passed on.
func TestUnavailableCodes_OneProbe(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		h.IssueCode(h.CreateIdentity(h.NewExternalID()))
		var probes atomic.Int64
		var wait func(ctx context.Context)
		var committed atomic.Pointer[func()]
		codes := probedCodeStore{h.Claims.Codes, func(ctx context.Context) {
			probes.Add(1)
			if wait != nil {
				wait(ctx)
			}
		}}
		w := h.NewWorker(&claim.Service{Store: h.Store, Codes: codes}, committedStore{h.Store, func() {
			if f := committed.Load(); f != nil {
				(*f)()
			}
		}})
		now := time.Now()
		w.Now = func() time.Time { return now }
		check := func(step string, messages int, want int64) {
			t.Helper()
			probes.Store(0)
			for range messages {
				sender := h.NewExternalID()
				h.SendText(sender, sender, "flight")
			}
			h.ProcessAll(w)
			if got := probes.Load(); got != want {
				t.Errorf("%s: the code store was asked %d times, want %d", step, got, want)
			}
			if n := h.QueryInt(`select count(*) from messages where outcome is null or text <> '[withheld]'`); n != 0 {
				t.Errorf("%s: %d messages are not passed on without their letters", step, n)
			}
		}
		check("first message", 1, 2)
		now = now.Add(900 * time.Millisecond)
		check("soon after", 3, 0)
		now = now.Add(200 * time.Millisecond)
		others := make(chan struct{})
		release := sync.OnceFunc(func() { close(others) })
		committed.Store(&release)
		wait = func(ctx context.Context) { // until another message is passed on
			select {
			case <-others:
			case <-ctx.Done():
				t.Error("no message was passed on while one waited for the code store")
			}
		}
		check("after a second", 3, 2)
	})
}
