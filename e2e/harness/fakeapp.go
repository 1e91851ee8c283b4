//go:build unix

package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// maxReplyText is how much of a message a FakeApp repeats in its reply.
const maxReplyText = 100

// A FakeApp is a fake application. It records the events that a gateway delivers and replies to
// messages. The zero value accepts unsigned events and does not reply.
type FakeApp struct {
	Broadcast        // notified after each call
	URL       string // that the gateway delivers events to

	Mu           sync.Mutex
	Secret       string                             // signing secret; if not empty, other signatures are rejected
	ReplyText    string                             // reply to each message, with {text} for its text
	Answer       func(*ReceivedEvent) (body string) // if not nil, replaces ReplyText
	Failure      string                             // "", "fail" (status 500) or "hang"
	Events       []*ReceivedEvent
	Errs         []error // invalid signatures, bodies and IDs
	Rejected     int     // calls with an invalid signature
	DoubleSigned int     // calls that were signed with two secrets

	byID      map[string]*ReceivedEvent
	byMessage map[string]*ReceivedEvent
	byText    map[string][]receivedMessage
	messages  int // received, including those with no text
	position  int // events that ExpectEvent has checked
	blocked   map[string]*blockedCall
}

// A ReceivedEvent is an event and the number of its deliveries.
type ReceivedEvent struct {
	ID         string // webhook-id
	Deliveries int
	Header     http.Header // of the first delivery
	Body       []byte
	First      time.Time // of the deliveries
	fields     map[string]any
}

// A receivedMessage is a message of an event.
type receivedMessage struct {
	event *ReceivedEvent
	id    string
	order int // among all messages
}

type blockedCall struct{ waiting, released chan struct{} }

// ServeHTTP records an event and replies.
func (a *FakeApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		return
	}
	defer a.Notify()
	status, reply, blocked := a.record(r.Header, body)
	if blocked != nil {
		<-blocked.released
	}
	if reply == "hang" {
		a.Notify()
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, reply)
}

// record returns the response to an event, or "hang".
func (a *FakeApp) record(h http.Header, body []byte) (status int, reply string, blocked *blockedCall) {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	if status := a.verify(h, body); status != http.StatusOK {
		return status, "", nil
	}
	e := a.find(h, body)
	if e == nil {
		return http.StatusBadRequest, "", nil
	}
	e.Deliveries++
	text := e.Field("text")
	if blocked = a.blocked[text]; blocked != nil {
		delete(a.blocked, text) // later calls are not blocked
		close(blocked.waiting)
	}
	switch {
	case a.Failure == "fail":
		return http.StatusInternalServerError, "", blocked
	case a.Failure == "hang":
		return 0, "hang", blocked
	case a.Answer != nil:
		return http.StatusOK, a.Answer(e), blocked
	case a.ReplyText == "" || e.messageID() == "":
		return http.StatusOK, "{}", blocked
	}
	var replies []map[string]string
	for _, text := range e.Texts() {
		text = strings.ReplaceAll(a.ReplyText, "{text}", text[:min(len(text), maxReplyText)])
		replies = append(replies, map[string]string{"text": text})
	}
	encoded, err := json.Marshal(map[string]any{"replies": replies})
	if err != nil {
		panic(err)
	}
	return http.StatusOK, string(encoded), blocked
}

func (a *FakeApp) verify(h http.Header, body []byte) (status int) {
	if a.Secret == "" {
		return http.StatusOK
	}
	webhook, err := standardwebhooks.NewWebhook(a.Secret)
	if err == nil {
		err = webhook.Verify(body, h)
	}
	if err != nil {
		a.Rejected++
		a.Errs = append(a.Errs, fmt.Errorf("verify event %s: %w", h.Get(standardwebhooks.HeaderWebhookID), err))
		return http.StatusUnauthorized
	}
	if len(strings.Fields(h.Get(standardwebhooks.HeaderWebhookSignature))) > 1 {
		a.DoubleSigned++
	}
	return http.StatusOK
}

// find returns the event with the ID in a header. It adds it if it is new, and returns nil if it is
// invalid.
func (a *FakeApp) find(h http.Header, body []byte) *ReceivedEvent {
	id := h.Get(standardwebhooks.HeaderWebhookID)
	if e := a.byID[id]; e != nil {
		again := &ReceivedEvent{}
		if err := json.Unmarshal(body, &again.fields); err != nil || !slices.Equal(again.messageIDs(), e.messageIDs()) {
			a.Errs = append(a.Errs, fmt.Errorf("event %s delivered with other messages than before", id))
		}
		return e
	}
	if a.byID == nil {
		a.byID, a.byMessage = map[string]*ReceivedEvent{}, map[string]*ReceivedEvent{}
		a.byText = map[string][]receivedMessage{}
	}
	e := &ReceivedEvent{ID: id, Header: h, Body: body, First: time.Now()}
	if err := json.Unmarshal(body, &e.fields); err != nil {
		a.Errs = append(a.Errs, fmt.Errorf("decode event %s: %w", id, err))
		return nil
	}
	a.Events, a.byID[id] = append(a.Events, e), e
	texts := e.Texts()
	for i, message := range e.messageIDs() {
		text := texts[i]
		if other := a.byMessage[message]; other != nil {
			a.Errs = append(a.Errs, fmt.Errorf("events %s and %s are both for message %s", other.ID, id, message))
		}
		a.byMessage[message] = e
		a.byText[text] = append(a.byText[text], receivedMessage{e, message, a.messages})
		a.messages++
	}
	return e
}

// Texts returns the texts of the messages in the event.
func (e *ReceivedEvent) Texts() (texts []string) {
	for _, m := range e.messages() {
		texts = append(texts, fmt.Sprint(m["text"]))
	}
	return texts
}

// messages returns the messages in the event, each with its text and message_id.
func (e *ReceivedEvent) messages() (all []map[string]any) {
	data, _ := e.fields["data"].(map[string]any)
	if data["message_id"] == nil {
		return nil
	}
	parts, _ := data["messages"].([]any)
	for _, part := range parts {
		if m, ok := part.(map[string]any); ok {
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return []map[string]any{data}
	}
	return all
}

func (e *ReceivedEvent) messageIDs() (ids []string) {
	for _, m := range e.messages() {
		ids = append(ids, fmt.Sprint(m["message_id"]))
	}
	return ids
}

func (e *ReceivedEvent) messageID() string { return e.Field("message_id") }

// Field returns a field of the event by its path below data, or "" if there is none. The path of a
// field of the sender may be abbreviated; "type" is the type of the event.
func (e *ReceivedEvent) Field(path string) string {
	v := e.fields["data"]
	switch path {
	case "type":
		v = e.fields
	case "role", "verified", "external_id", "customer_email", "customer_id", "identity_id", "display_name":
		path = "sender." + path
	}
	for key := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// Update calls change while a.Mu is held.
func (a *FakeApp) Update(change func()) {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	change()
}

// ExpectEvent waits for the next event. It returns an error unless each field matches its
// expression, as in "text=Hello.*".
func (a *FakeApp) ExpectEvent(fields []string) error {
	err := a.WaitFor(EventTimeout, func() error {
		a.Mu.Lock()
		defer a.Mu.Unlock()
		if len(a.Events) <= a.position {
			return errors.New("no further event")
		}
		a.position++
		return nil
	})
	a.Mu.Lock()
	defer a.Mu.Unlock()
	if err := errors.Join(append(a.Errs, err)...); err != nil {
		return err
	}
	return a.Events[a.position-1].match(fields)
}

// ExpectRedelivery waits until the event that ExpectEvent checked last is delivered again.
func (a *FakeApp) ExpectRedelivery(fields []string) error {
	err := a.WaitFor(EventTimeout, func() error {
		a.Mu.Lock()
		defer a.Mu.Unlock()
		if a.Events[a.position-1].Deliveries == 1 {
			return errors.New("event not delivered again")
		}
		return errors.Join(a.Errs...)
	})
	a.Mu.Lock()
	defer a.Mu.Unlock()
	return errors.Join(err, a.Events[a.position-1].match(fields))
}

func (e *ReceivedEvent) match(fields []string) error {
	for _, field := range fields {
		path, pattern, _ := strings.Cut(field, "=")
		re, err := regexp.Compile(`(?s)^(?:` + pattern + `)$`)
		if err != nil {
			return err
		}
		if got := e.Field(path); !re.MatchString(got) {
			return fmt.Errorf("event has %s=%q, want %s: %s", path, got, pattern, e.Body)
		}
	}
	return nil
}

// BlockFirstCall blocks the first call with a text until release is called. waiting is closed when
// the call has arrived.
func (a *FakeApp) BlockFirstCall(text string) (waiting <-chan struct{}, release func()) {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	b := &blockedCall{make(chan struct{}), make(chan struct{})}
	if a.blocked == nil {
		a.blocked = map[string]*blockedCall{}
	}
	a.blocked[text] = b
	return b.waiting, func() { close(b.released) }
}

// A ReceivedText summarizes the events with one text.
type ReceivedText struct {
	Calls            int
	Messages, Events int       // number of IDs
	First            time.Time // of the calls
	order            int       // of the first message among all
}

// Received returns the summary of a text. It returns the zero value if the text was not received.
func (a *FakeApp) Received(text string) (r ReceivedText) {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	messages := map[string]bool{}
	for i, m := range a.byText[text] {
		if i == 0 {
			r.First, r.order = m.event.First, m.order
		}
		r.Calls += m.event.Deliveries
		messages[m.id] = true
	}
	r.Events, r.Messages = len(a.byText[text]), len(messages)
	return r
}

// MessagesFrom returns the messages of senders that were received.
func (a *FakeApp) MessagesFrom(externalIDs ...string) (found []*ReceivedEvent) {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	for _, e := range a.Events {
		if e.messageID() != "" && slices.Contains(externalIDs, e.Field("external_id")) {
			found = append(found, e)
		}
	}
	return found
}

// NoticesAbout returns the events about the identity of an account that are not about a message.
func (a *FakeApp) NoticesAbout(externalID string) (found []*ReceivedEvent) {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	for _, e := range a.Events {
		if e.messageID() == "" && e.Field("identity.external_id") == externalID {
			found = append(found, e)
		}
	}
	return found
}

// FirstReceivedAfter returns when the first text that contains part was received for the first time
// after a time.
func (a *FakeApp) FirstReceivedAfter(part string, after time.Time) (first time.Time, ok bool) {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	for text, events := range a.byText {
		at := events[0].event.First
		if strings.Contains(text, part) && at.After(after) && (!ok || at.Before(first)) {
			first, ok = at, true
		}
	}
	return first, ok
}

// bodies returns the bodies of all events.
func (a *FakeApp) bodies() string {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	var b strings.Builder
	for _, e := range a.Events {
		b.Write(e.Body)
	}
	return b.String()
}
