package store

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/store/sqldb"
)

func TestOutbox_OrderAndEarlyReceipts(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		f.insertMessages(f.arrival("1", "k1", "a"))
		l := f.lease(gateway.InboxQueue, "one")[0]
		var rows []gateway.OutboxRow
		for i := range 3 {
			rows = append(rows, gateway.OutboxRow{
				ID: newID(), TenantID: f.tenant, ConversationID: l.ConversationID, InstanceID: f.instance,
				Channel:   adapters.Telegram,
				Recipient: "1", Chat: adapters.Chat{ID: "1", ReplyToken: "secret"}, Text: fmt.Sprint(i), Cause: "agent",
			})
		}
		rows[1].Cause, rows[1].Delay = "reminder", 24*time.Hour
		f.apply(gateway.Commit{Lease: l, Release: true, Replies: rows})
		out := f.lease(gateway.OutboxQueue, "one")[0]
		got, next, err := f.PendingReplies(t.Context(), out)
		if err != nil || len(got) != 2 || got[0].Text != "0" || got[1].Text != "2" || got[0].Chat.ReplyToken != "secret" {
			t.Fatalf("PendingReplies() = %+v, %v, want the first and the third", got, err)
		}
		if d := time.Until(next); d < 23*time.Hour {
			t.Fatalf("reminder is due in %v, want 24h", d)
		}
		ep := adapters.Endpoint{TenantID: f.tenant, InstanceID: f.instance, Channel: adapters.Telegram}
		if err := f.ApplyReceipts(t.Context(), ep, []adapters.Receipt{
			{ProviderID: "p0", Status: adapters.Delivered},
			{ProviderID: "p0", Status: adapters.Sent},
		}); err != nil {
			t.Fatal(err)
		}
		f.apply(gateway.Commit{Lease: out, SendResults: []gateway.SendResult{{Row: got[0], Status: gateway.Sending}}})
		if got, _, _ := f.PendingReplies(t.Context(), out); got[0].Status != gateway.Sending || got[0].Attempts != 1 {
			t.Fatalf("reply being sent = %+v", got[0])
		}
		f.apply(gateway.Commit{
			Lease:       out,
			SendResults: []gateway.SendResult{{Row: got[0], Status: adapters.Sent, ProviderID: "p0"}},
		})
		rs, err := f.db.Query(t.Context(), `select status from outbox where id = $1`, got[0].ID)
		if s, err := sqldb.ScanOne(rs, err, sqldb.ScanString); err != nil || s != "delivered" {
			t.Fatalf("status = %q, %v, want delivered from the earlier receipt", s, err)
		}
	})
}

func TestOutbox_ConversationLimit(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		f.insertMessages(f.arrival("1", "k1", "a"), f.arrival("2", "k2", "b"))
		leases := f.lease(gateway.InboxQueue, "one")
		insert := func(l gateway.Lease, cause string, limit int) (stored bool) {
			t.Helper()
			row := gateway.OutboxRow{
				ID: newID(), TenantID: f.tenant, ConversationID: l.ConversationID, InstanceID: f.instance,
				Channel:   adapters.Telegram,
				Recipient: "1", Chat: adapters.Chat{ID: "1"}, Text: "hello", Cause: cause, MaxPerHour: limit,
			}
			f.apply(gateway.Commit{Lease: l, Replies: []gateway.OutboxRow{row}})
			return queryText(t, f.Store, `select cast(count(*) as text) from outbox where id = $1`, row.ID) == "1"
		}
		for _, step := range []struct {
			lease int
			cause string
			limit int
			want  bool
		}{
			{0, "agent", 0, true},
			{0, "command", 2, true},
			{0, "command", 2, true},
			{0, "command", 2, false},
			{0, "agent", 2, true},
			{1, "command", 2, true},
			{0, "command", 0, true},
			{0, "command", 3, false},
			{0, "command", 4, true},
		} {
			if got := insert(leases[step.lease], step.cause, step.limit); got != step.want {
				t.Errorf("reply %+v stored = %v, want %v", step, got, step.want)
			}
		}
		mustExec(t, f.Store, `update outbox set created_at = $1`, time.Now().UTC().Add(-61*time.Minute))
		if !insert(leases[0], "command", 1) {
			t.Error("replies older than an hour count toward the limit")
		}
	})
}

// TestPendingReplies_OtherIDs checks that a reply that may have been sent comes with the provider's IDs of
// the other replies with its text, and no others.
func TestPendingReplies_OtherIDs(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		f.insertMessages(f.arrival("1", "m1", "hello"))
		f.apply(gateway.Commit{Lease: f.lease(gateway.InboxQueue, "one")[0], Release: true, Replies: []gateway.OutboxRow{
			f.reply("Done."), f.reply("Else."), f.reply("Done."), f.reply("Done."),
		}})
		l := f.lease(gateway.OutboxQueue, "one")[0]
		rows, _, err := f.PendingReplies(t.Context(), l)
		if err != nil || len(rows) != 4 {
			t.Fatalf("PendingReplies() = %d rows, %v, want 4", len(rows), err)
		}
		for i, id := range []string{"SM1", "SM2"} {
			f.apply(gateway.Commit{Lease: l, SendResults: []gateway.SendResult{
				{Row: rows[i], Status: adapters.Sent, ProviderID: id},
			}})
		}
		f.apply(gateway.Commit{Lease: l, SendResults: []gateway.SendResult{
			{Row: rows[2], Status: adapters.Queued, PossiblySent: true},
		}})
		rows, _, err = f.PendingReplies(t.Context(), l)
		if err != nil || len(rows) != 2 {
			t.Fatalf("PendingReplies() = %d rows, %v, want 2", len(rows), err)
		}
		if got := rows[0].OtherIDs; !slices.Equal(got, []string{"SM1"}) || rows[1].OtherIDs != nil {
			t.Errorf("OtherIDs = %q and %q, want SM1 for the one that may have been sent", got, rows[1].OtherIDs)
		}
	})
}

// TestOutbox_Parts checks that the parts of a reply are sent in its place, also if one of them is divided again
// or was being sent when the gateway stopped.
func TestOutbox_Parts(t *testing.T) {
	forEachFixture(t, func(t *testing.T, f *fixture) {
		f.insertMessages(f.arrival("1", "m1", "hello"))
		question := f.reply("abcdef")
		question.ReplyTo, question.Chat = "506", adapters.Chat{ID: "1", ReplyToken: "secret"}
		f.apply(gateway.Commit{Lease: f.lease(gateway.InboxQueue, "one")[0], Release: true, Replies: []gateway.OutboxRow{
			f.reply("before"), question, f.reply("after"),
		}})
		l := f.lease(gateway.OutboxQueue, "one")[0]
		divide := func(row gateway.OutboxRow, texts ...string) {
			r := gateway.SendResult{Row: row, Status: adapters.Queued, Reason: adapters.TooLong}
			r.Row.Text = texts[0]
			for _, text := range texts[1:] {
				part := row
				part.ID, part.Text, part.ReplyTo = newID(), text, ""
				r.Rest = append(r.Rest, part)
			}
			f.apply(gateway.Commit{Lease: l, SendResults: []gateway.SendResult{r}})
		}
		pending := func(want ...string) []gateway.OutboxRow {
			t.Helper()
			rows, _, err := f.PendingReplies(t.Context(), l)
			var texts []string
			for _, row := range rows {
				texts = append(texts, row.Text)
			}
			if err != nil || !slices.Equal(texts, want) {
				t.Fatalf("PendingReplies() = %q, %v, want %q", texts, err, want)
			}
			return rows
		}
		divide(pending("before", "abcdef", "after")[1], "ab", "cd", "ef")
		divide(pending("before", "ab", "cd", "ef", "after")[2], "c", "d")
		divide(pending("before", "ab", "c", "d", "ef", "after")[1], "a", "b")
		rows := pending("before", "a", "b", "c", "d", "ef", "after")
		for i, row := range rows[1:6] {
			if row.Chat.ReplyToken != "secret" || row.Recipient != "1" || (row.ReplyTo == "506") != (i == 0) {
				t.Errorf("part %d = %+v", i, row)
			}
		}
		f.apply(gateway.Commit{Lease: l, SendResults: []gateway.SendResult{
			{Row: rows[0], Status: adapters.Sent, ProviderID: "1"},
			{Row: rows[1], Status: adapters.Sent, ProviderID: "2"},
			{Row: rows[2], Status: gateway.Sending},
		}})
		rows = pending("b", "c", "d", "ef", "after")
		if rows[0].Status != gateway.Sending || rows[1].Status != adapters.Queued {
			t.Errorf("states after a crash = %q, %q, want sending, queued", rows[0].Status, rows[1].Status)
		}
	})
}

// reply returns a reply in the conversation with "1".
func (f *fixture) reply(text string) gateway.OutboxRow {
	return gateway.OutboxRow{
		ID: newID(), TenantID: f.tenant, InstanceID: f.instance, Channel: adapters.Telegram, Recipient: "1", Text: text,
		ConversationID: gateway.ConversationID(f.instance, adapters.Telegram, "1"), Cause: "agent",
	}
}
