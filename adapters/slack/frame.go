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

// maxFrame is the longest frame that is read: the largest body of a hook with an
// envelope around it.
const maxFrame = maxBody + 4<<10

// A frame is one message of Socket Mode: an envelope around what a hook would get as
// its body, or a word about the connection. The payload stays raw, so that whatever is
// in it never makes the envelope unreadable.
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

// decodeFrame reads a frame. Of one that is broken it still finds the id of the envelope
// where that comes before the damage. raw is at most one byte longer than maxFrame.
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

// findEnvelopeID reads as far as it can for the id of the envelope.
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

// parsePayload reads an envelope with the readers of the hooks: what is delivered both
// ways has the same keys, and is refused for the same reasons.
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
		return parseInteraction(f.Payload, f.Payload, ep)
	}
	m := undecodableMessage(f.raw)
	m.Key = digestKey(f.Payload) // the envelope is another each time
	return inboundMessage(m), nil
}

// formFromJSON gives the fields of a JSON object as the form that a hook would get. whole is
// false when they are not all plain values. A field that comes twice is there twice.
func formFromJSON(payload []byte) (form url.Values, whole bool) {
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

// acknowledgement says that an envelope is stored, in the words that answer would have
// for a hook. It is nil where the envelope has no name to be acknowledged by.
func (f frame) acknowledgement(answer func(http.ResponseWriter, error)) []byte {
	if !isKeyPart(f.EnvelopeID) {
		return nil
	}
	said := bufferedResponse{header: http.Header{}}
	answer(&said, nil)
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

// bufferedResponse keeps what a hook would have answered.
type bufferedResponse struct {
	header http.Header
	body   bytes.Buffer
}

func (s *bufferedResponse) Header() http.Header { return s.header }

func (s *bufferedResponse) WriteHeader(int) {}

func (s *bufferedResponse) Write(p []byte) (int, error) { return s.body.Write(p) }
