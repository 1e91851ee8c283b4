// Command go is a sample application for Hydragate.
//
// Usage: WEBHOOK_SECRET=whsec_... go run ./examples/go
package main

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	tolerance  = 5 * time.Minute
	maxBody    = 1 << 20 // bytes
	maxAnswers = 10_000  // older ones are forgotten
)

type event struct {
	Type string `json:"type"`
	Data struct {
		Sender struct {
			Role string `json:"role"`
		} `json:"sender"`
	} `json:"data"`
}

type reply struct {
	Text string `json:"text"`
}

// A savedAnswer is the body of the response to one event, or nil if there is none yet.
type savedAnswer struct {
	mu   sync.Mutex
	body []byte
}

type application struct {
	secret   []byte
	requests atomic.Int64

	mu      sync.Mutex
	answers map[string]*savedAnswer // by event ID
	ids     []string                // of answers, oldest first
}

// verify reports whether body was signed with secret within the last five minutes.
func verify(secret []byte, h http.Header, body []byte) bool {
	id, timestamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > tolerance {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	want := mac.Sum(nil)
	// One signature for each secret that is valid now, separated by spaces.
	for entry := range strings.FieldsSeq(h.Get("webhook-signature")) {
		version, signature, _ := strings.Cut(entry, ",")
		got, err := base64.StdEncoding.DecodeString(signature)
		if err == nil && version == "v1" && hmac.Equal(got, want) {
			return true
		}
	}
	return false
}

// answer does the work for an event and returns the replies.
func (a *application) answer(e event) []reply {
	if e.Type != "message.received" {
		return []reply{}
	}
	text := "I can only tell that to the owner of the account."
	if e.Data.Sender.Role == "owner" {
		text = "The balance of your account is 42.00 EUR."
	}
	return []reply{{fmt.Sprintf("Request %d: %s", a.requests.Add(1), text)}}
}

// answerOnce returns the answer to an event. A redelivered event gets the same answer, without new
// work.
func (a *application) answerOnce(id string, body []byte) ([]byte, error) {
	saved := a.savedAnswer(id)
	saved.mu.Lock() // a redelivery waits until the first delivery is answered
	defer saved.mu.Unlock()
	if saved.body != nil {
		return saved.body, nil
	}
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, err
	}
	var err error
	saved.body, err = json.Marshal(map[string][]reply{"replies": a.answer(e)})
	return saved.body, err
}

// savedAnswer returns the answer to an event, which it adds if there is none.
func (a *application) savedAnswer(id string) *savedAnswer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answers[id] == nil {
		if len(a.ids) >= maxAnswers {
			delete(a.answers, a.ids[0])
			a.ids = a.ids[1:]
		}
		a.answers[id] = &savedAnswer{}
		a.ids = append(a.ids, id)
	}
	return a.answers[id]
}

func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	if !verify(a.secret, r.Header, body) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	payload, err := a.answerOnce(r.Header.Get("webhook-id"), body)
	if err != nil { // the gateway retries
		log.Printf("answer event failed: %v", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(payload) //nolint:gosec // it is JSON
}

func main() {
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("WEBHOOK_SECRET"), "whsec_"))
	if err != nil || len(secret) == 0 {
		log.Fatal("WEBHOOK_SECRET must be the webhook_secret of the instance")
	}
	addr := net.JoinHostPort("127.0.0.1", cmp.Or(os.Getenv("PORT"), "9000"))
	l, err := net.Listen("tcp", addr) //nolint:noctx // until the process ends
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintf(os.Stdout, "{\"listening\": \"http://%s\"}\n", l.Addr())
	a := &application{secret: secret, answers: map[string]*savedAnswer{}}
	server := &http.Server{Handler: a, ReadTimeout: 10 * time.Second}
	log.Fatal(server.Serve(l))
}
