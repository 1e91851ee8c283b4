package httpapi

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"hydragate/identity"
)

// addEvents fills the audit log with n events, a second apart.
func (w *harness) addEvents(n int, change func(i int, e *identity.Event)) {
	defer w.store.lock()()
	for i := range n {
		e := identity.Event{
			ID: w.store.id(), TenantID: identity.DefaultTenant, Kind: "claim.issued", Actor: "key:1", CustomerID: w.customer, IdentityID: w.tenantIdentity, InstanceID: w.instance,
			At: w.clock.Add(time.Duration(i) * time.Second), Detail: map[string]string{"n": fmt.Sprint(i)},
		}
		if change != nil {
			change(i, &e)
		}
		w.store.data.events = append(w.store.data.events, e)
	}
}

func TestAuditLog_NewestFirst(t *testing.T) {
	w := newHarness(t)
	w.addEvents(5, nil)
	seen, cursor := "", ""
	for range 4 {
		page := w.request("GET", "/v1/audit?limit=2"+cursor, "").fields(t)
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
	w.expect(w.request("GET", "/v1/audit", "", bearer(w.foreignToken)), 200, `{"items":[],"next_cursor":null}`)
}

func TestAuditLog_Filters(t *testing.T) {
	w := newHarness(t)
	w.addEvents(4, func(i int, e *identity.Event) {
		switch i {
		case 0:
			e.Kind, e.Actor = "claim.failed", "sender:x"
		case 1:
			e.CustomerID, e.IdentityID = "", w.sender
		case 2:
			e.InstanceID = w.otherInstance
		case 3:
			e.InstanceID = ""
		}
	})
	for q, want := range map[string]string{
		"": "3210", "kind=claim.failed": "0", "actor=sender:x": "0", "customer_id=" + w.customer: "320", "identity_id=" + w.sender: "1", "instance_id=" + w.otherInstance: "2",
		"since=2026-11-22T02:00:02Z": "32", "until=2026-11-22T02:00:02Z": "10", "since=2026-11-22T02:00:01Z&until=2026-11-22T02:00:02Z": "1", "kind=x": "",
		"since=2026-11-22T13:00:02%2B11:00": "32",
	} {
		seen := ""
		for _, e := range w.request("GET", "/v1/audit?"+q, "").fields(t)["items"].([]any) {
			seen += e.(map[string]any)["detail"].(map[string]any)["n"].(string)
		}
		if seen != want {
			t.Errorf("%s: %s; want %s", q, seen, want)
		}
	}
	limited := bearer(w.newInstanceKey("audit:read"))
	if items := w.request("GET", "/v1/audit", "", limited).fields(t)["items"].([]any); len(items) != 2 {
		t.Errorf("a limited key sees %d events; want those of its instance", len(items))
	}
	w.expect(w.request("GET", "/v1/audit?instance_id="+w.otherInstance, "", limited), 404, `{"detail":"Instance not found"}`)
	for _, bad := range []string{"since=yesterday", "customer_id=x", "format=xml", "kind=", "limit=0", "cursor=x"} {
		w.expect(w.request("GET", "/v1/audit?"+bad, ""), 422, "")
	}
}

func TestAuditLog_CSV(t *testing.T) {
	w := newHarness(t)
	attacks := []string{`=HYPERLINK("http://evil")`, "+1", "-1", "@x", "\tx", "\rx", "\n=x", `"quoted", and more`, "plain"}
	w.addEvents(1203, func(i int, e *identity.Event) {
		if i < len(attacks) {
			e.Kind = attacks[i]
		}
	})
	for _, ask := range []struct {
		query  string
		header []string
	}{{"?format=csv", nil}, {"", []string{"Accept: text/csv"}}, {"?format=csv", []string{"Accept: application/json"}}} {
		got := w.request("GET", "/v1/audit"+ask.query, "", ask.header...)
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
		if got := w.request("GET", "/v1/audit", "", "Accept: "+accept); got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", accept, got.header)
		}
	}
	w.expect(w.request("GET", "/v1/audit?format=csv", "", bearer(w.newInstanceKey("keys:read"))), 403, "")
}

// TestStream_AbortedOnError: an answer that could not be finished does not look whole.
func TestStream_AbortedOnError(t *testing.T) {
	w := newHarness(t)
	w.addEvents(1203, nil)
	w.store.data.laterErr = errors.New("the database went away")
	r, _ := http.NewRequest("GET", w.server.URL+"/v1/audit?format=csv", nil)
	r.Header.Set("Authorization", "Bearer "+w.adminToken)
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		defer answer.Body.Close()
		_, err = io.ReadAll(answer.Body)
	}
	if err == nil {
		t.Error("a part was taken for the whole")
	}
	w.store.err = errors.New("away")
	w.clock = w.clock.Add(time.Hour)
	w.expect(w.request("GET", "/v1/audit?format=csv", ""), 500, `{"detail":"Internal Server Error"}`)
}
