package examples

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hydragate/adapters/simulator"
	"hydragate/e2e/harness"
)

const directory = "../../examples/"

// commands are the commands that run the sample applications.
var commands = map[string][]string{
	"go":     {"example-go"},
	"python": {"python3", directory + "python/app.py"},
	"node":   {"node", directory + "node/app.mjs"},
}

const (
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	// event is an event of a message, with the fields that the applications read.
	event = `{"type": "message.received", "data": {"text": "hello", "sender": {"role": "unknown"}}}`
)

// An example is a running sample application.
type example struct {
	*harness.Client
	secret string
}

// forEachExample runs test with each sample application. Their log must not report panics.
func forEachExample(t *testing.T, secret string, test func(t *testing.T, e *example)) {
	for name, command := range commands {
		t.Run(name, func(t *testing.T) {
			var log harness.LockedBuffer
			cmd := exec.Command(command[0], command[1:]...)
			cmd.Env = append(os.Environ(), "PORT=0", "WEBHOOK_SECRET="+secret)
			p, err := harness.StartProcess(t.Context(), cmd, &log)
			if err != nil {
				t.Fatalf("start example (are Python 3 and Node.js installed?): %v\n%s", err, log.String())
			}
			t.Cleanup(func() {
				p.Kill()
				if err := harness.CheckLog(log.String()); err != nil {
					t.Error(err)
				}
				if t.Failed() {
					t.Logf("log of the example:\n%s", log.String())
				}
			})
			test(t, &example{harness.NewClient("http://"+p.Addr, "", time.Minute), secret})
		})
	}
}

// sign returns the headers of an event, with a signature made with secret.
func sign(t *testing.T, secret, id string, at time.Time, body string) http.Header {
	t.Helper()
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := webhook.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("webhook-signature", signature)
	return h
}

// post sends an event. It returns the zero response and fails the test if there is none.
func (e *example) post(t *testing.T, header http.Header, body string) harness.Response {
	t.Helper()
	res, err := e.Do(t.Context(), http.MethodPost, "/events", header, body)
	if err != nil {
		t.Error(err)
	}
	return res
}

// deliver sends an event with a fresh signature. It returns the answer, whose status must be 200.
func (e *example) deliver(t *testing.T, id, body string) string {
	t.Helper()
	res := e.post(t, sign(t, e.secret, id, time.Now(), body), body)
	if res.Status != http.StatusOK {
		t.Errorf("status of event %s = %d, want 200", id, res.Status)
	}
	return res.Body
}

// TestExamples runs each sample application with a gateway: a person writes and reads the answer.
func TestExamples(t *testing.T) {
	h, _ := harness.Start(t, harness.Options{Engine: harness.SQLite})
	user := simulator.TelegramUser{ID: 100, FirstName: "Steve"}
	forEachExample(t, h.WebhookSecret, func(t *testing.T, e *example) {
		user.ID++
		h.MustCall("PATCH", "/v1/instances/"+h.InstanceID, map[string]string{"agent_url": e.URL}, http.StatusOK, nil)
		h.Telegram.SendText(harness.TelegramBot, user, "What is my balance?")
		ctx, cancel := context.WithTimeout(t.Context(), harness.EventTimeout)
		defer cancel()
		reply, err := h.Telegram.WaitReply(ctx, strconv.FormatInt(user.ID, 10), 0)
		if err != nil {
			t.Fatalf("no reply arrived: %v\n%s", err, h.LogTail())
		}
		if want := "Request 1: I can only tell that to the owner of the account."; reply.Text != want {
			t.Fatalf("reply = %q, want %q", reply.Text, want)
		}
	})
	h.CheckLog()
}

// TestExamples_Redelivery delivers events again, as the gateway sent them. The applications must
// answer as before, and count no request.
func TestExamples_Redelivery(t *testing.T) {
	h, _ := harness.Start(t, harness.Options{Engine: harness.SQLite})
	user := simulator.TelegramUser{ID: 100, FirstName: "Steve"}
	h.Telegram.SendText(harness.TelegramBot, user, "What is my balance?")
	if err := h.App.ExpectEvent([]string{"type=message.received"}); err != nil {
		t.Fatalf("%v\n%s", err, h.LogTail())
	}
	var id, body string
	h.App.Update(func() { id, body = h.App.Events[0].ID, string(h.App.Events[0].Body) })
	forEachExample(t, secret, func(t *testing.T, e *example) {
		first := e.deliver(t, id, body)
		if !strings.Contains(first, "Request 1:") {
			t.Errorf("answer to the first event = %q, want request 1", first)
		}
		for range 2 {
			if got := e.deliver(t, id, body); got != first {
				t.Errorf("answer to the redelivered event = %q, want %q", got, first)
			}
		}
		if got := e.deliver(t, "msg_second", body); !strings.Contains(got, "Request 2:") {
			t.Errorf("answer to the next event = %q, want request 2", got)
		}
		verified := `{"type": "identity.verified", "data": {}}`
		if got := e.deliver(t, "msg_verified", verified); strings.Contains(got, "Request") {
			t.Errorf("answer to identity.verified = %q, want no replies", got)
		}
		answers := harness.Concurrently(8, func(int) string { return e.deliver(t, "msg_concurrent", body) })
		for _, got := range answers {
			if got != answers[0] || !strings.Contains(got, "Request 3:") {
				t.Errorf("answers to concurrent deliveries = %q, want request 3 in all", answers)
				break
			}
		}
	})
}

// TestExamples_Signatures sends events with valid and with forged signatures.
func TestExamples_Signatures(t *testing.T) {
	const otherSecret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	const id, signature, timestamp = "msg_signed", "webhook-signature", "webhook-timestamp"
	now := time.Now()
	valid := sign(t, secret, id, now, event).Get(signature)
	other := sign(t, otherSecret, id, now, event).Get(signature)
	with := func(key, value string) http.Header {
		h := sign(t, secret, id, now, event)
		h.Set(key, value)
		return h
	}
	without := func(key string) http.Header {
		h := with(key, "")
		h.Del(key)
		return h
	}
	at := func(d time.Duration) http.Header { return sign(t, secret, id, now.Add(d), event) }
	accepted := map[string]http.Header{
		"valid":                with(signature, valid),
		"valid after another":  with(signature, other+" "+valid),
		"valid before another": with(signature, valid+" "+other),
		"valid after unknown":  with(signature, "v2,x "+valid),
		"four minutes old":     at(-4 * time.Minute),
	}
	rejected := map[string]http.Header{
		"six minutes old":          at(-6 * time.Minute),
		"six minutes ahead":        at(6 * time.Minute),
		"other secret":             with(signature, other),
		"other version":            with(signature, "v2"+valid[2:]),
		"cut off":                  with(signature, valid[:len(valid)-4]),
		"not base64":               with(signature, "v1,§"),
		"empty":                    with(signature, "v1,"),
		"empty header":             with(signature, ""),
		"missing":                  without(signature),
		"other body":               sign(t, secret, id, now, strings.Replace(event, "unknown", "owner", 1)),
		"other ID":                 with("webhook-id", "msg_forged"),
		"other timestamp":          with(timestamp, strconv.FormatInt(now.Unix(), 10)+"0"),
		"timestamp not a number":   with(timestamp, "\xb2"),
		"empty timestamp":          with(timestamp, ""),
		"timestamp missing":        without(timestamp),
		"timestamp of 5000 digits": with(timestamp, strings.Repeat("1", 5000)),
	}
	forEachExample(t, secret, func(t *testing.T, e *example) {
		for name, header := range accepted {
			if res := e.post(t, header, event); res.Status != http.StatusOK || !strings.Contains(res.Body, "Request 1:") {
				t.Errorf("%s: response = %d %q, want 200 and request 1", name, res.Status, res.Body)
			}
		}
		for name, header := range rejected {
			if res := e.post(t, header, event); res.Status != http.StatusUnauthorized {
				t.Errorf("%s: status = %d, want 401", name, res.Status)
			}
		}
	})
}

// TestExamples_MalformedRequests sends requests that fail after the signature is verified, and
// requests that are not complete. The applications must survive, and must process an event that
// failed when it is delivered again.
func TestExamples_MalformedRequests(t *testing.T) {
	forEachExample(t, secret, func(t *testing.T, e *example) {
		first, incomplete := e.deliver(t, "msg_first", event), `{"type":`
		res := e.post(t, sign(t, e.secret, "msg_retried", time.Now(), incomplete), incomplete)
		if res.Status != http.StatusInternalServerError {
			t.Errorf("status of a body that is not JSON = %d, want 500", res.Status)
		}
		if got := e.deliver(t, "msg_retried", event); !strings.Contains(got, "Request 2:") {
			t.Errorf("answer after a failure = %q, want request 2", got)
		}
		for name, request := range map[string]string{
			"body too long":   "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
			"negative length": "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
			"incomplete body": "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{",
		} {
			t.Run(name, func(t *testing.T) {
				conn, err := net.Dial("tcp", strings.TrimPrefix(e.URL, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, conn) // until the application has closed the connection
			})
		}
		if got := e.deliver(t, "msg_first", event); got != first {
			t.Errorf("answer after malformed requests = %q, want %q", got, first)
		}
	})
}

// TestExamples_BoundedMemory sends so many events that the applications must forget the first.
func TestExamples_BoundedMemory(t *testing.T) {
	harness.RequireFullRun(t)
	forEachExample(t, secret, func(t *testing.T, e *example) {
		first := e.deliver(t, "msg_first", event)
		for i := range 10_000 {
			e.deliver(t, "msg_"+strconv.Itoa(i), event)
		}
		if got := e.deliver(t, "msg_first", event); got == first {
			t.Error("the application remembers more than 10,000 answers")
		}
		if got, want := e.deliver(t, "msg_9999", event), "Request 10001:"; !strings.Contains(got, want) {
			t.Errorf("answer to the last event = %q, want %s", got, want)
		}
	})
}

// TestExamples_SecretRequired starts the sample applications without a secret. They must not start,
// because an empty key would accept signatures that anyone can make.
func TestExamples_SecretRequired(t *testing.T) {
	for name, command := range commands {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(command[0], command[1:]...)
			cmd.Env = append(os.Environ(), "PORT=0", "WEBHOOK_SECRET=whsec_")
			var log harness.LockedBuffer
			if p, err := harness.StartProcess(t.Context(), cmd, &log); err == nil {
				p.Kill()
				t.Fatal("the application runs without a secret")
			}
			if !strings.Contains(log.String(), "WEBHOOK_SECRET must be") {
				t.Errorf("error = %q, want that WEBHOOK_SECRET is missing", log.String())
			}
		})
	}
}

// TestDocumentation compares the code in docs/applications.md with the sample applications.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/applications.md")
	if err != nil {
		t.Fatal(err)
	}
	for path, language := range map[string]string{"go/main.go": "go", "python/app.py": "python", "node/app.mjs": "js"} {
		code, err := os.ReadFile(directory + path)
		if err != nil {
			t.Fatal(err)
		}
		_, section, _ := strings.Cut(string(page), "](../examples/"+path+")")
		_, block, _ := strings.Cut(section, "```"+language+"\n")
		block, _, _ = strings.Cut(block, "```")
		if block == "" || !strings.Contains(string(code), block) {
			t.Errorf("the code after the link to examples/%s is not part of that file:\n%s", path, block)
		}
	}
}
