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

// Telegram simulates a Bot API server. It serves the API at /bot<token>/<method> and files at
// /file/bot<token>/<path>, holds each update until it is confirmed, and posts updates to webhooks.
// Like a local Bot API server, it accepts webhooks with http and any port. The names of calls for
// Arm are the method names.
//
// A Telegram is made with NewTelegram and is an http.Handler. It is safe for concurrent use.
type Telegram struct {
	Transcript
	Faults

	// WebhookClient posts updates to webhooks. It may be replaced before the first setWebhook. It
	// must not follow redirects, as Telegram does not.
	WebhookClient *http.Client

	// RetryScale scales the delays before an update is posted again. 1 is Telegram's pace, which
	// starts at one second. It must be set before the first setWebhook.
	RetryScale float64

	mu          sync.Mutex
	bots        map[string]*telegramBot // by token
	updates     map[int64]*telegramUpdate
	files       map[string][]byte // by file_id
	migrated    map[int64]int64   // IDs of supergroups, by those that they had as groups
	lastUpdate  int64
	lastMessage int64
	lastQuery   int64

	ctx     context.Context //nolint:containedctx // of the deliveries; canceled by Close
	stop    context.CancelFunc
	posting sync.WaitGroup
}

// A TelegramUser is a person with a Telegram account.
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
	allowed  []string // allowed_updates; empty for the default
	blocked  map[string]bool
	calls    map[string][]map[string]string

	pending []*telegramUpdate // not confirmed yet, in order
	updated chan struct{}     // closed by the next update
	poll    *telegramPoll     // the getUpdates call that is waiting, or nil
	webhook *telegramWebhook  // nil if no webhook is set
}

// NewTelegram returns a server without bots.
func NewTelegram() *Telegram {
	ctx, stop := context.WithCancel(context.Background())
	return &Telegram{
		WebhookClient: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryScale: 1,
		bots:       map[string]*telegramBot{},
		updates:    map[int64]*telegramUpdate{},
		files:      map[string][]byte{},
		migrated:   map[int64]int64{},
		lastUpdate: 731_000_000,
		ctx:        ctx,
		stop:       stop,
	}
}

// Close cancels deliveries to webhooks and waits until they have returned.
func (t *Telegram) Close() {
	t.mu.Lock()
	t.stop()
	t.mu.Unlock()
	t.posting.Wait()
}

// AddBot adds a bot. Its ID is the number before the colon of its token.
func (t *Telegram) AddBot(token, username string) {
	head, _, _ := strings.Cut(token, ":")
	id, _ := strconv.ParseInt(head, 10, 64)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bots[token] = &telegramBot{
		id: id, token: token, username: username, blocked: map[string]bool{},
		calls: map[string][]map[string]string{}, updated: make(chan struct{}),
	}
}

// RevokeToken replaces the token of a bot: calls with the previous one are unauthorized. It reports
// whether there is such a bot.
func (t *Telegram) RevokeToken(username, token string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.findBot(username)
	if b == nil {
		return false
	}
	delete(t.bots, b.token)
	b.token = token
	t.bots[token] = b
	return true
}

// Rename changes the username of a bot.
func (t *Telegram) Rename(username, to string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.findBot(username); b != nil {
		b.username = to
	}
}

// Break is like Faults.Break. A poll that is waiting ends.
func (t *Telegram) Break(username, method string, f Fault) {
	t.Faults.Break(username, method, f)
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.findBot(username); b != nil {
		b.endPoll(conflictPoll)
	}
}

// SetWebhook sets the webhook of a bot, as another program with its token does. An empty address
// deletes it.
func (t *Telegram) SetWebhook(username, address, secret string) {
	t.mu.Lock()
	b := t.findBot(username)
	t.mu.Unlock()
	if b != nil {
		t.setWebhook(b, map[string]string{"url": address, "secret_token": secret})
	}
}

// A TelegramOption changes a message before it is sent to the bot.
type TelegramOption func(message map[string]any)

// TelegramForwarded marks a message as one that the sender forwards from another person.
func TelegramForwarded(author TelegramUser) TelegramOption {
	return func(m map[string]any) {
		m["forward_origin"] = map[string]any{"type": "user", "date": m["date"], "sender_user": author.user()}
	}
}

// TelegramViaBot marks a message as the result of an inline bot.
func TelegramViaBot(id int64) TelegramOption {
	return func(m map[string]any) {
		m["via_bot"] = map[string]any{"id": id, "is_bot": true, "first_name": "Inline", "username": "inline_bot"}
	}
}

// SendText sends a text to the bot in a private chat. It returns the ID of its update, or 0 if the
// bot does not exist or does not allow updates with messages.
func (t *Telegram) SendText(
	bot string, from TelegramUser, text string, options ...TelegramOption,
) (updateID int64) {
	return t.addMessage(bot, from.chat(), from, text, options)
}

// SendGroupText sends a text in a group, whose ID is negative. The bot receives all messages of the
// group, as with privacy mode disabled. It returns an update ID like SendText.
func (t *Telegram) SendGroupText(bot string, group int64, from TelegramUser, text string) (updateID int64) {
	title := "Group " + strconv.FormatInt(-group, 10)
	return t.addMessage(bot, map[string]any{"id": group, "type": "supergroup", "title": title}, from, text, nil)
}

func (t *Telegram) addMessage(
	bot string, chat map[string]any, from TelegramUser, text string, options []TelegramOption,
) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.findBot(bot)
	if b == nil {
		return 0
	}
	t.lastMessage++
	m := map[string]any{
		"message_id": t.lastMessage, "from": from.user(), "chat": chat, "date": time.Now().Unix(), "text": text,
	}
	if entities := commandEntities(text); len(entities) > 0 {
		m["entities"] = entities
	}
	for _, option := range options {
		option(m)
	}
	t.Add(Line{ID: strconv.FormatInt(t.lastMessage, 10), Chat: fmt.Sprint(chat["id"]), Sender: from.id(), Text: text})
	return t.addUpdate(b, "message", m)
}

// PressButton presses a button with callback data below a message of the bot. It returns an update
// ID like SendText.
func (t *Telegram) PressButton(bot string, from TelegramUser, messageID int64, data string) (updateID int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.findBot(bot)
	if b == nil {
		return 0
	}
	t.lastQuery++
	return t.addUpdate(b, "callback_query", map[string]any{
		"id": strconv.FormatInt(from.ID<<20+t.lastQuery, 10), "from": from.user(), "data": data,
		"chat_instance": strconv.FormatInt(-from.ID, 10),
		"message": map[string]any{
			"message_id": messageID, "from": b.user(), "chat": from.chat(), "date": time.Now().Unix(),
		},
	})
}

// Block blocks the bot in the private chat. The bot receives an update and cannot send messages
// there. It returns an update ID like SendText.
func (t *Telegram) Block(bot string, from TelegramUser) (updateID int64) {
	return t.changeMembership(bot, from, "member", "kicked")
}

// Unblock reverses Block.
func (t *Telegram) Unblock(bot string, from TelegramUser) (updateID int64) {
	return t.changeMembership(bot, from, "kicked", "member")
}

func (t *Telegram) changeMembership(bot string, from TelegramUser, oldStatus, newStatus string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.findBot(bot)
	if b == nil {
		return 0
	}
	b.blocked[from.id()] = newStatus == "kicked"
	member := func(status string) map[string]any {
		if status == "kicked" {
			return map[string]any{"user": b.user(), "status": status, "until_date": 0}
		}
		return map[string]any{"user": b.user(), "status": status}
	}
	return t.addUpdate(b, "my_chat_member", map[string]any{
		"chat": from.chat(), "from": from.user(), "date": time.Now().Unix(),
		"old_chat_member": member(oldStatus), "new_chat_member": member(newStatus),
	})
}

// PushUpdate delivers an update unchanged, even if the bot does not allow its kind. It adds an
// update_id if the update has none, and does not check the one it has. It returns the ID, or 0 if
// the bot does not exist.
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
	_ = json.Unmarshal(update, &head) // an invalid update is delivered too
	if head.ID == 0 {
		t.lastUpdate++
		head.ID = t.lastUpdate
		if rest, ok := strings.CutPrefix(strings.TrimSpace(string(update)), "{"); ok {
			withID := fmt.Sprintf(`{"update_id":%d,%s`, head.ID, rest)
			update = json.RawMessage(strings.Replace(withID, ",}", "}", 1))
		}
	}
	t.enqueue(b, &telegramUpdate{id: head.ID, raw: update, queue: queueName(update), confirmed: make(chan struct{})})
	return head.ID
}

// AddFile adds a file for getFile.
func (t *Telegram) AddFile(fileID string, content []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files[fileID] = content
}

// Delivered reports whether an update is confirmed: the webhook responded with 2xx, or getUpdates was
// called with a larger offset.
func (t *Telegram) Delivered(updateID int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.updates[updateID]
	return u != nil && u.isConfirmed()
}

// Attempts returns how often an update was sent to its bot.
func (t *Telegram) Attempts(updateID int64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u := t.updates[updateID]; u != nil {
		return u.attempts
	}
	return 0
}

// WaitDelivered waits until an update is confirmed and returns how often it was sent to its bot. It
// returns the cause of ctx if ctx ends first.
func (t *Telegram) WaitDelivered(ctx context.Context, updateID int64) (attempts int, err error) {
	t.mu.Lock()
	u := t.updates[updateID]
	t.mu.Unlock()
	if u == nil {
		return 0, fmt.Errorf("unknown update %d", updateID)
	}
	select {
	case <-u.confirmed:
		return t.Attempts(updateID), nil
	case <-ctx.Done():
		return t.Attempts(updateID), context.Cause(ctx)
	}
}

// PendingUpdates returns the IDs of the updates that a bot has not confirmed, in order.
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

// Webhook returns the URL and the secret token of the webhook of a bot. Both are empty if it has none.
func (t *Telegram) Webhook(bot string) (url, secret string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.findBot(bot); b != nil && b.webhook != nil {
		return b.webhook.url, b.webhook.secret
	}
	return "", ""
}

// Commands returns the commands of a bot as setMyCommands received them.
func (t *Telegram) Commands(bot string) json.RawMessage {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.findBot(bot); b != nil {
		return b.commands
	}
	return nil
}

// maxCalls limits the recorded calls of a method.
const maxCalls = 256

// Calls returns the parameters of the last calls of a method, oldest first. Values that are not
// strings are JSON.
func (t *Telegram) Calls(bot, method string) []map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.findBot(bot); b != nil {
		return slices.Clone(b.calls[method])
	}
	return nil
}

// findBot returns the bot with a username, or nil. The caller must hold t.mu.
func (t *Telegram) findBot(username string) *telegramBot {
	for _, b := range t.bots {
		if strings.EqualFold(b.username, strings.TrimPrefix(username, "@")) {
			return b
		}
	}
	return nil
}

// addUpdate adds an update of a kind to the queue of b and returns its ID. It returns 0 if b does not
// allow the kind. The caller must hold t.mu.
func (t *Telegram) addUpdate(b *telegramBot, kind string, content map[string]any) int64 {
	if len(b.allowed) > 0 && !slices.Contains(b.allowed, kind) {
		return 0
	}
	t.lastUpdate++
	raw, err := json.Marshal(map[string]any{"update_id": t.lastUpdate, kind: content})
	if err != nil {
		panic(err) // content has only strings, numbers and maps
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
