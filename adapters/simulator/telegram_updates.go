package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
)

// A telegramUpdate is an update in the queue of its bot.
type telegramUpdate struct {
	id        int64
	raw       json.RawMessage
	queue     string // updates of a queue are posted to a webhook in order
	attempts  int
	confirmed chan struct{} // closed when the update is confirmed
}

func (u *telegramUpdate) isConfirmed() bool {
	select {
	case <-u.confirmed:
		return true
	default:
		return false
	}
}

// A telegramPoll is a getUpdates call that is waiting for updates.
type telegramPoll struct {
	ended  chan struct{} // closed when another call ends it
	reason string        // set before ended is closed
}

// enqueue appends an update and starts its delivery. The caller must hold t.mu.
func (t *Telegram) enqueue(b *telegramBot, u *telegramUpdate) {
	t.updates[u.id] = u
	b.pending = append(b.pending, u)
	close(b.updated)
	b.updated = make(chan struct{})
	t.startDeliveries(b)
}

// confirm removes the pending updates of b that match. The caller must hold t.mu.
func (b *telegramBot) confirm(match func(*telegramUpdate) bool) {
	b.pending = slices.DeleteFunc(b.pending, func(u *telegramUpdate) bool {
		if !match(u) {
			return false
		}
		close(u.confirmed)
		return true
	})
}

// endPoll ends the waiting getUpdates call, if there is one. The caller must hold t.mu.
func (b *telegramBot) endPoll(reason string) {
	if b.poll != nil {
		b.poll.reason = reason
		close(b.poll.ended)
		b.poll = nil
	}
}

const (
	conflictWebhook = "Conflict: can't use getUpdates method while webhook is active; " +
		"use deleteWebhook to delete the webhook first"
	conflictPoll = "Conflict: terminated by other getUpdates request; " +
		"make sure that only one bot instance is running"
	conflictSetWebhook = "Conflict: terminated by setWebhook request"
	telegramMaxPoll    = 50 * time.Second
	telegramMaxBatch   = 100
)

// getUpdates confirms the updates below the offset, then waits for updates. Of two concurrent calls,
// the older ends with a conflict.
func (t *Telegram) getUpdates(r *http.Request, b *telegramBot, p map[string]string) telegramResponse {
	offset, _ := strconv.ParseInt(p["offset"], 10, 64)
	limit, _ := strconv.Atoi(p["limit"])
	if limit < 1 || limit > telegramMaxBatch {
		limit = telegramMaxBatch
	}
	seconds, _ := strconv.Atoi(p["timeout"])
	timeout := time.NewTimer(min(time.Duration(max(seconds, 0))*time.Second, telegramMaxPoll))
	defer timeout.Stop()

	poll := &telegramPoll{ended: make(chan struct{})}
	t.mu.Lock()
	if b.webhook != nil {
		t.mu.Unlock()
		return telegramError(http.StatusConflict, conflictWebhook)
	}
	b.endPoll(conflictPoll)
	b.poll = poll
	b.setAllowedUpdates(p["allowed_updates"])
	if offset < 0 {
		offset = b.idFromEnd(-offset)
	}
	b.confirm(func(u *telegramUpdate) bool { return u.id < offset })
	t.mu.Unlock()

	for {
		batch, arrived, done := t.nextBatch(b, poll, limit, false)
		if done {
			return telegramOK(batch)
		}
		select {
		case <-arrived:
		case <-timeout.C:
			batch, _, _ = t.nextBatch(b, poll, limit, true)
			return telegramOK(batch)
		case <-poll.ended:
			return telegramError(http.StatusConflict, poll.reason)
		case <-r.Context().Done():
			t.nextBatch(b, poll, 0, true)
			return telegramOK([]json.RawMessage{})
		case <-t.ctx.Done():
			return telegramOK([]json.RawMessage{})
		}
	}
}

// nextBatch returns up to limit pending updates, and a channel that the next update closes. done
// reports whether the poll has ended, which last forces. A poll that another call has ended gets no
// updates.
func (t *Telegram) nextBatch(
	b *telegramBot, poll *telegramPoll, limit int, last bool,
) (batch []json.RawMessage, arrived <-chan struct{}, done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	batch = []json.RawMessage{}
	if b.poll != poll {
		return batch, b.updated, false
	}
	for _, u := range b.pending[:min(limit, len(b.pending))] {
		u.attempts++
		batch = append(batch, u.raw)
	}
	done = last || len(batch) > 0
	if done {
		b.poll = nil
	}
	return batch, b.updated, done
}

// idFromEnd returns the ID of the n-th pending update from the end. The caller must hold t.mu.
func (b *telegramBot) idFromEnd(n int64) int64 {
	if len(b.pending) == 0 {
		return 0
	}
	return b.pending[max(0, len(b.pending)-int(min(n, int64(len(b.pending)))))].id
}

// setAllowedUpdates sets the allowed kinds of updates if the call has allowed_updates.
func (b *telegramBot) setAllowedUpdates(allowed string) {
	var kinds []string
	if json.Unmarshal([]byte(allowed), &kinds) == nil {
		b.allowed = kinds
	}
}

// queueName returns the queue of an update. Messages of a chat share one; other kinds have separate
// queues.
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
	_ = json.Unmarshal(raw, &u) // an invalid update has its own queue
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

// commandEntities returns the bot_command entities of a text, in UTF-16 code units.
func commandEntities(text string) []map[string]any {
	var entities []map[string]any
	offset, previous := 0, ' '
	for i, r := range text {
		if r == '/' && unicode.IsSpace(previous) {
			if n := commandLength(text[i:]); n > 1 {
				entities = append(entities, map[string]any{"offset": offset, "length": n, "type": "bot_command"})
			}
		}
		offset += max(1, utf16.RuneLen(r))
		previous = r
	}
	return entities
}

// commandLength returns the length of "/name" or "/name@bot" at the start of s.
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

// MigrateGroup makes a group a supergroup: the bot receives a service message in each, and cannot send to the ID
// of the group any more. It returns the IDs of the updates.
func (t *Telegram) MigrateGroup(bot string, from TelegramUser, group, supergroup int64) (updateIDs []int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.migrated[group] = supergroup
	b := t.findBot(bot)
	if b == nil {
		return nil
	}
	for _, m := range []map[string]any{
		{"chat": map[string]any{"id": group, "type": "group"}, "migrate_to_chat_id": supergroup},
		{"chat": map[string]any{"id": supergroup, "type": "supergroup"}, "migrate_from_chat_id": group},
	} {
		t.lastMessage++
		m["message_id"], m["from"], m["date"] = t.lastMessage, from.user(), time.Now().Unix()
		updateIDs = append(updateIDs, t.addUpdate(b, "message", m))
	}
	return updateIDs
}

// SendPayload sends an update of any kind. payload is an object with the content of the update under its kind,
// such as "message", "edited_message" or "callback_query". What the content does not have is that of a message
// or a query of the person in the private chat. It returns an update ID like SendText.
func (t *Telegram) SendPayload(bot string, from TelegramUser, payload json.RawMessage) (updateID int64, err error) {
	var update map[string]map[string]any
	if err := json.Unmarshal(payload, &update); err != nil || len(update) != 1 {
		return 0, errors.New("simulator: the payload must be an object with one kind of update")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.findBot(bot)
	if b == nil {
		return 0, nil
	}
	for kind, fields := range update {
		t.lastMessage++
		content := map[string]any{
			"message_id": t.lastMessage, "from": from.user(), "chat": from.chat(), "date": time.Now().Unix(),
		}
		if kind == "callback_query" {
			message := maps.Clone(content)
			message["from"] = b.user()
			content = map[string]any{
				"id": strconv.FormatInt(from.ID<<20+t.lastMessage, 10), "from": from.user(),
				"chat_instance": strconv.FormatInt(-from.ID, 10), "message": message,
			}
		}
		maps.Copy(content, fields)
		text, _ := fields["text"].(string)
		if chat, ok := content["chat"].(map[string]any); ok {
			t.Add(Line{ID: fmt.Sprint(content["message_id"]), Chat: fmt.Sprint(chat["id"]), Sender: from.id(), Text: text})
		}
		updateID = t.addUpdate(b, kind, content)
	}
	return updateID, nil
}
