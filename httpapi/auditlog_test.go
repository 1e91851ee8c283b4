package httpapi

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"hydragate/identity"
)

// fillLog fills the audit log with n events, a second apart.
func (w *world) fillLog(n int, change func(i int, e *identity.Event)) {
	defer w.store.lock()()
	for i := range n {
		e := identity.Event{
			ID: w.store.id(), TenantID: identity.DefaultTenant, Kind: "claim.issued", Actor: "key:1", CustomerID: w.steve, IdentityID: w.linked, InstanceID: w.bot,
			At: w.clock.Add(time.Duration(i) * time.Second), Detail: map[string]string{"n": fmt.Sprint(i)},
		}
		if change != nil {
			change(i, &e)
		}
		w.store.life.events = append(w.store.life.events, e)
	}
}

func TestAuditPagesNewestFirst(t *testing.T) {
	w := newWorld(t)
	w.fillLog(5, nil)
	seen, cursor := "", ""
	for range 4 {
		page := w.ask("GET", "/v1/audit?limit=2"+cursor, "").fields(t)
		for _, e := range page["items"].([]any) {
			seen += e.(map[string]any)["detail"].(map[string]any)["n"].(string)
		}
		next, more := page["next_cursor"].(string)
		if !more {
			break
		}
		cursor = "&cursor=" + next
	}
	if seen != "43210" {
		t.Errorf("seen %s; want 43210", seen)
	}
	w.want(w.ask("GET", "/v1/audit", "", as(w.foreign)), 200, `{"items":[],"next_cursor":null}`)
}

func TestAuditFilters(t *testing.T) {
	w := newWorld(t)
	w.fillLog(4, func(i int, e *identity.Event) {
		switch i {
		case 0:
			e.Kind, e.Actor = "claim.failed", "sender:x"
		case 1:
			e.CustomerID, e.IdentityID = "", w.sender
		case 2:
			e.InstanceID = w.otherBot
		case 3:
			e.InstanceID = ""
		}
	})
	for q, want := range map[string]string{
		"": "3210", "kind=claim.failed": "0", "actor=sender:x": "0", "customer_id=" + w.steve: "320", "identity_id=" + w.sender: "1", "instance_id=" + w.otherBot: "2",
		"since=2026-11-22T02:00:02Z": "32", "until=2026-11-22T02:00:02Z": "10", "since=2026-11-22T02:00:01Z&until=2026-11-22T02:00:02Z": "1", "kind=x": "",
		"since=2026-11-22T13:00:02%2B11:00": "32",
	} {
		seen := ""
		for _, e := range w.ask("GET", "/v1/audit?"+q, "").fields(t)["items"].([]any) {
			seen += e.(map[string]any)["detail"].(map[string]any)["n"].(string)
		}
		if seen != want {
			t.Errorf("%s: %s; want %s", q, seen, want)
		}
	}
	limited := as(w.limited("audit:read"))
	if items := w.ask("GET", "/v1/audit", "", limited).fields(t)["items"].([]any); len(items) != 2 {
		t.Errorf("a limited key sees %d events; want those of its instance", len(items))
	}
	w.want(w.ask("GET", "/v1/audit?instance_id="+w.otherBot, "", limited), 404, `{"detail":"Instance not found"}`)
	for _, bad := range []string{"since=yesterday", "customer_id=x", "format=xml", "kind=", "limit=0", "cursor=x"} {
		w.want(w.ask("GET", "/v1/audit?"+bad, ""), 422, "")
	}
}

func TestAuditAsCSV(t *testing.T) {
	w := newWorld(t)
	attacks := []string{`=HYPERLINK("http://evil")`, "+1", "-1", "@x", "\tx", "\rx", "\n=x", `"quoted", and more`, "plain"}
	w.fillLog(1203, func(i int, e *identity.Event) {
		if i < len(attacks) {
			e.Kind = attacks[i]
		}
	})
	for _, ask := range []struct {
		query  string
		header []string
	}{{"?format=csv", nil}, {"", []string{"Accept: text/csv"}}, {"?format=csv", []string{"Accept: application/json"}}} {
		got := w.ask("GET", "/v1/audit"+ask.query, "", ask.header...)
		if got.status != 200 || !strings.HasPrefix(got.header.Get("Content-Type"), "text/csv") || !strings.Contains(got.header.Get("Content-Disposition"), "audit.csv") {
			t.Fatalf("%d %v", got.status, got.header)
		}
		rows, err := csv.NewReader(strings.NewReader(got.body)).ReadAll()
		if err != nil || len(rows) != 1204 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		if strings.Join(rows[0], " ") != "at kind actor customer_id identity_id instance_id message_id detail id" || rows[1][0] != "2026-11-22T02:20:02Z" {
			t.Errorf("%v\n%v", rows[0], rows[1])
		}
		for i, attack := range attacks {
			kind := rows[len(rows)-1-i][1]
			if i < 7 && !strings.HasPrefix(kind, "'") || i >= 7 && kind != attack {
				t.Errorf("%q became %q", attack, kind)
			}
		}
	}
	for _, accept := range []string{"application/json", "*/*", "text/csv, application/json"} {
		if got := w.ask("GET", "/v1/audit", "", "Accept: "+accept); got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", accept, got.header)
		}
	}
	w.want(w.ask("GET", "/v1/audit?format=csv", "", as(w.limited("keys:read"))), 403, "")
}

// TestBrokenOffAnswerIsSeen: an answer that could not be finished does not look whole.
func TestBrokenOffAnswerIsSeen(t *testing.T) {
	w := newWorld(t)
	w.fillLog(1203, nil)
	w.store.life.severed = errors.New("the database went away")
	r, _ := http.NewRequest("GET", w.server.URL+"/v1/audit?format=csv", nil)
	r.Header.Set("Authorization", "Bearer "+w.token)
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		defer answer.Body.Close()
		_, err = io.ReadAll(answer.Body)
	}
	if err == nil {
		t.Error("a part was taken for the whole")
	}
	w.store.down = errors.New("away")
	w.clock = w.clock.Add(time.Hour)
	w.want(w.ask("GET", "/v1/audit?format=csv", ""), 500, `{"detail":"Internal Server Error"}`)
}

func TestExport(t *testing.T) {
	w := newWorld(t)
	w.fillLog(1003, nil)
	w.store.life.talks = []Talk{{ID: nobody, InstanceID: w.bot, Channel: "telegram", ExternalID: "12345"}, {ID: nobody, InstanceID: w.otherBot, Channel: "telegram", ExternalID: "12345"}}
	for i := range int64(1001) {
		w.store.life.in = append(w.store.life.in, ReceivedMessage{Seq: i + 1, ID: nobody, Kind: "media", Text: "<hello>", ReceivedAt: w.clock, Attachments: []SentFile{{Kind: "image", Name: "a.jpg", Size: 7}}})
	}
	w.store.life.out = []SentMessage{{Seq: 1, ID: nobody, Text: "hi", Cause: "agent", Status: "sent", CreatedAt: w.clock}}
	w.store.life.owners = []identity.Ownership{{IdentityID: w.linked, Channel: "telegram", ExternalID: "12345", CustomerID: w.steve, Since: w.clock}}
	read := func(headers ...string) (e exportAnswer) {
		t.Helper()
		got := w.ask("GET", "/v1/customers/"+w.steve+"/export", "", headers...)
		if err := json.Unmarshal([]byte(got.body), &e); err != nil || got.status != 200 || got.header.Get("Content-Disposition") != `attachment; filename="customer-`+w.steve+`.json"` {
			t.Fatalf("%d %v %v", got.status, err, got.header)
		}
		return e
	}
	e := read()
	if len(e.Withheld) != 0 || e.Customer.ID != w.steve || len(e.Identities) != 3 || len(e.History) != 1 || len(e.Conversations) != 2 || len(e.Audit) != 1003 || !e.ExportedAt.Equal(w.clock) {
		t.Errorf("%d identities, %d owned, %d conversations, %d events", len(e.Identities), len(e.History), len(e.Conversations), len(e.Audit))
	}
	if c := e.Conversations[0]; len(c.Received) != 1001 || len(c.Sent) != 1 || c.Received[7].Text != "<hello>" || *c.Received[7].Attachments[0].Filename != "a.jpg" || c.Received[7].SentAt != nil {
		t.Errorf("%d received, %d sent", len(c.Received), len(c.Sent))
	}
	if e := read(as(w.limited("customers:read", "identities:read", "messages:read"))); len(e.Identities) != 2 || len(e.Conversations) != 1 || e.Conversations[0].InstanceID != w.bot {
		t.Errorf("a limited key gets %d identities and %d conversations", len(e.Identities), len(e.Conversations))
	}
	for scope, withheld := range map[string]string{
		"identities:read": "[conversations audit]", "messages:read": "[identities history audit]", "audit:read": "[identities history conversations]", "keys:read": "[identities history conversations audit]",
	} {
		e := read(as(w.key(identity.APIKey{TenantID: identity.DefaultTenant, Scopes: []string{"customers:read", scope}})))
		given := map[string]int{"identities": len(e.Identities), "history": len(e.History), "conversations": len(e.Conversations), "audit": len(e.Audit)}
		for part, n := range given {
			if slices.Contains(e.Withheld, part) != (n == 0) {
				t.Errorf("with %s: %d of %s", scope, n, part)
			}
		}
		if fmt.Sprint(e.Withheld) != withheld || e.Customer.ID != w.steve {
			t.Errorf("with %s there are withheld: %v; want %s", scope, e.Withheld, withheld)
		}
	}
	w.want(w.ask("GET", "/v1/customers/"+w.steve+"/export", "", as(w.foreign)), 404, `{"detail":"Customer not found"}`)
}

func TestSearchByBeginning(t *testing.T) {
	w := newWorld(t)
	w.want(w.ask("GET", "/v1/customers?phone_number_prefix=abc", ""), 422, "")
	w.want(w.ask("GET", "/v1/customers?email_prefix=", ""), 422, "")
	for _, q := range []string{"email_prefix=ST", "external_id_prefix=123", "email_prefix=steve&external_id_prefix=1"} {
		if items := w.ask("GET", "/v1/customers?"+q, "").fields(t)["items"].([]any); len(items) != 1 {
			t.Errorf("%s: %d", q, len(items))
		}
	}
	for _, q := range []string{"phone_number_prefix=61", "phone_number_prefix=%2B61", "phone_number_prefix=+61"} {
		if got := w.ask("GET", "/v1/customers?"+q, "").fields(t)["items"].([]any); len(got) != 0 {
			t.Errorf("%s: %v", q, got)
		}
	}
}
