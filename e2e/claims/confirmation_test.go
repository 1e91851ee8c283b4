package claims

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/gateway/process"
	"hydragate/identity"
)

// send processes a text that a sender wrote in private. It returns the outcome and the replies.
func send(h *harness.ClaimFixture, sender, text string) (outcome, replies string) {
	h.T.Helper()
	key := h.SendText(sender, sender, text)
	h.ProcessMessages()
	return h.Outcome(key), h.Replies(key)
}

// createConfirmedInvite creates an invite that staff must confirm.
func createConfirmedInvite(h *harness.ClaimFixture) (i claim.Invite, code string) {
	h.T.Helper()
	c, err := h.Store.CreateCustomer(h.T.Context(), identity.Customer{TenantID: harness.TestTenantID, FirstName: "Steve"},
		identity.System)
	if err != nil {
		h.T.Fatal(err)
	}
	i, code, err = h.Claims.IssueInvite(h.T.Context(), claim.Invite{
		TenantID: harness.TestTenantID, InstanceID: h.InstanceID, Channel: "telegram", CustomerID: c.ID,
		RoleOverride: identity.RoleOwner, Life: claim.MinInviteLife, Confirm: true,
	}, identity.Actor("key:"+c.ID))
	if err != nil {
		h.T.Fatal(err)
	}
	if left := time.Until(i.ExpiresAt); left > claim.MinInviteLife+time.Minute {
		h.T.Errorf("invite expires in %v, want %v", left, claim.MinInviteLife)
	}
	return i, code
}

func inviteKey(i claim.Invite) claim.InviteKey {
	return claim.InviteKey{TenantID: i.TenantID, CustomerID: i.CustomerID, InviteID: i.ID}
}

// stateOf returns an invite as staff see it.
func stateOf(h *harness.ClaimFixture, i claim.Invite) claim.Invite {
	h.T.Helper()
	all, err := h.Store.Invites(h.T.Context(), claim.InviteQuery{
		TenantID: i.TenantID, CustomerID: i.CustomerID, Limit: 10,
	})
	if err != nil || len(all) != 1 {
		h.T.Fatalf("Invites() = %v, %v, want one", all, err)
	}
	return all[0]
}

// heldResults returns the number of replies to a message that say that no one confirmed the account
// and are not due yet.
func heldResults(h *harness.ClaimFixture, message string) int {
	h.T.Helper()
	query := `select count(*) from outbox where message_id = $1 and status = 'queued' and due_at > %s
		and text like '%%not confirmed%%'`
	return h.QueryInt(h.AgedQuery(query, "0 seconds"), message)
}

func newConfirmer(h *harness.ClaimFixture) *process.InviteConfirmer {
	return &process.InviteConfirmer{Store: h.Store, Worker: h.NewWorker(h.Claims, h.Store)}
}

// TestInvite_Confirm checks that opening an invite that staff must confirm grants nothing, and that
// staff see the account, confirm it once or refuse it.
func TestInvite_Confirm(t *testing.T) { //nolint:funlen // a table of cases
	harness.ParallelUnlessFull(t)
	open := func(h *harness.ClaimFixture, sender string) claim.Invite {
		i, code := createConfirmedInvite(h)
		h.SendMessage(adapters.Message{
			Kind: adapters.Text, Text: "/start claim_" + code, Chat: adapters.Chat{ID: sender},
			Sender: adapters.Sender{ID: sender, Name: "Steve", Username: "steve"},
		})
		h.ProcessMessages()
		if username := stateOf(h, i).Opener.Username; username != "steve" { // those below are without one
			h.T.Errorf("username of the opener = %q, want steve", username)
		}
		for text, want := range map[string]string{sender: "awaiting_staff", sender + "1": "declined"} {
			if got, reply := send(h, text, "/claim "+code); got != want {
				h.T.Errorf("outcome of the invite for %s = %s (%q), want %s", text, got, reply, want)
			}
		}
		i = stateOf(h, i)
		o := i.Opener
		if accounts, events := h.RedemptionCounts(i); accounts != 0 || events != 0 || i.Status() != claim.Pending ||
			o.ExternalID != sender || o.DisplayName != "Steve" || o.FirstSeenAt.IsZero() ||
			o.OpenedAt.IsZero() || heldResults(h, o.MessageID) != 1 {
			h.T.Fatalf("opened invite = %+v, accounts = %d, events = %d; want pending, opened by Steve", i, accounts, events)
		}
		return i
	}
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		confirmer := newConfirmer(h)
		t.Run("confirmed", func(t *testing.T) {
			defer h.UseT(t)()
			i := open(h, "760001")
			got, err := confirmer.ConfirmInvite(t.Context(), inviteKey(i), "key:staff")
			if err != nil || got.Status() != claim.Used || got.IdentityID != i.Opener.IdentityID {
				t.Fatalf("ConfirmInvite() = %+v, %v, want used by %s", got, err, i.Opener.IdentityID)
			}
			accounts, _ := h.RedemptionCounts(i)
			replies := strings.Join(h.QueryTexts(`select text from outbox where message_id = $1`, i.Opener.MessageID), "\n")
			events := h.QueryInt(`select count(*) from deliveries where identity_id = $1 and event_type = 'identity.verified'`,
				got.IdentityID)
			if accounts != 1 || events != 1 || !strings.Contains(replies, "You are now verified as S…e") ||
				strings.Contains(replies, "not confirmed") {
				t.Errorf("accounts = %d, events = %d, replies = %q; want one, one, the positive result", accounts, events, replies)
			}
			if n := h.QueryInt(`select count(*) from audit_events where customer_id = $1
				and (kind = 'invite.opened' or kind = 'invite.confirmed' and actor = 'key:staff')`, i.CustomerID); n != 2 {
				t.Errorf("events in the audit log = %d, want 2", n)
			}
			if _, err := confirmer.ConfirmInvite(t.Context(), inviteKey(i), "key:staff"); !errors.Is(err, claim.ErrInviteUsed) {
				t.Errorf("second ConfirmInvite() = %v, want ErrInviteUsed", err)
			}
			if _, err := confirmer.RefuseInvite(t.Context(), inviteKey(i), "key:staff"); !errors.Is(err, claim.ErrInviteUsed) {
				t.Errorf("RefuseInvite() of a used invite = %v, want ErrInviteUsed", err)
			}
			if outcome, _ := send(h, "760001", "hello"); outcome != "forwarded" {
				t.Errorf("outcome of the next message = %s, want forwarded", outcome)
			}
		})
		for name, end := range map[string]func(i claim.Invite) error{
			"refused": func(i claim.Invite) error {
				_, err := confirmer.RefuseInvite(h.T.Context(), inviteKey(i), "key:staff")
				return err
			},
			"revoked": func(i claim.Invite) error { return h.Store.RevokeInvite(h.T.Context(), inviteKey(i), "key:staff") },
			"expired": func(i claim.Invite) error {
				h.Exec(`update invites set expires_at = '2020-01-01 00:00:00.000+00:00' where id = $1`, i.ID)
				return nil
			},
		} {
			t.Run(name, func(t *testing.T) {
				defer h.UseT(t)()
				sender := h.NewExternalID()
				i := open(h, sender)
				if err := end(i); err != nil {
					t.Fatal(err)
				}
				if held := heldResults(h, i.Opener.MessageID); (held == 0) != (name != "expired") {
					t.Errorf("results that are not due = %d", held)
				}
				_, err := confirmer.ConfirmInvite(t.Context(), inviteKey(i), "key:staff")
				if accounts, _ := h.RedemptionCounts(i); !errors.Is(err, claim.ErrNotPending) || accounts != 0 {
					t.Errorf("ConfirmInvite() = %v with %d accounts, want ErrNotPending without", err, accounts)
				}
			})
		}
		t.Run("account linked to another customer", func(t *testing.T) {
			defer h.UseT(t)()
			sender := h.NewExternalID()
			i := open(h, sender)
			h.CreateIdentity(sender)
			_, err := confirmer.ConfirmInvite(t.Context(), inviteKey(i), "key:staff")
			if accounts, _ := h.RedemptionCounts(i); !errors.Is(err, claim.ErrOpenerGone) || accounts != 0 {
				t.Errorf("ConfirmInvite() = %v with %d accounts, want ErrOpenerGone without", err, accounts)
			}
		})
		t.Run("confirmed and refused concurrently", func(t *testing.T) {
			defer h.UseT(t)()
			i := open(h, h.NewExternalID())
			errs := harness.Concurrently(8, func(n int) error {
				if n%2 == 0 {
					_, err := confirmer.ConfirmInvite(t.Context(), inviteKey(i), "key:staff")
					return err
				}
				_, err := confirmer.RefuseInvite(t.Context(), inviteKey(i), "key:staff")
				return err
			})
			accounts, _ := h.RedemptionCounts(i)
			decided := h.QueryInt(`select count(*) from audit_events where customer_id = $1
				and kind in ('invite.confirmed', 'invite.refused')`, i.CustomerID)
			if used := stateOf(h, i).Status() == claim.Used; decided != 1 || (accounts == 1) != used {
				t.Errorf("decisions = %d, accounts = %d, used = %v (%v); want one decision", decided, accounts, used, errs)
			}
		})
	})
}

var numberPattern = regexp.MustCompile(`OK (\d{6})`)

// TestOwnerConfirmation checks that a claim for a customer with a verified owner waits for that owner
// if the tenant wants it, and that nothing but the owner's own number grants it.
func TestOwnerConfirmation(t *testing.T) { //nolint:funlen // a table of cases
	harness.ParallelUnlessFull(t)
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		enable := func(on bool) {
			if _, err := h.Store.EditTenant(h.T.Context(), harness.TestTenantID, identity.TenantEdit{OwnerConfirmation: &on},
				identity.System); err != nil {
				h.T.Fatal(err)
			}
		}
		// claimOther links a second account to an owner's customer and claims it.
		claimOther := func(owner harness.LinkedIdentity) (other harness.LinkedIdentity, outcome, message, number string) {
			h.T.Helper()
			external := h.NewExternalID()
			i, err := h.Store.Link(h.T.Context(), identity.Identity{
				TenantID: harness.TestTenantID, CustomerID: owner.CustomerID, InstanceID: h.InstanceID, Channel: "telegram",
				ExternalID: external,
			}, identity.System)
			if err != nil {
				h.T.Fatal(err)
			}
			other = harness.LinkedIdentity{CustomerID: owner.CustomerID, IdentityID: i.ID, ExternalID: external}
			key := h.SendText(external, external, "/claim "+h.IssueCode(other))
			h.ProcessMessages()
			message = h.QueryTexts(`select cast(id as text) from messages where key = $1`, key)[0]
			notices := h.QueryTexts(`select text from outbox where message_id = $1 and cause = 'notice' and recipient = $2`,
				message, owner.ExternalID)
			if m := numberPattern.FindStringSubmatch(strings.Join(notices, "\n")); m != nil {
				number = m[1]
			}
			return other, h.Outcome(key), message, number
		}
		newOwner := func() harness.LinkedIdentity {
			h.T.Helper()
			owner := h.CreateIdentity(h.NewExternalID())
			if outcome, _ := send(h, owner.ExternalID, "/claim "+h.IssueCode(owner)); outcome != "claimed" {
				h.T.Fatalf("first claim = %s, want claimed", outcome)
			}
			return owner
		}
		isVerified := func(p harness.LinkedIdentity) bool {
			return h.QueryInt(`select count(*) from identities where id = $1 and verified_at is not null`, p.IdentityID) == 1
		}
		owner := newOwner()
		if other, outcome, _, _ := claimOther(owner); outcome != "claimed" || !isVerified(other) {
			t.Fatalf("claim with the setting off = %s, want claimed", outcome)
		}
		enable(true)
		for _, tt := range []struct {
			name   string
			before func(t *testing.T, owner, other harness.LinkedIdentity) // before the answer
			answer string                                                  // NUMBER stands for the number
			want   string                                                  // outcome of the answer
		}{
			{name: "agreed", answer: "OK NUMBER", want: "confirmed"},
			{name: "agreed, as people type", answer: " ok: NUMBER. ", want: "confirmed"},
			{name: "refused", answer: "NO NUMBER", want: "refused"},
			{name: "without the number", answer: "OK", want: "forwarded"},
			{name: "in a sentence", answer: "is it OK NUMBER?", want: "forwarded"},
			{name: "another number", answer: "OK 0NUMBER", want: "forwarded"},
			{name: "too late", answer: "OK NUMBER", want: "forwarded", before: func(
				_ *testing.T, _, other harness.LinkedIdentity,
			) {
				h.Exec(`update claim_requests set expires_at = '2020-01-01 00:00:00.000+00:00' where identity_id = $1`,
					other.IdentityID)
			}},
			{name: "new code", answer: "OK NUMBER", want: "forwarded", before: func(
				_ *testing.T, _, other harness.LinkedIdentity,
			) {
				h.IssueCode(other)
			}},
			{name: "unverified by staff", answer: "OK NUMBER", want: "forwarded", before: func(
				t *testing.T, _, other harness.LinkedIdentity,
			) {
				k := identity.Key{TenantID: harness.TestTenantID, CustomerID: other.CustomerID, IdentityID: other.IdentityID}
				if _, err := h.Store.EditIdentity(t.Context(), k, identity.Edit{Verified: new(bool)}, identity.System); err != nil {
					t.Fatal(err)
				}
			}},
			{name: "unlinked", answer: "OK NUMBER", want: "forwarded", before: func(
				t *testing.T, _, other harness.LinkedIdentity,
			) {
				k := identity.Key{TenantID: harness.TestTenantID, CustomerID: other.CustomerID, IdentityID: other.IdentityID}
				if err := h.Store.Unlink(t.Context(), k, identity.System); err != nil {
					t.Fatal(err)
				}
			}},
			{name: "no longer an owner", answer: "OK NUMBER", want: "forwarded", before: func(
				_ *testing.T, owner, _ harness.LinkedIdentity,
			) {
				h.Exec(`update identities set role_override = null where id = $1`, owner.IdentityID)
			}},
			{name: "after four wrong numbers", answer: "OK NUMBER", want: "confirmed", before: sendWrongNumbers(h, 4)},
			{name: "after five wrong numbers", answer: "OK NUMBER", want: "forwarded", before: sendWrongNumbers(h, 5)},
		} {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				owner := newOwner()
				other, outcome, message, number := claimOther(owner)
				if outcome != "awaiting_owner" || number == "" || isVerified(other) || heldResults(h, message) != 1 {
					t.Fatalf("claim = %s, number = %q, verified = %v; want awaiting_owner, a number, not verified",
						outcome, number, isVerified(other))
				}
				// Only the owner can answer.
				for _, sender := range []string{other.ExternalID, h.NewExternalID()} {
					if got, _ := send(h, sender, "OK "+number); got != "forwarded" {
						t.Errorf("outcome of the number from %s = %s, want forwarded", sender, got)
					}
				}
				key := h.SendMessage(adapters.Message{
					Kind: adapters.Text, Text: "OK " + number, Sender: adapters.Sender{ID: owner.ExternalID},
					Chat: adapters.Chat{ID: "-100" + owner.ExternalID, Group: true},
				})
				h.ProcessMessages()
				if got := h.Outcome(key); got != "forwarded" || isVerified(other) {
					t.Errorf("outcome of the number in a group = %s, want forwarded", got)
				}
				if tt.before != nil {
					tt.before(t, owner, other)
				}
				got, _ := send(h, owner.ExternalID, strings.ReplaceAll(tt.answer, "NUMBER", number))
				if got != tt.want || isVerified(other) != (tt.want == "confirmed") {
					t.Errorf("outcome of the answer = %s, verified = %v; want %s", got, isVerified(other), tt.want)
				}
				if decided := tt.want == "confirmed" || tt.want == "refused"; decided && heldResults(h, message) != 0 {
					t.Error("the negative result is still held back")
				}
				if tt.want != "forwarded" {
					if again, _ := send(h, owner.ExternalID, "OK "+number); again != "forwarded" {
						t.Errorf("outcome of a second answer = %s, want forwarded", again)
					}
				}
				if n := h.GrantCount(other.IdentityID); n > 1 || (n == 1) != (tt.want == "confirmed") {
					t.Errorf("grants in the audit log = %d", n)
				}
			})
		}
		t.Run("invite", func(t *testing.T) {
			defer h.UseT(t)()
			i, code := h.CreateInvite("")
			pending, confirmed := createConfirmedInvite(h)
			owner := newOwner()
			h.Exec(`update invites set customer_id = $1 where id in ($2, $3)`, owner.CustomerID, i.ID, pending.ID)
			i.CustomerID, pending.CustomerID = owner.CustomerID, owner.CustomerID
			stranger := h.NewExternalID()
			if got, _ := send(h, stranger, "/claim "+code); got != "declined" {
				t.Errorf("outcome of an invite for a customer with an owner = %s, want declined", got)
			}
			if got, _ := send(h, stranger, "/claim "+confirmed); got != "awaiting_staff" {
				t.Errorf("outcome of an invite that staff must confirm = %s, want awaiting_staff", got)
			}
			_, err := newConfirmer(h).ConfirmInvite(t.Context(), inviteKey(pending), "key:staff")
			if accounts, _ := h.RedemptionCounts(i); !errors.Is(err, claim.ErrOwnerConfirmation) || accounts != 1 {
				t.Errorf("ConfirmInvite() = %v with %d accounts, want ErrOwnerConfirmation, and only the owner", err, accounts)
			}
			i.ID = ""
			if _, _, err := h.Claims.IssueInvite(t.Context(), i, "key:staff"); !errors.Is(err, claim.ErrOwnerConfirmation) {
				t.Errorf("IssueInvite() = %v, want ErrOwnerConfirmation", err)
			}
		})
	})
}

// sendWrongNumbers returns a function that answers with wrong numbers, as the owner.
func sendWrongNumbers(h *harness.ClaimFixture, n int) func(t *testing.T, owner, other harness.LinkedIdentity) {
	return func(t *testing.T, owner, other harness.LinkedIdentity) {
		t.Helper()
		number := h.QueryTexts(`select number from claim_requests where identity_id = $1`, other.IdentityID)[0]
		for try := range n {
			want := "wrong_number"
			if try+1 == claim.MaxAnswerTries {
				want = "refused"
			}
			wrong := fmt.Sprintf("%c%s", '0'+(number[0]-'0'+1)%10, number[1:])
			if got, _ := send(h, owner.ExternalID, "OK "+wrong); got != want {
				t.Errorf("outcome of wrong number %d = %s, want %s", try+1, got, want)
			}
		}
	}
}
