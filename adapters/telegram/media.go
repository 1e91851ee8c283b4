package telegram

import "hydragate/adapters"

type media struct {
	Photo     []photo `json:"photo"`
	Document  *file   `json:"document"`
	Audio     *file   `json:"audio"`
	Video     *file   `json:"video"`
	VideoNote *file   `json:"video_note"`
	Animation *file   `json:"animation"`
	Voice     *file   `json:"voice"`
	Sticker   *file   `json:"sticker"`
	LivePhoto *file   `json:"live_photo"`
}

type photo struct {
	FileID   string `json:"file_id"`
	UniqueID string `json:"file_unique_id"`
	Width    int64  `json:"width"`
	Height   int64  `json:"height"`
	Size     int64  `json:"file_size"`
}

type file struct {
	FileID   string `json:"file_id"`
	UniqueID string `json:"file_unique_id"` // the same for all bots and at all times
	Name     string `json:"file_name"`
	MIME     string `json:"mime_type"`
	Size     int64  `json:"file_size"`
	Duration int    `json:"duration"`
}

const (
	maxRef  = 512
	maxMIME = 128
)

// attachments returns the files of a message. The Ref of each is the ID for getFile.
func (m media) attachments() []adapters.Attachment {
	var as []adapters.Attachment
	if p, ok := largestPhoto(m.Photo); ok {
		as = append(
			as,
			adapters.Attachment{Kind: "image", Ref: adapters.Sanitize(p.FileID, maxRef), MIME: "image/jpeg", Size: p.Size},
		)
	}
	document := m.Document
	if m.Animation != nil {
		document = nil // Telegram repeats an animation as a document for old clients
	}
	for _, f := range []struct {
		kind string
		file *file
	}{
		{"file", document},
		{"audio", m.Audio},
		{"video", m.Video},
		{"video", m.VideoNote},
		{"video", m.Animation},
		{"video", m.LivePhoto},
		{"voice", m.Voice},
		{"sticker", m.Sticker},
	} {
		if f.file != nil {
			as = append(as, f.file.attachment(f.kind))
		}
	}
	return as
}

func (f *file) attachment(kind string) adapters.Attachment {
	return adapters.Attachment{
		Kind: kind, Ref: adapters.Sanitize(f.FileID, maxRef), MIME: adapters.Sanitize(f.MIME, maxMIME),
		Name: adapters.Sanitize(f.Name, maxName), Size: f.Size, Duration: f.Duration,
	}
}

// largestPhoto returns the largest of the sizes of a photo.
func largestPhoto(ps []photo) (best photo, ok bool) {
	for _, p := range ps {
		if !ok || p.Width*p.Height > best.Width*best.Height {
			best, ok = p, true
		}
	}
	return best, ok
}
