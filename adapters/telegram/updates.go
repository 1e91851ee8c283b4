package telegram

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// splitUpdates finds the updates in a response of getUpdates that is not valid JSON as a whole,
// for example because one update is nested too deeply, so that it does not hold back the others.
// whole reports whether the end of the list was found.
func splitUpdates(response []byte) (raws []json.RawMessage, whole bool) {
	_, rest, found := bytes.Cut(response, []byte(`"result":[`))
	if !found {
		return nil, false
	}
	depth, start, quoted := 0, 0, false
	element := func(end int) {
		if raw := bytes.TrimSpace(rest[start:end]); len(raw) > 0 {
			raws = append(raws, json.RawMessage(raw))
		}
		start = end + 1
	}
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' && depth == 0:
			element(i)
			return raws, true
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth == 0:
			element(i)
		}
	}
	return nil, false
}

// updateID returns the ID of an update that may be undecodable otherwise; 0 if it has none.
func updateID(raw []byte) int64 {
	var head struct {
		ID int64 `json:"update_id"`
	}
	if json.Unmarshal(raw, &head) == nil {
		return head.ID
	}
	_, rest, _ := bytes.Cut(raw, []byte(`"update_id":`))
	rest = bytes.TrimLeft(rest, " ")
	digits := len(rest) - len(bytes.TrimLeft(rest, "0123456789"))
	id, err := strconv.ParseInt(string(rest[:digits]), 10, 64)
	if err != nil {
		return 0
	}
	return id
}
