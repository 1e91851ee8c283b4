package slack

import (
	"encoding/json"
	"strings"

	"hydragate/adapters"
)

// A file is one file of a message. Its URLs are not read: in a remote file they are
// whatever its creator chose.
type file struct {
	ID         string  `json:"id"`
	Name       string  `json:"name"`
	MIME       string  `json:"mimetype"`
	Subtype    string  `json:"subtype"`
	Mode       string  `json:"mode"`
	Size       int64   `json:"size"`
	DurationMS float64 `json:"duration_ms"`
}

const maxName = 255

// attachments reads the files of a message, by their ids at Slack. Files that are
// gone, and those in a shape we do not know, are left out.
func attachments(raw json.RawMessage) []adapters.Attachment {
	var entries []json.RawMessage
	if json.Unmarshal(raw, &entries) != nil {
		return nil
	}
	var as []adapters.Attachment
	for _, entry := range entries {
		var f file
		if json.Unmarshal(entry, &f) != nil || !isID(f.ID) || f.Mode == "tombstone" || f.Mode == "hidden_by_limit" {
			continue
		}
		as = append(as, adapters.Attachment{
			Kind:     f.kind(),
			Ref:      f.ID,
			MIME:     adapters.Clean(f.MIME, maxName),
			Name:     adapters.Clean(f.Name, maxName),
			Size:     max(0, f.Size),
			Duration: int(min(max(0, f.DurationMS/1000), 1<<30)),
		})
	}
	return as
}

func (f file) kind() string {
	if f.Subtype == "slack_audio" {
		return "voice"
	}
	switch kind, _, _ := strings.Cut(f.MIME, "/"); kind {
	case "image", "audio", "video":
		return kind
	}
	return "file"
}
