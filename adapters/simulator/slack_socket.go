package simulator

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	slackTicketLifetime = 30 * time.Second
	slackPingInterval   = 5 * time.Second
	slackReadTimeout    = 12 * time.Second // of an app, after which its connection is closed
	slackGracePeriod    = 10 * time.Second // between the word that a connection ends, and its end
	slackMaxSockets     = 10
	slackMaxAck         = 20 << 10 // a longer answer is dropped without a word
	slackWriteTimeout   = 5 * time.Second
)

// slackSockets is what the pretend Slack knows of Socket Mode. Slack.mu guards it.
type slackSockets struct {
	tickets   map[string]slackTicket
	open      []*slackSocket
	lastIndex int
	changed   chan struct{}          // closed when a connection is opened
	pending   map[string]chan []byte // by envelope: for its answer
	acked     []string
	dropAcks  bool
}

type slackTicket struct {
	app     string
	expires time.Time
}

// A slackSocket is one connection of an app.
type slackSocket struct {
	app     string
	conn    *websocket.Conn
	closing bool // gets no more envelopes; Slack.mu guards it
	closed  chan struct{}

	mu      sync.Mutex
	stalled bool // says nothing any more, and hears nothing
}

// connectionsOpen answers apps.connections.open: an app-level token gets a ticket that
// is good for one connection. The caller holds s.mu.
func (s *Slack) connectionsOpen(r *http.Request) slackFields {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || bearer == "" {
		return slackError("not_authed")
	}
	for _, app := range s.apps {
		switch bearer {
		case app.Token:
			return slackError("not_allowed_token_type")
		case app.AppToken:
			if app.SocketModeOff {
				return slackError("access_denied")
			}
			ticket := s.nextID("ticket-")
			s.sockets.tickets[ticket] = slackTicket{app: app.AppID, expires: s.Now().Add(slackTicketLifetime)}
			address := "ws" + strings.TrimPrefix(s.baseURL, "http") + "/link/?" + url.Values{"ticket": {ticket}, "app_id": {app.AppID}}.Encode()
			return slackFields{"ok": true, "url": address}
		}
	}
	return slackError("invalid_auth")
}

// serveSocket turns a ticket into a connection, says hello, and hears acknowledgements
// until it ends.
func (s *Slack) serveSocket(w http.ResponseWriter, r *http.Request) {
	if fault, faulty := s.pop("link"); faulty {
		fault.respond(w, r)
		return
	}
	app, ok := s.redeemTicket(r.URL.Query().Get("ticket"))
	if !ok {
		http.Error(w, "no such ticket", http.StatusUnauthorized)
		return
	}
	conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	k := &slackSocket{app: app, conn: conn, closed: make(chan struct{})}
	defer s.removeSocket(k)
	conn.SetReadLimit(slackMaxBody)
	conn.SetPingHandler(func(data string) error {
		k.extendDeadline()
		return k.writeControl(websocket.PongMessage, data)
	})
	conn.SetPongHandler(func(string) error {
		k.extendDeadline()
		return nil
	})
	k.extendDeadline()
	if !s.sendHello(k) {
		return
	}
	go k.sendPings()
	for {
		_, words, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if !k.isStalled() {
			s.handleAck(words)
		}
	}
}

// redeemTicket takes a ticket, which is good once.
func (s *Slack) redeemTicket(ticket string) (app string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.sockets.tickets[ticket]
	delete(s.sockets.tickets, ticket)
	return t.app, ok && s.Now().Before(t.expires)
}

// sendHello says hello and lets a connection have envelopes, which come after the hello. One
// connection too many is told so and gets none.
func (s *Slack) sendHello(k *slackSocket) bool {
	k.mu.Lock() // whoever finds the connection among the open ones waits for the hello
	defer k.mu.Unlock()
	n := s.registerSocket(k)
	if n > slackMaxSockets {
		_ = k.write(slackFields{"type": "disconnect", "reason": "too_many_websockets", "debug_info": slackFields{"host": "pretend"}})
		return false
	}
	_ = k.write(slackFields{
		"type": "hello", "num_connections": n, "connection_info": slackFields{"app_id": k.app},
		"debug_info": slackFields{"host": "pretend", "approximate_connection_time": 18060},
	})
	return true
}

// registerSocket lets a connection have envelopes and gives how many the app has now. One too many
// gets none.
func (s *Slack) registerSocket(k *slackSocket) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 1
	for _, o := range s.sockets.open {
		if o.app == k.app {
			n++
		}
	}
	if n <= slackMaxSockets {
		s.sockets.open = append(s.sockets.open, k)
		close(s.sockets.changed)
		s.sockets.changed = make(chan struct{})
	}
	return n
}

func (s *Slack) removeSocket(k *slackSocket) {
	_ = k.conn.Close()
	close(k.closed)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets.open = slices.DeleteFunc(s.sockets.open, func(o *slackSocket) bool { return o == k })
}

// handleAck hears an app's answer to an envelope.
func (s *Slack) handleAck(words []byte) {
	var said struct {
		EnvelopeID string          `json:"envelope_id"`
		Payload    json.RawMessage `json:"payload"`
	}
	if len(words) > slackMaxAck || json.Unmarshal(words, &said) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, waits := s.sockets.pending[said.EnvelopeID]
	if s.sockets.dropAcks || !waits {
		return
	}
	delete(s.sockets.pending, said.EnvelopeID)
	s.sockets.acked = append(s.sockets.acked, said.EnvelopeID)
	answer <- said.Payload
}

// SocketCount gives how many connections of an app get envelopes.
func (s *Slack) SocketCount(appID string) int { return len(s.appSockets(appID)) }

func (s *Slack) appSockets(appID string) []*slackSocket {
	s.mu.Lock()
	defer s.mu.Unlock()
	var of []*slackSocket
	for _, k := range s.sockets.open {
		if k.app == appID && !k.closing {
			of = append(of, k)
		}
	}
	return of
}

// AckedEnvelopes gives the ids of all envelopes acknowledged in time, in that order.
func (s *Slack) AckedEnvelopes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sockets.acked)
}

// PendingEnvelopes gives how many envelopes are in connections and not acknowledged yet.
func (s *Slack) PendingEnvelopes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sockets.pending)
}

// ExpectAck makes Acked count the acknowledgement of an envelope that is put into a
// connection with Frame.
func (s *Slack) ExpectAck(envelopeID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets.pending[envelopeID] = make(chan []byte, 1)
}

// DropAcks makes acknowledgements get lost from now on, or arrive again.
func (s *Slack) DropAcks(lose bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets.dropAcks = lose
}

// CutSockets cuts every connection of an app without a word.
func (s *Slack) CutSockets(appID string) {
	for _, k := range s.appSockets(appID) {
		_ = k.conn.NetConn().Close()
	}
}

// StallSockets makes the connections of an app say nothing more, and hear nothing, without
// being closed. Envelopes still go into them.
func (s *Slack) StallSockets(appID string) {
	for _, k := range s.appSockets(appID) {
		k.stall()
	}
}

// DisconnectSockets tells the connections of an app that they end ("warning",
// "refresh_requested" or "link_disabled"), and ends them a while later. They get no more
// envelopes. With "link_disabled" Socket Mode is off from now on.
func (s *Slack) DisconnectSockets(appID, reason string) {
	of := s.appSockets(appID)
	s.mu.Lock()
	if app, ok := s.apps[appID]; ok && reason == "link_disabled" {
		app.SocketModeOff = true
		s.apps[appID] = app
	}
	for _, k := range of {
		k.closing = true
	}
	s.mu.Unlock()
	for _, k := range of {
		_ = k.send(slackFields{"type": "disconnect", "reason": reason, "debug_info": slackFields{"host": "pretend"}})
		time.AfterFunc(time.Duration(float64(slackGracePeriod)*s.RetryScale), func() { _ = k.conn.Close() })
	}
}

// SendFrame puts a frame of any bytes into each connection of an app, also one that is about
// to end.
func (s *Slack) SendFrame(appID string, raw []byte) {
	s.mu.Lock()
	open := slices.Clone(s.sockets.open)
	s.mu.Unlock()
	for _, k := range open {
		if k.app == appID {
			_ = k.sendRaw(raw)
		}
	}
}

var errSlackStalled = errors.New("the connection is stalled")

// send writes a frame, in its turn.
func (k *slackSocket) send(f slackFields) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.write(f)
}

func (k *slackSocket) sendRaw(raw []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.writeRaw(raw)
}

// write is called with k.mu held, as is writeRaw.
func (k *slackSocket) write(f slackFields) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return k.writeRaw(raw)
}

func (k *slackSocket) writeRaw(raw []byte) error {
	if k.stalled {
		return errSlackStalled
	}
	_ = k.conn.SetWriteDeadline(time.Now().Add(slackWriteTimeout))
	return k.conn.WriteMessage(websocket.TextMessage, raw)
}

func (k *slackSocket) writeControl(kind int, data string) error {
	if k.isStalled() {
		return nil
	}
	_ = k.conn.WriteControl(kind, []byte(data), time.Now().Add(slackWriteTimeout))
	return nil
}

// extendDeadline gives the app a while until it must be heard again.
func (k *slackSocket) extendDeadline() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.stalled {
		_ = k.conn.SetReadDeadline(time.Now().Add(slackReadTimeout))
	}
}

func (k *slackSocket) stall() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stalled = true
	_ = k.conn.SetReadDeadline(time.Time{})
}

func (k *slackSocket) isStalled() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stalled
}

// sendPings pings the app until the connection ends.
func (k *slackSocket) sendPings() {
	tick := time.NewTicker(slackPingInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = k.writeControl(websocket.PingMessage, "Ping from pretend Slack")
		case <-k.closed:
			return
		}
	}
}
