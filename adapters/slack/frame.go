package slack

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"runtime/debug"

	"hydragate/adapters"
)

// maxFrame is the maximum length of a frame: the largest body of a webhook with its envelope.
const maxFrame = maxBody + 4<<10

// A frame is one message of Socket Mode: an envelope with the body that a webhook would have, or a
// message about the connection. The payload stays raw, so that its content never makes the
// envelope undecodable.
type frame struct {
	Type            string          `json:"type"`
	EnvelopeID      string          `json:"envelope_id"`
	Payload         json.RawMessage `json:"payload"`
	AcceptsResponse bool            `json:"accepts_response_payload"`
	Reason          string          `json:"reason"` // of a disconnect
	Connection      struct {
		AppID string `json:"app_id"`
	} `json:"connection_info"` // of a hello

	raw       []byte
	malformed bool // not to be read as a whole
}

// decodeFrame decodes a frame. If it is malformed, decodeFrame still finds an envelope ID that
// precedes the error. raw is at most one byte longer than maxFrame.
func decodeFrame(raw []byte) frame {
	var f frame
	err := json.Unmarshal(raw, &f)
	f.raw, f.malformed = raw, err != nil || len(raw) > maxFrame
	var shape *json.UnmarshalTypeError
	if err != nil && !errors.As(err, &shape) {
		f.EnvelopeID = findEnvelopeID(raw)
	}
	return f
}

// findEnvelopeID returns the envelope ID, if it precedes the first syntax error.
func findEnvelopeID(raw []byte) string {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return ""
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return ""
		}
		var id string
		if key == "envelope_id" && json.Unmarshal(value, &id) == nil {
			return id
		}
	}
	return ""
}

// parsePayload parses an envelope with the parsers of the webhooks, so that messages have the same
// keys and are rejected for the same reasons.
func (a *Adapter) parsePayload(f frame, ep adapters.Endpoint) (in adapters.Inbound, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			a.log().Error("panic in an envelope", "endpoint", ep.ID, "error", reason, "stack", string(debug.Stack()))
			err = adapters.ErrMalformed
		}
	}()
	if f.malformed || len(f.Payload) == 0 { // nothing to be read
		return inboundMessage(undecodableMessage(f.raw[:min(len(f.raw), maxBody)])), nil
	}
	switch f.Type {
	case "events_api":
		return parseEvent(f.Payload, ep)
	case "slash_commands":
		form, whole := formFromJSON(f.Payload)
		return a.parseCommand(form, whole, f.Payload, ep)
	case "interactive":
		return a.parseInteraction(f.Payload, f.Payload, ep)
	}
	m := undecodableMessage(f.raw)
	m.Key = digestKey(f.Payload) // the envelope is another each time
	return inboundMessage(m), nil
}

// formFromJSON returns the fields of a JSON object as a form. complete is false if not all values
// are scalar. A repeated field is repeated in the form.
func formFromJSON(payload []byte) (form url.Values, complete bool) {
	form = url.Values{}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return form, false
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return form, false
		}
		value, err := d.Token()
		if err != nil {
			return form, false
		}
		name, _ := key.(string) // of an object, keys are nothing else
		switch v := value.(type) {
		case string:
			form.Add(name, v)
		case json.Number:
			form.Add(name, v.String())
		case bool:
			form.Add(name, map[bool]string{true: "true", false: "false"}[v])
		case nil:
		default:
			return form, false
		}
	}
	_, err := d.Token()
	return form, err == nil
}

// acknowledgement returns the message that acknowledges an envelope, with the response that ack
// writes. It returns nil if the envelope has no ID.
func (f frame) acknowledgement(ack func(http.ResponseWriter, error)) []byte {
	if !isKeyPart(f.EnvelopeID) {
		return nil
	}
	said := bufferedResponse{header: http.Header{}}
	ack(&said, nil)
	words := struct {
		EnvelopeID string          `json:"envelope_id"`
		Payload    json.RawMessage `json:"payload,omitempty"`
	}{EnvelopeID: f.EnvelopeID}
	if f.AcceptsResponse && json.Valid(said.body.Bytes()) {
		words.Payload = said.body.Bytes()
	}
	raw, err := json.Marshal(words)
	if err != nil {
		return nil
	}
	return raw
}

// A bufferedResponse records the response of a webhook.
type bufferedResponse struct {
	header http.Header
	body   bytes.Buffer
}

func (s *bufferedResponse) Header() http.Header { return s.header }

func (s *bufferedResponse) WriteHeader(int) {}

func (s *bufferedResponse) Write(p []byte) (int, error) { return s.body.Write(p) }
