package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"hydragate/adapters"
)

// Types of Socket Mode envelopes.
const (
	SlackEvents      = "events_api"
	SlackCommands    = "slash_commands"
	SlackInteractive = "interactive"
)

var errSlackNoSocket = errors.New("the app has no connection")

// DeliverEnvelope delivers a payload unchanged over Socket Mode, with retries. response is the payload
// of the acknowledgement.
func (s *Slack) DeliverEnvelope(
	ctx context.Context, appID, kind string, payload json.RawMessage,
) (d SlackDelivery, response json.RawMessage, err error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackDelivery{}, nil, err
	}
	d, response = s.deliverPayload(ctx, app, kind, payload)
	return d, response, nil
}

// deliverPayload delivers a payload until the app acknowledges it, all attempts have failed or ctx
// ends. Each attempt is a new envelope on the next connection in round-robin order.
func (s *Slack) deliverPayload(
	ctx context.Context, app SlackApp, kind string, payload json.RawMessage,
) (d SlackDelivery, response []byte) {
	reason := ""
	for n, wait := range slackRetryDelays() {
		if adapters.Sleep(ctx, time.Duration(float64(wait)*s.RetryScale)) != nil {
			return d, nil
		}
		response, err := s.sendEnvelope(ctx, app, slackFields{
			"type": kind, "payload": payload, "accepts_response_payload": kind != SlackEvents,
			"retry_attempt": n, "retry_reason": reason,
		})
		a := SlackAttempt{Status: 200, Err: err}
		if err != nil {
			a.Status, reason = 0, "timeout"
		}
		d.Attempts = append(d.Attempts, a)
		if a.accepted() {
			return d, response
		}
	}
	return d, nil
}

// sendEnvelope sends an envelope and waits for its acknowledgement until s.Timeout, even if the
// connection closes.
func (s *Slack) sendEnvelope(ctx context.Context, app SlackApp, fields slackFields) (response []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	k, err := s.nextSocket(ctx, app.AppID)
	if err != nil {
		return nil, err
	}
	id, acked := s.newEnvelope()
	defer s.dropEnvelope(id)
	fields["envelope_id"] = id
	fault, faulty := s.pop("", "socket")
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
	case response := <-acked:
		return response, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("no acknowledgement: %w", ctx.Err())
	}
}

// nextSocket returns the next connection of an app in round-robin order. It waits until there is one.
func (s *Slack) nextSocket(ctx context.Context, appID string) (*slackSocket, error) {
	for {
		s.mu.Lock()
		changed := s.sockets.changed
		s.sockets.lastIndex++
		index := s.sockets.lastIndex
		s.mu.Unlock()
		if sockets := s.appSockets(appID); len(sockets) > 0 {
			return sockets[index%len(sockets)], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errSlackNoSocket
		}
	}
}

// newEnvelope returns a new envelope ID and the channel that receives the payload of its
// acknowledgement.
func (s *Slack) newEnvelope() (id string, acked <-chan []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	responses := make(chan []byte, 1)
	id = s.nextID("envelope-")
	s.sockets.pending[id] = responses
	return id, responses
}

func (s *Slack) dropEnvelope(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets.pending, id)
}
