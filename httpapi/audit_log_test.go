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

// addEvents adds n events to the audit log, one second apart. change modifies the event i.
func (h *harness) addEvents(n int, change func(i int, e *identity.Event)) {
	for i := range n {
		e := identity.Event{
			TenantID:   identity.DefaultTenant,
			Kind:       "claim.issued",
			Actor:      "key:1",
			CustomerID: h.customer,
			IdentityID: h.tenantIdentity,
			InstanceID: h.instance,
			At:         h.clock.Add(time.Duration(i) * time.Second),
			Detail:     map[string]string{"n": fmt.Sprint(i)},
		}
		if change != nil {
			change(i, &e)
		}
		h.store.AddEvent(e)
	}
}

func TestAuditLog_NewestFirst(t *testing.T) {
	h := newHarness(t)
	h.addEvents(5, nil)
	order, cursor := "", ""
	for range 4 {
		page := h.request("GET", "/v1/audit?limit=2"+cursor, "").fields(t)
		for _, e := range page["items"].([]any) {
			order += e.(map[string]any)["detail"].(map[string]any)["n"].(string)
		}
		next, more := page["next_cursor"].(string)
		if !more {
			break
		}
		cursor = "&cursor=" + next
	}
	if order != "43210" {
		t.Errorf("order of events = %s, want 43210", order)
	}
	h.expect(h.request("GET", "/v1/audit", "", bearer(h.foreignToken)), 200, `{"items":[],"next_cursor":null}`)
}

func TestAuditLog_Filters(t *testing.T) {
	h := newHarness(t)
	h.addEvents(4, func(i int, e *identity.Event) {
		switch i {
		case 0:
			e.Kind, e.Actor = "claim.failed", "sender:x"
		case 1:
			e.CustomerID, e.IdentityID = "", h.sender
		case 2:
			e.InstanceID = h.otherInstance
		case 3:
			e.InstanceID = ""
		}
	})
	for q, want := range map[string]string{
		"":                                  "3210",
		"kind=claim.failed":                 "0",
		"kind=x":                            "",
		"actor=sender:x":                    "0",
		"customer_id=" + h.customer:         "320",
		"identity_id=" + h.sender:           "1",
		"instance_id=" + h.otherInstance:    "2",
		"since=2026-11-22T02:00:02Z":        "32",
		"since=2026-11-22T13:00:02%2B11:00": "32",
		"until=2026-11-22T02:00:02Z":        "10",
		"since=2026-11-22T02:00:01Z&until=2026-11-22T02:00:02Z": "1",
	} {
		got := ""
		for _, e := range h.request("GET", "/v1/audit?"+q, "").fields(t)["items"].([]any) {
			got += e.(map[string]any)["detail"].(map[string]any)["n"].(string)
		}
		if got != want {
			t.Errorf("events with filter %q = %s, want %s", q, got, want)
		}
	}
	limited := bearer(h.newInstanceKey("audit:read"))
	if items := h.request("GET", "/v1/audit", "", limited).fields(t)["items"].([]any); len(items) != 2 {
		t.Errorf("a key limited to an instance gets %d events, want 2", len(items))
	}
	h.expect(
		h.request("GET", "/v1/audit?instance_id="+h.otherInstance, "", limited),
		404,
		`{"detail":"Instance not found"}`,
	)
	for _, bad := range []string{"since=yesterday", "customer_id=x", "format=xml", "kind=", "limit=0", "cursor=x"} {
		h.expect(h.request("GET", "/v1/audit?"+bad, ""), 422, "")
	}
}

func TestAuditLog_CSV(t *testing.T) {
	h := newHarness(t)
	attacks := []string{`=HYPERLINK("http://evil")`, "+1", "-1", "@x", "\tx", "\rx", "\n=x", `"quoted", and more`, "plain"}
	h.addEvents(1203, func(i int, e *identity.Event) {
		if i < len(attacks) {
			e.Kind = attacks[i]
		}
	})
	for _, req := range []struct {
		query  string
		header []string
	}{{"?format=csv", nil}, {"", []string{"Accept: text/csv"}}, {"?format=csv", []string{"Accept: application/json"}}} {
		got := h.request("GET", "/v1/audit"+req.query, "", req.header...)
		if got.status != 200 || !strings.HasPrefix(got.header.Get("Content-Type"), "text/csv") ||
			!strings.Contains(got.header.Get("Content-Disposition"), "audit.csv") {
			t.Fatalf("CSV response = %d %v", got.status, got.header)
		}
		rows, err := csv.NewReader(strings.NewReader(got.body)).ReadAll()
		if err != nil || len(rows) != 1204 {
			t.Fatalf("CSV has %d rows, %v, want 1204", len(rows), err)
		}
		if strings.Join(
			rows[0],
			" ",
		) != "at kind actor actor_name customer_id identity_id instance_id message_id detail id" ||
			rows[1][0] != "2026-11-22T02:20:02Z" {
			t.Errorf("first rows = %v\n%v", rows[0], rows[1])
		}
		for i, attack := range attacks {
			kind := rows[len(rows)-1-i][1]
			if i < 7 && !strings.HasPrefix(kind, "'") || i >= 7 && kind != attack {
				t.Errorf("kind %q is written as %q", attack, kind)
			}
		}
	}
	for _, accept := range []string{"application/json", "*/*", "text/csv, application/json"} {
		got := h.request("GET", "/v1/audit", "", "Accept: "+accept)
		if got.header.Get("Content-Type") != "application/json" {
			t.Errorf("Accept: %s: header = %v, want JSON", accept, got.header)
		}
	}
	h.expect(h.request("GET", "/v1/audit?format=csv", "", bearer(h.newInstanceKey("keys:read"))), 403, "")
}

// TestStream_AbortedOnError checks that the connection is aborted if a stream fails after its
// beginning.
func TestStream_AbortedOnError(t *testing.T) {
	h := newHarness(t)
	h.addEvents(1203, nil)
	h.store.LaterErr = errors.New("connection lost")
	r, _ := http.NewRequest(http.MethodGet, h.server.URL+"/v1/audit?format=csv", http.NoBody)
	r.Header.Set("Authorization", "Bearer "+h.adminToken)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("the truncated response looks complete")
	}
	h.store.Err = errors.New("connection refused")
	h.clock = h.clock.Add(time.Hour)
	h.expect(h.request("GET", "/v1/audit?format=csv", ""), 500, `{"detail":"Internal Server Error"}`)
}
