package simulator_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"hydragate/adapters/simulator"
)

// openSlackConnection calls apps.connections.open with a token. It returns the URL of the connection
// or Slack's error code.
func openSlackConnection(t *testing.T, s *simulator.Slack, token string) (socketURL, code string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.APIURL()+"apps.connections.open", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc struct{ URL, Error string }
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	return doc.URL, doc.Error
}

type slackFrame struct {
	Type       string          `json:"type"`
	ID         string          `json:"envelope_id"`
	Attempt    int             `json:"retry_attempt"`
	Reason     string          `json:"retry_reason"`
	Disconnect string          `json:"reason"`
	Payload    json.RawMessage `json:"payload"`
}

// dialSlack returns a connection whose hello has been read.
func dialSlack(t *testing.T, s *simulator.Slack) *websocket.Conn {
	t.Helper()
	socketURL, code := openSlackConnection(t, s, "xapp-1")
	if code != "" {
		t.Fatalf("apps.connections.open: %s", code)
	}
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), socketURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if f := readSlackFrame(t, conn); f.Type != "hello" {
		t.Fatalf("first frame = %+v, want hello", f)
	}
	if _, _, err := websocket.DefaultDialer.DialContext(t.Context(), socketURL, nil); err == nil {
		t.Error("a ticket was accepted twice")
	}
	return conn
}

func readSlackFrame(t *testing.T, conn *websocket.Conn) (f slackFrame) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	if err := conn.ReadJSON(&f); err != nil {
		t.Fatal(err)
	}
	return f
}

func startSlackSocketMode(t *testing.T) *simulator.Slack {
	s, _ := startSlack(t)
	s.Timeout = 100 * time.Millisecond
	s.AddApp(simulator.SlackApp{AppID: "A1", TeamID: "T1", BotUserID: "UBOT", Token: "xoxb-1", AppToken: "xapp-1"})
	return s
}

func TestSlackSocket_Tickets(t *testing.T) {
	s := startSlackSocketMode(t)
	for token, want := range map[string]string{
		"xapp-1": "", "xapp-2": "invalid_auth", "xoxb-1": "not_allowed_token_type", "": "not_authed",
	} {
		if _, code := openSlackConnection(t, s, token); code != want {
			t.Errorf("apps.connections.open with token %q = %q, want %q", token, code, want)
		}
	}
	s.DisconnectSockets("A1", "link_disabled")
	if _, code := openSlackConnection(t, s, "xapp-1"); code != "access_denied" {
		t.Errorf("apps.connections.open after link_disabled = %q, want access_denied", code)
	}
}

// A payload that is not acknowledged is sent again, in a new envelope on the next connection.
func TestSlackSocket_Redelivery(t *testing.T) {
	s := startSlackSocketMode(t)
	conns := []*websocket.Conn{dialSlack(t, s), dialSlack(t, s)}
	done := make(chan simulator.SlackDelivery, 1)
	go func() {
		d, _ := s.SendText(t.Context(), "A1", slackSteve, "hello")
		done <- d
	}()
	if d := <-done; d.Accepted() || len(d.Attempts) != 4 {
		t.Errorf("SendText = %+v, want 4 failed attempts", d)
	}
	var attempts []int
	for _, conn := range conns {
		for range 2 {
			f := readSlackFrame(t, conn)
			attempts = append(attempts, f.Attempt)
			isRetry := f.Attempt > 0
			if f.Type != simulator.SlackEvents || (f.Reason == "timeout") != isRetry {
				t.Errorf("frame = %+v, want an event, with reason timeout if it is a retry", f)
			}
			if !strings.Contains(string(f.Payload), "hello") {
				t.Errorf("payload = %s, want the text", f.Payload)
			}
		}
	}
	slices.Sort(attempts)
	if !slices.Equal(attempts, []int{0, 1, 2, 3}) {
		t.Errorf("attempts = %v, want each once", attempts)
	}
}

func TestSlackSocket_CommandResponse(t *testing.T) {
	s := startSlackSocketMode(t)
	s.Timeout = 10 * time.Second
	conn := dialSlack(t, s)
	go func() {
		f := slackFrame{}
		if conn.ReadJSON(&f) == nil {
			_ = conn.WriteJSON(map[string]any{"envelope_id": "unknown"})
			_ = conn.WriteJSON(map[string]any{
				"envelope_id": f.ID, "payload": map[string]string{"text": "One moment &amp; …"},
			})
		}
	}()
	got, err := s.SendCommand(t.Context(), "A1", slackSteve, "", "/claim", "WDJBMJ")
	want := simulator.SlackResponse{Status: 200, ResponseType: "ephemeral", Text: "One moment & …"}
	if err != nil || got != want {
		t.Errorf("SendCommand = %+v, %v, want %+v, nil", got, err, want)
	}
	if n := len(s.AckedEnvelopes()); n != 1 || s.PendingEnvelopes() != 0 {
		t.Errorf("%d envelopes acknowledged and %d pending, want 1 and 0", n, s.PendingEnvelopes())
	}
}
