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

// openSlackConnection asks for a ticket with a token and gives the answer.
func openSlackConnection(t *testing.T, s *simulator.Slack, token string) (address, refusal string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.APIURL()+"apps.connections.open", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ URL, Error string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer.URL, answer.Error
}

type slackFrame struct {
	Type       string          `json:"type"`
	ID         string          `json:"envelope_id"`
	Attempt    int             `json:"retry_attempt"`
	Reason     string          `json:"retry_reason"`
	Disconnect string          `json:"reason"`
	Payload    json.RawMessage `json:"payload"`
}

// dialSlack connects, and gives the connection after its hello.
func dialSlack(t *testing.T, s *simulator.Slack) *websocket.Conn {
	t.Helper()
	address, refusal := openSlackConnection(t, s, "xapp-1")
	if refusal != "" {
		t.Fatal(refusal)
	}
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), address, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if f := readSlackFrame(t, conn); f.Type != "hello" {
		t.Fatalf("the first frame is %+v", f)
	}
	if _, _, err := websocket.DefaultDialer.DialContext(t.Context(), address, nil); err == nil {
		t.Error("a ticket is good twice")
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
	for token, want := range map[string]string{"xapp-1": "", "xapp-2": "invalid_auth", "xoxb-1": "not_allowed_token_type", "": "not_authed"} {
		if _, refusal := openSlackConnection(t, s, token); refusal != want {
			t.Errorf("%q: %q; want %q", token, refusal, want)
		}
	}
	s.DisconnectSockets("A1", "link_disabled")
	if _, refusal := openSlackConnection(t, s, "xapp-1"); refusal != "access_denied" {
		t.Errorf("switched off: %q", refusal)
	}
}

// An envelope without an acknowledgement comes again, in another envelope, to the
// connection whose turn it is.
func TestSlackSocket_Redelivery(t *testing.T) {
	s := startSlackSocketMode(t)
	conns := []*websocket.Conn{dialSlack(t, s), dialSlack(t, s)}
	done := make(chan simulator.SlackDelivery, 1)
	go func() {
		d, _ := s.SendText(t.Context(), "A1", slackSteve, "hello")
		done <- d
	}()
	got := <-done // nobody acknowledges
	if got.Accepted() || len(got.Attempts) != 4 {
		t.Errorf("%+v; want four attempts", got)
	}
	var attempts []int
	for _, conn := range conns {
		for range 2 {
			f := readSlackFrame(t, conn)
			attempts = append(attempts, f.Attempt)
			if f.Type != simulator.SlackEvents || (f.Reason == "timeout") != (f.Attempt > 0) || !strings.Contains(string(f.Payload), "hello") {
				t.Errorf("%+v", f)
			}
		}
	}
	slices.Sort(attempts)
	if !slices.Equal(attempts, []int{0, 1, 2, 3}) {
		t.Errorf("the connections were sent attempts %v; want each once", attempts)
	}
}

func TestSlackSocket_CommandResponse(t *testing.T) {
	s := startSlackSocketMode(t)
	s.Timeout = 10 * time.Second
	conn := dialSlack(t, s)
	go func() {
		f := slackFrame{}
		if conn.ReadJSON(&f) == nil {
			_ = conn.WriteJSON(map[string]any{"envelope_id": "of nobody"})
			_ = conn.WriteJSON(map[string]any{"envelope_id": f.ID, "payload": map[string]string{"text": "One moment &amp; …"}})
		}
	}()
	if got, err := s.SendCommand(t.Context(), "A1", slackSteve, "", "/claim", "WDJBMJ"); err != nil || got != (simulator.SlackResponse{Status: 200, ResponseType: "ephemeral", Text: "One moment & …"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if n := len(s.AckedEnvelopes()); n != 1 || s.PendingEnvelopes() != 0 {
		t.Errorf("%d acknowledged, %d waiting", n, s.PendingEnvelopes())
	}
}
