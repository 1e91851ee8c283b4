package claims

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/e2e/harness"
	"hydragate/gateway"
	"hydragate/identity"
)

// inviteForm is a message with an invite code, and its outcome.
type inviteForm struct {
	name string
	// text contains CODE and GROUPED, which stand for the code as issued and as shown to customers, or
	// code and grouped, which stand for their lower case forms.
	text   string
	change func(m *adapters.Message)                     // applied to the message
	before func(h *harness.ClaimFixture, i claim.Invite) // runs before the message is processed
	want   string
}

// inGroup moves a message to a group chat.
func inGroup(m *adapters.Message) { m.Chat = adapters.Chat{ID: "-100" + m.Sender.ID, Group: true} }

// expireInvite returns a function that sets how many seconds after the last message an invite expires.
func expireInvite(seconds string) func(h *harness.ClaimFixture, i claim.Invite) {
	return func(h *harness.ClaimFixture, i claim.Invite) {
		query := `update invites set expires_at = (select max(%s) from messages) where id = $1`
		h.Exec(h.ShiftedQuery(query, seconds), i.ID)
	}
}

// TestInvite_AcceptedForms checks which messages redeem an invite.
func TestInvite_AcceptedForms(t *testing.T) {
	harness.ParallelUnlessFull(t)
	const bot = harness.BotUsername
	testInviteForms(t, []inviteForm{
		{name: "deep link", text: "/start claim_CODE", want: "claimed"},
		{name: "deep link to this bot", text: "/start@" + bot + " claim_CODE", want: "claimed"},
		{name: "with a wrong name of the bot", text: "/claim@other_bot CODE", want: "claimed"},
		{name: "deep link with a wrong name of the bot", text: "/start@other_bot claim_CODE", want: "claimed"},
		{name: "as shown", text: "/claim GROUPED", want: "claimed"},
		{name: "lower case, with spaces", text: "claim   grouped ", want: "claimed"},
		{name: "typographic quotes", text: "„Claim grouped“.", want: "claimed"},
		{name: "two lines", text: "/claim\nGROUPED", want: "claimed"},
		{
			name: "sender with a username", text: "/claim CODE", want: "claimed",
			change: func(m *adapters.Message) { m.Sender.Username = "steve" },
		},
		{name: "pasted link", text: "https://t.me/" + bot + "?start=claim_CODE", want: "claimed"},
		{name: "pasted link of an app", text: "<tg://resolve?domain=" + bot + "&start=claim_code>", want: "claimed"},
		{name: "one second left", text: "/claim CODE", before: expireInvite("1"), want: "claimed"},
	})
}

// TestInvite_RejectedForms checks which messages do not redeem an invite.
func TestInvite_RejectedForms(t *testing.T) {
	harness.ParallelUnlessFull(t)
	const bot = harness.BotUsername
	updated := func(query string) func(h *harness.ClaimFixture, i claim.Invite) {
		return func(h *harness.ClaimFixture, i claim.Invite) { h.Exec(query, i.ID) }
	}
	testInviteForms(t, []inviteForm{
		{name: "without the command", text: "GROUPED", want: "hint"},
		{name: "to another bot in a group", text: "/claim@other_bot CODE", change: inGroup, want: "not_private"},
		{name: "dead, with the name of another bot", text: "/claim@other_bot BCDFGHJKLMNP", want: "declined"},
		{
			name: "dead, to another bot in a group", text: "/claim@other_bot BCDFGHJKLMNP", change: inGroup,
			want: "for_another_bot",
		},
		{name: "in a group", text: "/claim CODE", change: inGroup, want: "not_private"},
		{name: "deep link in a group", text: "/start@" + bot + " claim_CODE", change: inGroup, want: "not_private"},
		{name: "without the command in a group", text: "GROUPED", change: inGroup, want: "not_private"},
		{
			name: "forwarded to a group", text: "/claim CODE", want: "not_private",
			change: func(m *adapters.Message) { inGroup(m); m.UnprovenReason = "forwarded" },
		},
		{
			name: "forwarded", text: "/claim CODE", want: "not_proven",
			change: func(m *adapters.Message) { m.UnprovenReason = "forwarded" },
		},
		{
			name: "edited", text: "/claim CODE", want: "not_proven",
			change: func(m *adapters.Message) { m.Kind = adapters.Edit },
		},
		{name: "wrong code", text: "/claim " + claim.NewInviteCode(), want: "declined"},
		{name: "text like an invite code", text: "BCDF-GHJK-LMNP", want: "forwarded"},
		{name: "expired", text: "/claim CODE", before: expireInvite("-1"), want: "declined"},
		{
			name: "revoked", text: "/claim CODE", want: "declined",
			before: func(h *harness.ClaimFixture, i claim.Invite) {
				k := claim.InviteKey{TenantID: harness.TestTenantID, CustomerID: i.CustomerID, InviteID: i.ID}
				if err := h.Store.RevokeInvite(h.T.Context(), k, identity.System); err != nil {
					h.T.Fatal(err)
				}
			},
		},
		{
			name: "used", text: "/claim CODE", want: "declined",
			before: updated(`update invites set used_msg = id where id = $1`),
		},
		{
			name: "of another instance", text: "/claim CODE", want: "declined",
			before: func(h *harness.ClaimFixture, i claim.Invite) {
				instance := gateway.Instance{TenantID: harness.TestTenantID, Name: "other"}
				secrets := gateway.InstanceSecrets{AgentSecretKey: uuid.NewString(), WebhookSecret: "whsec_x"}
				other, err := h.Store.CreateInstance(h.T.Context(), instance, secrets, identity.System)
				if err != nil {
					h.T.Fatal(err)
				}
				h.Exec(`update invites set instance_id = $2 where id = $1`, i.ID, other.ID)
			},
		},
		{
			name: "of another channel", text: "/claim CODE", want: "declined",
			before: updated(`update invites set channel = 'slack' where id = $1`),
		},
	})
}

// testInviteForms sends a new invite in each form and checks the outcome.
func testInviteForms(t *testing.T, forms []inviteForm) {
	harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
		for _, tt := range forms {
			t.Run(tt.name, func(t *testing.T) {
				defer h.UseT(t)()
				i, code := h.CreateInvite(identity.RoleOwner)
				grouped := claim.Group(code)
				r := strings.NewReplacer(
					"CODE", code, "code", strings.ToLower(code), "GROUPED", grouped, "grouped", strings.ToLower(grouped))
				sender := h.NewExternalID()
				m := adapters.Message{
					Kind: adapters.Text, Text: r.Replace(tt.text),
					Sender: adapters.Sender{ID: sender}, Chat: adapters.Chat{ID: sender},
				}
				if tt.change != nil {
					tt.change(&m)
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
				revoked := h.QueryInt(`select count(*) from invites where id = $1 and revoked_at is not null`, i.ID) == 1
				if want := tt.want == "not_private" || tt.name == "revoked"; want != revoked {
					t.Errorf("revoked = %v, want %v: only an invite exposed in a group is revoked", revoked, want)
				}
				// The application gets only text that is no invite, unchanged.
				var want []string
				if tt.want == "forwarded" {
					want = []string{tt.text}
				}
				got := h.QueryTexts(`select m.text from deliveries d join messages m on m.id = d.message_id
					where m.key = $1`, key)
				if !slices.Equal(got, want) {
					t.Errorf("messages delivered to the application = %q, want %q", got, want)
				}
			})
		}
	})
}
