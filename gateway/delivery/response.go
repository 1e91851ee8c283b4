package delivery

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"hydragate/adapters"
	"hydragate/gateway"
)

const (
	maxProblems   = 5  // that are reported about one response
	maxFieldShown = 40 // bytes of the name of an unknown field
)

// decompress returns the content of a body that is compressed with gzip, although the request asks for no
// compression, and other bodies as they are.
func decompress(body []byte) ([]byte, error) {
	if !bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		return body, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body, err = io.ReadAll(io.LimitReader(z, maxResponse+1)); len(body) > maxResponse {
		return nil, errors.New("longer than the limit")
	}
	return body, err
}

// parseResponse returns the replies in the body of a response, and descriptions of what it does not
// understand. Descriptions contain no values.
func parseResponse(body []byte) (replies []eventReply, problems []string) {
	body, err := decompress(body)
	if err != nil {
		return nil, []string{"cannot decompress the response: " + err.Error()}
	}
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))) // a byte order mark
	if len(body) == 0 {
		return nil, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, []string{"response is not a JSON object: " + err.Error()}
	}
	list, ok := fields["replies"]
	switch {
	case !ok && len(fields) > 0:
		return nil, []string{"no field replies, but " + shownFields(slices.Sorted(maps.Keys(fields)))}
	case !ok:
		return nil, nil
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(list, &entries); err != nil {
		return nil, []string{"replies is not a list"}
	}
	for i, entry := range entries {
		var r struct{ Text *string }
		switch err := json.Unmarshal(entry, &r); {
		case i >= maxReplies:
			return replies, append(problems, fmt.Sprintf("more than %d replies, the rest is dropped", maxReplies))
		case err != nil:
			problems = append(problems, fmt.Sprintf("replies[%d] is not an object with a text", i))
		case r.Text == nil:
			problems = append(problems, fmt.Sprintf("replies[%d] has no text", i))
		default:
			replies = append(replies, eventReply{*r.Text})
		}
	}
	return replies, problems
}

// shownFields returns names of fields for a log line.
func shownFields(names []string) string {
	shown := make([]string, 0, maxProblems)
	for _, name := range names[:min(len(names), maxProblems)] {
		shown = append(shown, fmt.Sprintf("%q", adapters.Sanitize(name, maxFieldShown)))
	}
	return strings.Join(shown, ", ")
}

// parseReplies returns the outbox rows of the replies in the response of an application. What it does not
// understand is skipped and described in problems; it does not cause the event to be delivered again.
func (p *Deliverer) parseReplies(e gateway.Event, body []byte) (rows []gateway.OutboxRow, problems string) {
	if e.MessageID == "" {
		return nil, ""
	}
	replies, all := parseResponse(body)
	for _, r := range replies {
		rows = append(rows, gateway.SplitReply(p.Adapters[e.Channel], gateway.OutboxRow{
			TenantID: e.TenantID, ConversationID: e.ConversationID, InstanceID: e.InstanceID, Channel: e.Channel,
			Recipient: e.Message.Sender.ID, Chat: e.Message.Chat, Cause: "agent", MessageID: e.MessageID,
			ReplyTo: e.Message.ReplyAnchor(),
		}, adapters.Sanitize(r.Text, maxResponse))...)
	}
	if n := len(all); n > maxProblems {
		all = append(all[:maxProblems], fmt.Sprintf("and %d more", n-maxProblems))
	}
	return rows, adapters.Sanitize(strings.Join(all, "; "), maxErrorText)
}
