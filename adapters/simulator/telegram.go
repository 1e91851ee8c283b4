package simulator

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Telegram is a pretend Bot API server. It serves the API at /bot<token>/<method>
// and files at /file/bot<token>/<path>, keeps each update until it is confirmed,
// and is the webhook client that Telegram is. As one's own Bot API server does, it
// takes webhooks on http and on any port. Faults hit calls by method name.
//
// Make one with NewTelegram and serve it where you like; it is safe for concurrent
// use.
type Telegram struct {
	Transcript
	Faults

	// WebhookClient posts updates to webhooks. It may be replaced before the first
	// setWebhook; it must not follow redirects, as the original does not.
	WebhookClient *http.Client

	// Scale stretches the waits before an update is posted again: 1 is the
	// original's pace, which starts at a second. It is set before the first
	// setWebhook.
	RetryScale float64

	mu          sync.Mutex
	bots        map[string]*telegramBot // by token
	updates     map[int64]*telegramUpdate
	files       map[string][]byte // by file id
	lastUpdate  int64
	lastMessage int64
	lastQuery   int64

	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	posting sync.WaitGroup
}

// A TelegramUser is somebody with a Telegram account.
type TelegramUser struct {
	ID        int64
	FirstName string
	Username  string
}

type telegramBot struct {
	id       int64
	token    string
	username string
	commands json.RawMessage
	allowed  []string // kinds of update asked for; empty means the usual ones
	blocked  map[string]bool
	calls    map[string][]map[string]string

	pending []*telegramUpdate // not confirmed yet, in order
	updated chan struct{}     // closed at the next update
	poll    *telegramPoll     // the getUpdates that waits now
	webhook *telegramWebhook  // nil while no webhook is set
}

// NewTelegram gives a server that knows no bot.
func NewTelegram() *Telegram {
	ctx, stop := context.WithCancel(context.Background())
	return &Telegram{
		WebhookClient: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		RetryScale:    1,
		bots:          map[string]*telegramBot{},
		updates:       map[int64]*telegramUpdate{},
		files:         map[string][]byte{},
		lastUpdate:    731_000_000,
		ctx:           ctx,
		stop:          stop,
	}
}

// Close stops delivering to webhooks and waits until no delivery runs.
func (t *Telegram) Close() {
	t.mu.Lock()
	t.stop()
	t.mu.Unlock()
	t.posting.Wait()
}

// AddBot makes the server know a bot. The id of the bot is the number before the
// colon of its token.
func (t *Telegram) AddBot(token, username string) {
	head, _, _ := strings.Cut(token, ":")
	id, _ := strconv.ParseInt(head, 10, 64)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bots[token] = &telegramBot{id: id, token: token, username: username, blocked: map[string]bool{}, calls: map[string][]map[string]string{}, updated: make(chan struct{})}
}

// SendText types text to the bot in a private chat and gives the id of the update that
// carries it: 0 when there is no such bot, or it did not ask for messages.
func (t *Telegram) SendText(bot string, from TelegramUser, text string) (updateID int64) {
	return t.addMessage(bot, from.chat(), from, text)
}

// SendGroupText types text into a group, whose id is negative. The bot hears all that
// is said there, as with privacy mode off.
func (t *Telegram) SendGroupText(bot string, group int64, from TelegramUser, text string) (updateID int64) {
	return t.addMessage(bot, map[string]any{"id": group, "type": "supergroup", "title": "Group " + strconv.FormatInt(-group, 10)}, from, text)
}

func (t *Telegram) addMessage(bot string, chat map[string]any, from TelegramUser, text string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.findBot(bot)
	if b == nil {
		return 0
	}
	t.lastMessage++
	m := map[string]any{"message_id": t.lastMessage, "from": from.user(), "chat": chat, "date": time.Now().Unix(), "text": text}
	if es := commandEntities(text); len(es) > 0 {
		m["entities"] = es
	}
	t.Add(Line{ID: strconv.FormatInt(t.lastMessage, 10), Chat: fmt.Sprint(chat["id"]), Sender: from.id(), Text: text})
	return t.addUpdate(b, "message", m)
}

// PressButton presses a button with the value data below the bot's message of the id.
func (t *Telegram) PressButton(bot string, from TelegramUser, messageID int64, data string) (updateID int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.findBot(bot)
	if b == nil {
		return 0
	}
	t.lastQuery++
	return t.addUpdate(b, "callback_query", map[string]any{
		"id": strconv.FormatInt(from.ID<<20+t.lastQuery, 10), "from": from.user(), "chat_instance": strconv.FormatInt(-from.ID, 10), "data": data,
		"message": map[string]any{"message_id": messageID, "from": b.user(), "chat": from.chat(), "date": time.Now().Unix()},
	})
}

// Block closes the private chat: the bot is told, and can send nothing there.
func (t *Telegram) Block(bot string, from TelegramUser) (updateID int64) {
	return t.changeMembership(bot, from, "member", "kicked")
}

// Unblock opens the private chat again.
func (t *Telegram) Unblock(bot string, from TelegramUser) (updateID int64) {
	return t.changeMembership(bot, from, "kicked", "member")
}

func (t *Telegram) changeMembership(bot string, from TelegramUser, was, is string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.findBot(bot)
	if b == nil {
		return 0
	}
	b.blocked[from.id()] = is == "kicked"
	state := func(s string) map[string]any {
		if s == "kicked" {
			return map[string]any{"user": b.user(), "status": s, "until_date": 0}
		}
		return map[string]any{"user": b.user(), "status": s}
	}
	return t.addUpdate(b, "my_chat_member", map[string]any{
		"chat": from.chat(), "from": from.user(), "date": time.Now().Unix(), "old_chat_member": state(was), "new_chat_member": state(is),
	})
}

// PushUpdate hands the bot an update as it is, whatever the bot asked for: it gets a new
// id when it has none, and the one it has is not checked. It gives 0 when there is
// no such bot.
func (t *Telegram) PushUpdate(bot string, update json.RawMessage) (updateID int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.findBot(bot)
	if b == nil {
		return 0
	}
	var head struct {
		ID int64 `json:"update_id"`
	}
	_ = json.Unmarshal(update, &head) // a broken update is handed over too
	if head.ID == 0 {
		t.lastUpdate++
		head.ID = t.lastUpdate
		if rest, ok := strings.CutPrefix(strings.TrimSpace(string(update)), "{"); ok {
			update = json.RawMessage(strings.Replace(fmt.Sprintf(`{"update_id":%d,%s`, head.ID, rest), ",}", "}", 1))
		}
	}
	t.enqueue(b, &telegramUpdate{id: head.ID, raw: update, queue: queueName(update), confirmed: make(chan struct{})})
	return head.ID
}

// AddFile makes the server hold a file that getFile finds by its id.
func (t *Telegram) AddFile(fileID string, content []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files[fileID] = content
}

// Delivered reports whether an update is confirmed: its webhook answered 2xx, or
// getUpdates was asked for a later one.
func (t *Telegram) Delivered(updateID int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.updates[updateID]
	return u != nil && u.isConfirmed()
}

// Attempts gives how often an update was handed to its bot.
func (t *Telegram) Attempts(updateID int64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u := t.updates[updateID]; u != nil {
		return u.attempts
	}
	return 0
}

// WaitDelivered waits until an update is confirmed and gives how often it was
// handed to its bot.
func (t *Telegram) WaitDelivered(ctx context.Context, updateID int64) (attempts int, err error) {
	t.mu.Lock()
	u := t.updates[updateID]
	t.mu.Unlock()
	if u == nil {
		return 0, fmt.Errorf("update %d was never sent", updateID)
	}
	select {
	case <-u.confirmed:
		return t.Attempts(updateID), nil
	case <-ctx.Done():
		return t.Attempts(updateID), context.Cause(ctx)
	}
}

// PendingUpdates gives the ids of the updates that a bot has not confirmed, in order.
func (t *Telegram) PendingUpdates(bot string) []int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []int64
	if b := t.findBot(bot); b != nil {
		for _, u := range b.pending {
			ids = append(ids, u.id)
		}
	}
	return ids
}

// Webhook gives the webhook that a bot has set; both are empty when it has none.
func (t *Telegram) Webhook(bot string) (url, secret string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.findBot(bot); b != nil && b.webhook != nil {
		return b.webhook.url, b.webhook.secret
	}
	return "", ""
}

// Commands gives the last commands that a bot has set, as it sent them.
func (t *Telegram) Commands(bot string) json.RawMessage {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.findBot(bot); b != nil {
		return b.commands
	}
	return nil
}

// maxCalls is how many calls of one method are remembered.
const maxCalls = 256

// Calls gives the parameters of the last calls of a method, oldest first; what is
// not a string is there as JSON.
func (t *Telegram) Calls(bot, method string) []map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.findBot(bot); b != nil {
		return slices.Clone(b.calls[method])
	}
	return nil
}

// findBot gives the bot of a username; t.mu is held.
func (t *Telegram) findBot(username string) *telegramBot {
	for _, b := range t.bots {
		if strings.EqualFold(b.username, strings.TrimPrefix(username, "@")) {
			return b
		}
	}
	return nil
}

// addUpdate queues an update of a kind for b, if b wants the kind; t.mu is held.
func (t *Telegram) addUpdate(b *telegramBot, kind string, what map[string]any) int64 {
	if len(b.allowed) > 0 && !slices.Contains(b.allowed, kind) {
		return 0
	}
	t.lastUpdate++
	raw, err := json.Marshal(map[string]any{"update_id": t.lastUpdate, kind: what})
	if err != nil {
		panic(err) // maps of strings and numbers always marshal
	}
	t.enqueue(b, &telegramUpdate{id: t.lastUpdate, raw: raw, queue: queueName(raw), confirmed: make(chan struct{})})
	return t.lastUpdate
}

func (p TelegramUser) id() string { return strconv.FormatInt(p.ID, 10) }

func (p TelegramUser) name() string { return cmp.Or(p.FirstName, p.Username, "User "+p.id()) }

func (p TelegramUser) user() map[string]any {
	u := map[string]any{"id": p.ID, "is_bot": false, "first_name": p.name(), "language_code": "en"}
	if p.Username != "" {
		u["username"] = p.Username
	}
	return u
}

func (p TelegramUser) chat() map[string]any {
	c := map[string]any{"id": p.ID, "type": "private", "first_name": p.name()}
	if p.Username != "" {
		c["username"] = p.Username
	}
	return c
}

func (b *telegramBot) user() map[string]any {
	return map[string]any{"id": b.id, "is_bot": true, "first_name": b.username, "username": b.username}
}
