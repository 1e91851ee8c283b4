package telegram

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"hydragate/adapters"
)

// staleAfter is the age at which a position is ignored. After a week without updates, Telegram
// chooses new update IDs, which may be lower.
const staleAfter = 6 * 24 * time.Hour

// A position is the progress of a bot's poller. Its text form is "<next>@<unix seconds>@<token
// hash>".
type position struct {
	next      int64     // the first update not yet stored; 0 if unknown
	at        time.Time // time of the last batch
	tokenHash string    // hash of the token; with another token the IDs may start over
}

// parsePosition parses a cursor. A cursor that is malformed or belongs to another token yields the
// zero position: updates that are fetched again have the same key.
func parsePosition(cursor string, ep adapters.Endpoint) position {
	none := position{tokenHash: tokenHash(ep)}
	head, rest, _ := strings.Cut(cursor, "@")
	seconds, hash, hasHash := strings.Cut(rest, "@")
	next, err := strconv.ParseInt(head, 10, 64)
	unix, errAt := strconv.ParseInt(seconds, 10, 64)
	if err != nil || errAt != nil || next < 0 || hasHash && hash != none.tokenHash {
		return none
	}
	return position{next: next, at: time.Unix(unix, 0), tokenHash: none.tokenHash}
}

func (p position) String() string {
	return formatInt(p.next) + "@" + formatInt(p.at.Unix()) + "@" + p.tokenHash
}

// offset returns the offset parameter of getUpdates; 0 requests all pending updates.
func (p position) offset(now time.Time) int64 {
	if now.Sub(p.at) > staleAfter {
		return 0
	}
	return p.next
}

// advance returns the position after a batch. It may be lower than p, if Telegram has chosen new
// IDs.
func (p position) advance(raws []json.RawMessage, now time.Time) position {
	var last int64
	for _, raw := range raws {
		last = max(last, updateID(raw))
	}
	next := position{next: p.next, at: now, tokenHash: p.tokenHash}
	if last > 0 && last < math.MaxInt64 { // a negative offset counts from the end
		next.next = last + 1
	}
	return next
}

// tokenHash returns a short hash that distinguishes tokens.
func tokenHash(ep adapters.Endpoint) string {
	for _, token := range ep.Current(adapters.BotToken) {
		sum := sha256.Sum256([]byte(token))
		return hex.EncodeToString(sum[:4])
	}
	return ""
}
