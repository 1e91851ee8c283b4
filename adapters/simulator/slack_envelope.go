package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Kinds of envelope in Socket Mode.
const (
	SlackEvents      = "events_api"
	SlackCommands    = "slash_commands"
	SlackInteractive = "interactive"
)

var errSlackNoSocket = errors.New("the app has no connection")

// Envelope delivers a payload as it is given over Socket Mode, with every retry it
// takes. answer is what came with the acknowledgement.
func (s *Slack) Envelope(ctx context.Context, appID, kind string, payload json.RawMessage) (d SlackDelivery, answer json.RawMessage, err error) {
	app, err := s.app(appID)
	if err != nil {
		return SlackDelivery{}, nil, err
	}
	d, answer = s.wrap(ctx, app, kind, payload)
	return d, answer, nil
}

// wrap delivers a payload until a connection acknowledges it, Slack gives up or ctx
// ends. Each attempt is an envelope of its own, to the next connection in turn.
func (s *Slack) wrap(ctx context.Context, app App, kind string, payload json.RawMessage) (d SlackDelivery, answer []byte) {
	reason := ""
	for n, wait := range slackWaits() {
		if !slackWait(ctx, time.Duration(float64(wait)*s.Scale)) {
			return d, nil
		}
		answer, err := s.envelope(ctx, app, slackFields{
			"type": kind, "payload": payload, "accepts_response_payload": kind != SlackEvents, "retry_attempt": n, "retry_reason": reason,
		})
		a := SlackAttempt{Status: 200, Err: err}
		if err != nil {
			a.Status, reason = 0, "timeout"
		}
		d.Attempts = append(d.Attempts, a)
		if a.taken() {
			return d, answer
		}
	}
	return d, nil
}

// envelope sends one envelope and waits for its acknowledgement for as long as Slack
// does, whatever becomes of the connection.
func (s *Slack) envelope(ctx context.Context, app App, fields slackFields) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	k, err := s.nextSocket(ctx, app.AppID)
	if err != nil {
		return nil, err
	}
	id, acked := s.address()
	defer s.giveUp(id)
	fields["envelope_id"] = id
	fault, faulty := s.take("socket")
	switch {
	case faulty && fault.Hang:
		k.stall()
	case faulty && fault.Body != "":
		_ = k.sendRaw([]byte(fault.Body))
	default:
		_ = k.send(fields)
	}
	if faulty && fault.Cut {
		_ = k.conn.NetConn().Close()
	}
	select {
	case answer := <-acked:
		return answer, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("no acknowledgement: %w", ctx.Err())
	}
}

// nextSocket gives the connection whose turn it is; when there is none, it waits.
func (s *Slack) nextSocket(ctx context.Context, appID string) (*slackSocket, error) {
	for {
		s.mu.Lock()
		changed := s.sockets.changed
		s.sockets.turn++
		turn := s.sockets.turn
		s.mu.Unlock()
		if of := s.socketsOf(appID); len(of) > 0 {
			return of[turn%len(of)], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errSlackNoSocket
		}
	}
}

// address names a new envelope, whose acknowledgement is waited for.
func (s *Slack) address() (id string, acked <-chan []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := make(chan []byte, 1)
	id = s.id("envelope-")
	s.sockets.waiting[id] = answer
	return id, answer
}

func (s *Slack) giveUp(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets.waiting, id)
}
