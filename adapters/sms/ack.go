package sms

import (
	"io"
	"net/http"
)

// emptyTwiML is the answer that makes Twilio do nothing. Of an answer in text/plain
// Twilio would send the body to the person.
const emptyTwiML = `<?xml version="1.0" encoding="UTF-8"?><Response/>`

// Refuse answers a request that Receive did not take. An HTTP layer that finds this
// method on an adapter uses it instead of its own error bodies, so that no answer of
// a hook ever reads as a message to a person.
func (a Adapter) Refuse(w http.ResponseWriter, status int) { answer(w, status) }

func ack(w http.ResponseWriter, taken error) {
	if taken != nil {
		answer(w, http.StatusServiceUnavailable)
		return
	}
	answer(w, http.StatusOK)
}

func answer(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, emptyTwiML)
}
