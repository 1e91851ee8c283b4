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
	slackReadTimeout    = 12 * time.Second // after which a silent connection is closed
	slackGracePeriod    = 10 * time.Second // between "disconnect" and the end of a connection
	slackMaxSockets     = 10
	slackMaxAck         = 20 << 10 // longer acknowledgements are ignored
	slackWriteTimeout   = 5 * time.Second
)

// slackSockets is the state of Socket Mode. It is guarded by Slack.mu.
type slackSockets struct {
	tickets   map[string]slackTicket
	open      []*slackSocket
	lastIndex int
	changed   chan struct{}          // closed when a connection is opened
	pending   map[string]chan []byte // by envelope ID; receives the payload of the acknowledgement
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
	closing bool // receives no more envelopes; guarded by Slack.mu
	closed  chan struct{}

	mu      sync.Mutex
	stalled bool // neither sends nor processes frames
}

// connectionsOpen handles apps.connections.open: with an app-level token, it returns a URL with a
// ticket for one connection. The caller must hold s.mu.
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
			query := url.Values{"ticket": {ticket}, "app_id": {app.AppID}}
			u := "ws" + strings.TrimPrefix(s.baseURL, "http") + "/link/?" + query.Encode()
			return slackFields{"ok": true, "url": u}
		}
	}
	return slackError("invalid_auth")
}

// serveSocket redeems a ticket for a connection, sends hello, and processes acknowledgements until the
// connection closes.
func (s *Slack) serveSocket(w http.ResponseWriter, r *http.Request) {
	if fault, faulty := s.pop("", "link"); faulty {
		fault.respond(w, r)
		return
	}
	app, ok := s.redeemTicket(r.URL.Query().Get("ticket"))
	if !ok {
		http.Error(w, "invalid ticket", http.StatusUnauthorized)
		return
	}
	conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has sent the response
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
		_, frame, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if !k.isStalled() {
			s.handleAck(frame)
		}
	}
}

// redeemTicket returns the app of a ticket and invalidates the ticket.
func (s *Slack) redeemTicket(ticket string) (app string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.sockets.tickets[ticket]
	delete(s.sockets.tickets, ticket)
	return t.app, ok && s.Now().Before(t.expires) && !s.apps[t.app].SocketModeOff
}

// sendHello registers a connection for envelopes, which follow the hello. If the app has too many
// connections, it sends "disconnect" and returns false.
func (s *Slack) sendHello(k *slackSocket) bool {
	k.mu.Lock() // an envelope waits until hello has been sent
	defer k.mu.Unlock()
	n := s.registerSocket(k)
	if n > slackMaxSockets {
		_ = k.write(disconnectFrame("too_many_websockets"))
		return false
	}
	_ = k.write(slackFields{
		"type": "hello", "num_connections": n, "connection_info": slackFields{"app_id": k.app},
		"debug_info": slackFields{"host": "simulator", "approximate_connection_time": 18060},
	})
	return true
}

func disconnectFrame(reason string) slackFields {
	return slackFields{"type": "disconnect", "reason": reason, "debug_info": slackFields{"host": "simulator"}}
}

// registerSocket adds a connection to the open ones unless its app has slackMaxSockets. It returns
// the number of connections of the app, including this one.
func (s *Slack) registerSocket(k *slackSocket) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 1 + s.apps[k.app].OtherSockets
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

// handleAck processes the acknowledgement of an envelope.
func (s *Slack) handleAck(frame []byte) {
	var ack struct {
		EnvelopeID string          `json:"envelope_id"`
		Payload    json.RawMessage `json:"payload"`
	}
	if len(frame) > slackMaxAck || json.Unmarshal(frame, &ack) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	responses, ok := s.sockets.pending[ack.EnvelopeID]
	if s.sockets.dropAcks || !ok {
		return
	}
	delete(s.sockets.pending, ack.EnvelopeID)
	s.sockets.acked = append(s.sockets.acked, ack.EnvelopeID)
	responses <- ack.Payload
}

// SocketCount returns the number of connections of an app that receive envelopes.
func (s *Slack) SocketCount(appID string) int { return len(s.appSockets(appID)) }

func (s *Slack) appSockets(appID string) []*slackSocket {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sockets []*slackSocket
	for _, k := range s.sockets.open {
		if k.app == appID && !k.closing {
			sockets = append(sockets, k)
		}
	}
	return sockets
}

// AckedEnvelopes returns the IDs of all envelopes that were acknowledged in time, in order of
// acknowledgement.
func (s *Slack) AckedEnvelopes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sockets.acked)
}

// PendingEnvelopes returns the number of envelopes that were sent and not acknowledged yet.
func (s *Slack) PendingEnvelopes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sockets.pending)
}

// ExpectAck makes AckedEnvelopes include an envelope that is sent with SendFrame.
func (s *Slack) ExpectAck(envelopeID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets.pending[envelopeID] = make(chan []byte, 1)
}

// DropAcks sets whether acknowledgements are ignored.
func (s *Slack) DropAcks(drop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets.dropAcks = drop
}

// CutSockets closes every connection of an app without a close frame.
func (s *Slack) CutSockets(appID string) {
	for _, k := range s.appSockets(appID) {
		_ = k.conn.NetConn().Close()
	}
}

// StallSockets makes the connections of an app unresponsive without closing them. Envelopes sent on
// them are lost.
func (s *Slack) StallSockets(appID string) {
	for _, k := range s.appSockets(appID) {
		k.stall()
	}
}

// DisconnectSockets sends "disconnect" with a reason ("warning", "refresh_requested" or
// "link_disabled") on the connections of an app, and closes them after a grace period. They receive
// no more envelopes. "link_disabled" also disables Socket Mode.
func (s *Slack) DisconnectSockets(appID, reason string) {
	sockets := s.appSockets(appID)
	s.mu.Lock()
	if app, ok := s.apps[appID]; ok && reason == "link_disabled" {
		app.SocketModeOff = true
		s.apps[appID] = app
	}
	for _, k := range sockets {
		k.closing = true
	}
	s.mu.Unlock()
	for _, k := range sockets {
		_ = k.send(disconnectFrame(reason))
		time.AfterFunc(time.Duration(float64(slackGracePeriod)*s.RetryScale), func() { _ = k.conn.Close() })
	}
}

// SendFrame sends a text frame with any content on each connection of an app, including those that are
// about to close.
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

// send encodes and writes a frame.
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

// write encodes and writes a frame. The caller must hold k.mu.
func (k *slackSocket) write(f slackFields) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return k.writeRaw(raw)
}

// writeRaw writes a text frame. The caller must hold k.mu.
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

// extendDeadline moves the time by which the app must send a ping or pong.
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

// sendPings pings the app until the connection closes.
func (k *slackSocket) sendPings() {
	tick := time.NewTicker(slackPingInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = k.writeControl(websocket.PingMessage, "Ping from simulated Slack")
		case <-k.closed:
			return
		}
	}
}
