//go:build unix

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// An ear is the agent runtime of a storm: it counts every call, and answers "re X" to
// X. As a runtime must, it takes the id of the message for the name of the effect.
type ear struct {
	url string

	mu    sync.Mutex
	texts map[string]*hearing
	holds map[string]chan struct{} // answers that wait
	held  map[string]chan struct{} // closed when a call waits there
}

// A hearing is what was heard of one text.
type hearing struct {
	calls    int
	turn     int             // counts first calls
	messages map[string]bool // message ids: each is one effect
	events   map[string]bool // ids of the calls
	first    time.Time
}

func newEar() *ear {
	return &ear{texts: map[string]*hearing{}, holds: map[string]chan struct{}{}, held: map[string]chan struct{}{}}
}

func (e *ear) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
	if wait := e.hear(text, event.Data.Message, r.Header.Get(standardwebhooks.HeaderWebhookID)); wait != nil {
		<-wait
	}
	if event.Data.Message == "" {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"replies": []any{map[string]string{"text": "re " + text[:min(len(text), 100)]}}})
}

func (e *ear) hear(text, message, event string) (wait <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.texts[text]
	if h == nil {
		h = &hearing{turn: len(e.texts), messages: map[string]bool{}, events: map[string]bool{}, first: time.Now()}
		e.texts[text] = h
	}
	h.calls++
	h.messages[message], h.events[event] = true, true
	if held := e.held[text]; held != nil { // the first call waits, those after it do not
		delete(e.held, text)
		close(held)
		return e.holds[text]
	}
	return nil
}

// holdFirst makes the first call with a text wait until it is let go; waits is closed
// once it does.
func (e *ear) holdFirst(text string) (waits <-chan struct{}, letGo func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	hold, held := make(chan struct{}), make(chan struct{})
	e.holds[text], e.held[text] = hold, held
	return held, func() { close(hold) }
}

// heard gives what was heard of a text: nothing is the zero value.
func (e *ear) heard(text string) hearing {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h := e.texts[text]; h != nil {
		return *h
	}
	return hearing{}
}

// firstAfter gives when something new with such words was heard for the first time
// after a time.
func (e *ear) firstAfter(words string, after time.Time) (first time.Time, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for text, h := range e.texts {
		if strings.Contains(text, words) && h.first.After(after) && (!ok || h.first.Before(first)) {
			first, ok = h.first, true
		}
	}
	return first, ok
}

// speaker gives who said a text of a round, and as which of theirs.
func speaker(text string) string {
	who, _, _ := strings.Cut(text, " #")
	return who
}
