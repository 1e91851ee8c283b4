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

// staleAfter is when a position says nothing any more: a week without updates, and
// Telegram draws their numbers anew, perhaps lower.
const staleAfter = 6 * 24 * time.Hour

// A position is how far a bot's updates have been taken. As a cursor it reads
// "<next>@<unix seconds>@<mark>".
type position struct {
	next      int64     // the first update that is not taken yet; 0 when nobody knows
	at        time.Time // when the last one was taken
	tokenHash string    // of the token: with another token the numbers may start over
}

// parsePosition reads a cursor. One that cannot be read, or belongs to another
// token, is as good as none: what Telegram sends again has the same key.
func parsePosition(cursor string, ep adapters.Endpoint) position {
	none := position{tokenHash: tokenHash(ep)}
	head, rest, _ := strings.Cut(cursor, "@")
	seconds, of, marked := strings.Cut(rest, "@")
	next, err := strconv.ParseInt(head, 10, 64)
	unix, errAt := strconv.ParseInt(seconds, 10, 64)
	if err != nil || errAt != nil || next < 0 || marked && of != none.tokenHash {
		return none
	}
	return position{next: next, at: time.Unix(unix, 0), tokenHash: none.tokenHash}
}

func (p position) String() string {
	return formatInt(p.next) + "@" + formatInt(p.at.Unix()) + "@" + p.tokenHash
}

// offset gives what to ask Telegram for; 0 asks for all it has.
func (p position) offset(now time.Time) int64 {
	if now.Sub(p.at) > staleAfter {
		return 0
	}
	return p.next
}

// advance gives the position behind a batch. It follows the batch even where that
// leads below p: then the numbers were drawn anew.
func (p position) advance(raws []json.RawMessage, now time.Time) position {
	var last int64
	for _, raw := range raws {
		last = max(last, updateID(raw))
	}
	next := position{next: p.next, at: now, tokenHash: p.tokenHash}
	if last > 0 && last < math.MaxInt64 { // behind that Telegram would count from the end
		next.next = last + 1
	}
	return next
}

// tokenHash tells one token from another and nothing else.
func tokenHash(ep adapters.Endpoint) string {
	for _, token := range ep.Current(adapters.BotToken) {
		sum := sha256.Sum256([]byte(token))
		return hex.EncodeToString(sum[:4])
	}
	return ""
}
