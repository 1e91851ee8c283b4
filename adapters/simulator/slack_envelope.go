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

// DeliverEnvelope delivers a payload as it is given over Socket Mode, with every retry it
// takes. answer is what came with the acknowledgement.
func (s *Slack) DeliverEnvelope(ctx context.Context, appID, kind string, payload json.RawMessage) (d SlackDelivery, answer json.RawMessage, err error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackDelivery{}, nil, err
	}
	d, answer = s.deliverPayload(ctx, app, kind, payload)
	return d, answer, nil
}

// deliverPayload delivers a payload until a connection acknowledges it, Slack gives up or ctx
// ends. Each attempt is an envelope of its own, to the next connection in turn.
func (s *Slack) deliverPayload(ctx context.Context, app SlackApp, kind string, payload json.RawMessage) (d SlackDelivery, answer []byte) {
	reason := ""
	for n, wait := range slackRetryDelays() {
		if !sleepContext(ctx, time.Duration(float64(wait)*s.RetryScale)) {
			return d, nil
		}
		answer, err := s.sendEnvelope(ctx, app, slackFields{
			"type": kind, "payload": payload, "accepts_response_payload": kind != SlackEvents, "retry_attempt": n, "retry_reason": reason,
		})
		a := SlackAttempt{Status: 200, Err: err}
		if err != nil {
			a.Status, reason = 0, "timeout"
		}
		d.Attempts = append(d.Attempts, a)
		if a.accepted() {
			return d, answer
		}
	}
	return d, nil
}

// sendEnvelope sends one envelope and waits for its acknowledgement for as long as Slack
// does, whatever becomes of the connection.
func (s *Slack) sendEnvelope(ctx context.Context, app SlackApp, fields slackFields) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	k, err := s.nextSocket(ctx, app.AppID)
	if err != nil {
		return nil, err
	}
	id, acked := s.newEnvelope()
	defer s.dropEnvelope(id)
	fields["envelope_id"] = id
	fault, faulty := s.pop("socket")
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
		s.sockets.lastIndex++
		turn := s.sockets.lastIndex
		s.mu.Unlock()
		if of := s.appSockets(appID); len(of) > 0 {
			return of[turn%len(of)], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errSlackNoSocket
		}
	}
}

// newEnvelope names a new envelope, whose acknowledgement is waited for.
func (s *Slack) newEnvelope() (id string, acked <-chan []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := make(chan []byte, 1)
	id = s.nextID("envelope-")
	s.sockets.pending[id] = answer
	return id, answer
}

func (s *Slack) dropEnvelope(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets.pending, id)
}
