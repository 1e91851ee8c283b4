package harness

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// An EchoApp is the agent runtime of a storm: it counts every call, and answers "re X" to
// X. As a runtime must, it takes the id of the message for the name of the effect.
type EchoApp struct {
	URL string

	mu      sync.Mutex
	records map[string]*textRecord
	blocked map[string]chan struct{} // answers that wait
	waiting map[string]chan struct{} // closed when a call waits there
}

// A textRecord is what was heard of one text.
type textRecord struct {
	Calls    int
	order    int             // counts first calls
	messages map[string]bool // message ids: each is one effect
	events   map[string]bool // ids of the calls
	First    time.Time
}

func newEchoApp() *EchoApp {
	return &EchoApp{records: map[string]*textRecord{}, blocked: map[string]chan struct{}{}, waiting: map[string]chan struct{}{}}
}

func (e *EchoApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	var event struct {
		Data struct {
			Text    string `json:"text"`
			Message string `json:"message_id"`
		} `json:"data"`
	}
	if err != nil || json.Unmarshal(body, &event) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	text := event.Data.Text
	if wait := e.record(text, event.Data.Message, r.Header.Get(standardwebhooks.HeaderWebhookID)); wait != nil {
		<-wait
	}
	if event.Data.Message == "" {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"replies": []any{map[string]string{"text": "re " + text[:min(len(text), 100)]}}})
}

func (e *EchoApp) record(text, message, event string) (wait <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.records[text]
	if h == nil {
		h = &textRecord{order: len(e.records), messages: map[string]bool{}, events: map[string]bool{}, First: time.Now()}
		e.records[text] = h
	}
	h.Calls++
	h.messages[message], h.events[event] = true, true
	if held := e.waiting[text]; held != nil { // the first call waits, those after it do not
		delete(e.waiting, text)
		close(held)
		return e.blocked[text]
	}
	return nil
}

// BlockFirstCall makes the first call with a text wait until it is let go; waits is closed
// once it does.
func (e *EchoApp) BlockFirstCall(text string) (waits <-chan struct{}, letGo func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	hold, held := make(chan struct{}), make(chan struct{})
	e.blocked[text], e.waiting[text] = hold, held
	return held, func() { close(hold) }
}

// Received gives what was heard of a text: nothing is the zero value.
func (e *EchoApp) Received(text string) textRecord {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h := e.records[text]; h != nil {
		return *h
	}
	return textRecord{}
}

// FirstReceivedAfter gives when something new with such words was heard for the first time
// after a time.
func (e *EchoApp) FirstReceivedAfter(words string, after time.Time) (first time.Time, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for text, h := range e.records {
		if strings.Contains(text, words) && h.First.After(after) && (!ok || h.First.Before(first)) {
			first, ok = h.First, true
		}
	}
	return first, ok
}

// senderOf gives who said a text of a round, and as which of theirs.
func senderOf(text string) string {
	who, _, _ := strings.Cut(text, " #")
	return who
}
