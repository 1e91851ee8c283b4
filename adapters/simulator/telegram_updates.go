package simulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
)

// A telegramUpdate waits in the queue of its bot until it is confirmed.
type telegramUpdate struct {
	id        int64
	raw       json.RawMessage
	queue     string // updates of one queue reach a webhook one after the other
	attempts  int
	confirmed chan struct{} // closed then
}

func (u *telegramUpdate) isConfirmed() bool {
	select {
	case <-u.confirmed:
		return true
	default:
		return false
	}
}

// A telegramPoll is a getUpdates that waits.
type telegramPoll struct {
	ended  chan struct{} // closed when another call ends it
	reason string        // set before ended is closed
}

// enqueue appends an update and wakes whoever waits for it; t.mu is held.
func (t *Telegram) enqueue(b *telegramBot, u *telegramUpdate) {
	t.updates[u.id] = u
	b.pending = append(b.pending, u)
	close(b.updated)
	b.updated = make(chan struct{})
	t.startDeliveries(b)
}

// confirm forgets pending updates of b that match; t.mu is held.
func (b *telegramBot) confirm(match func(*telegramUpdate) bool) {
	b.pending = slices.DeleteFunc(b.pending, func(u *telegramUpdate) bool {
		if !match(u) {
			return false
		}
		close(u.confirmed)
		return true
	})
}

// endPoll ends the long poll that waits, if one does; t.mu is held.
func (b *telegramBot) endPoll(why string) {
	if b.poll != nil {
		b.poll.reason = why
		close(b.poll.ended)
		b.poll = nil
	}
}

const (
	conflictWebhook    = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
	conflictPoll       = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
	conflictSetWebhook = "Conflict: terminated by setWebhook request"
	telegramMaxPoll    = 50 * time.Second
	telegramMaxBatch   = 100
)

// getUpdates confirms what lies below the offset, then waits for something to hand
// over. Of two callers the older is sent away.
func (t *Telegram) getUpdates(r *http.Request, b *telegramBot, p map[string]string) telegramResponse {
	offset, _ := strconv.ParseInt(p["offset"], 10, 64)
	limit, _ := strconv.Atoi(p["limit"])
	if limit < 1 || limit > telegramMaxBatch {
		limit = telegramMaxBatch
	}
	seconds, _ := strconv.Atoi(p["timeout"])
	timeout := time.NewTimer(min(time.Duration(max(seconds, 0))*time.Second, telegramMaxPoll))
	defer timeout.Stop()

	me := &telegramPoll{ended: make(chan struct{})}
	t.mu.Lock()
	if b.webhook != nil {
		t.mu.Unlock()
		return telegramError(http.StatusConflict, conflictWebhook)
	}
	b.endPoll(conflictPoll)
	b.poll = me
	b.setAllowedUpdates(p["allowed_updates"])
	if offset < 0 {
		offset = b.idFromEnd(-offset)
	}
	b.confirm(func(u *telegramUpdate) bool { return u.id < offset })
	t.mu.Unlock()

	for {
		batch, arrived, over := t.nextBatch(b, me, limit, false)
		if over {
			return telegramOK(batch)
		}
		select {
		case <-arrived:
		case <-timeout.C:
			batch, _, _ = t.nextBatch(b, me, limit, true)
			return telegramOK(batch)
		case <-me.ended:
			return telegramError(http.StatusConflict, me.reason)
		case <-r.Context().Done():
			t.nextBatch(b, me, 0, true)
			return telegramOK([]json.RawMessage{})
		case <-t.ctx.Done():
			return telegramOK([]json.RawMessage{})
		}
	}
}

// nextBatch gives what is pending and whether the poll is over with it; last ends the
// poll in any case.
func (t *Telegram) nextBatch(b *telegramBot, me *telegramPoll, limit int, last bool) (raws []json.RawMessage, arrived <-chan struct{}, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	raws = []json.RawMessage{}
	if b.poll != me { // ended meanwhile: the updates are another's
		return raws, b.updated, false
	}
	for _, u := range b.pending[:min(limit, len(b.pending))] {
		u.attempts++
		raws = append(raws, u.raw)
	}
	over = last || len(raws) > 0
	if over {
		b.poll = nil
	}
	return raws, b.updated, over
}

// idFromEnd gives the id of the n-th pending update from the end; t.mu is held.
func (b *telegramBot) idFromEnd(n int64) int64 {
	if len(b.pending) == 0 {
		return 0
	}
	return b.pending[max(0, len(b.pending)-int(min(n, int64(len(b.pending)))))].id
}

// setAllowedUpdates keeps the kinds of update asked for, if the call names them.
func (b *telegramBot) setAllowedUpdates(allowed string) {
	var kinds []string
	if json.Unmarshal([]byte(allowed), &kinds) == nil {
		b.allowed = kinds
	}
}

// queueName names the queue of an update: messages of one chat keep their order,
// other kinds have queues of their own.
func queueName(raw json.RawMessage) string {
	type inChat struct {
		Chat struct {
			ID json.RawMessage `json:"id"`
		} `json:"chat"`
	}
	var u struct {
		ID      json.RawMessage `json:"update_id"`
		Message *inChat         `json:"message"`
		Edited  *inChat         `json:"edited_message"`
		Member  *inChat         `json:"my_chat_member"`
		Query   *struct {
			From struct {
				ID json.RawMessage `json:"id"`
			} `json:"from"`
		} `json:"callback_query"`
	}
	_ = json.Unmarshal(raw, &u) // what cannot be read has a queue of its own
	switch {
	case u.Message != nil:
		return "chat " + string(u.Message.Chat.ID)
	case u.Edited != nil:
		return "chat " + string(u.Edited.Chat.ID)
	case u.Member != nil:
		return "member " + string(u.Member.Chat.ID)
	case u.Query != nil:
		return "query " + string(u.Query.From.ID)
	}
	return "update " + string(u.ID)
}

// commandEntities marks the commands in a text as Telegram does, in UTF-16 units.
func commandEntities(text string) []map[string]any {
	var es []map[string]any
	at, before := 0, ' '
	for i, r := range text {
		if r == '/' && unicode.IsSpace(before) {
			if n := commandLength(text[i:]); n > 1 {
				es = append(es, map[string]any{"offset": at, "length": n, "type": "bot_command"})
			}
		}
		at += max(1, utf16.RuneLen(r))
		before = r
	}
	return es
}

// commandLength gives the length of "/name" or "/name@bot" at the start of s.
func commandLength(s string) int {
	word := func(s string) int {
		return len(s) - len(strings.TrimLeftFunc(s, func(r rune) bool {
			return r == '_' || r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r))
		}))
	}
	n := 1 + word(s[1:])
	if n > 1 && n < len(s) && s[n] == '@' {
		if w := word(s[n+1:]); w > 0 {
			n += 1 + w
		}
	}
	return n
}
