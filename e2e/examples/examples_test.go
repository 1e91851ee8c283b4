package examples

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"hydragate/adapters/simulator"
	"hydragate/e2e/harness"
)

const directory = "../../examples/"

// commands are the commands that run each example.
var commands = map[string]func(t *testing.T) *exec.Cmd{
	"go": func(t *testing.T) *exec.Cmd {
		program := filepath.Join(t.TempDir(), "app")
		args := []string{"build", "-o", program}
		if harness.RaceEnabled() {
			args = append(args, "-race")
		}
		out, err := exec.CommandContext(t.Context(), "go", append(args, "hydragate/examples/go")...).CombinedOutput()
		if err != nil {
			t.Fatalf("build example: %v\n%s", err, out)
		}
		return exec.Command(program)
	},
	"python": func(t *testing.T) *exec.Cmd {
		return exec.Command(lookPath(t, "python3", "python3"), directory+"python/app.py")
	},
	"node": func(t *testing.T) *exec.Cmd {
		return exec.Command(lookPath(t, "node", "nodejs"), directory+"node/app.mjs")
	},
}

// lookPath returns the path of an interpreter. It fails the test if the interpreter is missing.
func lookPath(t *testing.T, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing: run .ci/servers --check, or apt-get install %s", program, debianPackage)
	}
	return path
}

// An exchange is an event that the gateway sent to an example, and the response.
type exchange struct {
	id       string
	body     []byte
	response []byte
}

// An example is a running sample application behind a proxy that records its exchanges.
type example struct {
	url       string // of the proxy
	direct    string // of the application
	secret    string
	exchanges chan exchange
}

// startExample starts a sample application until the test ends.
func startExample(t *testing.T, cmd *exec.Cmd, secret string) *example {
	t.Helper()
	var log harness.LockedBuffer
	cmd.Env = append(os.Environ(), "PORT=0", "WEBHOOK_SECRET="+secret)
	p, err := harness.StartProcess(t.Context(), cmd, &log)
	if err != nil {
		t.Fatalf("start example: %v\n%s", err, log.String())
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
	e := &example{direct: "http://" + p.Addr, secret: secret, exchanges: make(chan exchange, 100)}
	target, err := url.Parse(e.direct)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(e.recorder(httputil.NewSingleHostReverseProxy(target)))
	t.Cleanup(server.Close)
	e.url = server.URL
	return e
}

// recorder passes requests to the proxy and records the exchanges.
func (e *example) recorder(proxy *httputil.ReverseProxy) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the gateway has closed the connection
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var response bytes.Buffer
		proxy.ServeHTTP(teeWriter{w, &response}, r)
		e.exchanges <- exchange{r.Header.Get("webhook-id"), body, response.Bytes()}
	})
}

// A teeWriter copies the body of a response to a buffer.
type teeWriter struct {
	http.ResponseWriter
	copied *bytes.Buffer
}

// Write writes p to the response and to the buffer.
func (w teeWriter) Write(p []byte) (int, error) {
	w.copied.Write(p)
	return w.ResponseWriter.Write(p)
}

// sign returns the signature of an event, made with secret.
func sign(t *testing.T, secret, id string, at time.Time, body []byte) string {
	t.Helper()
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := webhook.Sign(id, at, body)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// A request is an event as it is sent to an example.
type request struct {
	id, timestamp, signature string
	body                     []byte
}

// signed returns a request with a valid signature.
func (e *example) signed(t *testing.T, id string, at time.Time, body []byte) request {
	t.Helper()
	return request{id, strconv.FormatInt(at.Unix(), 10), sign(t, e.secret, id, at, body), body}
}

// post sends a request to the application, without the proxy. It returns the status and the body of
// the response, or status 0 and an error of the test if there is none.
func (e *example) post(t *testing.T, r request) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.direct+"/events", bytes.NewReader(r.body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	req.Header.Set("webhook-id", r.id)
	req.Header.Set("webhook-timestamp", r.timestamp)
	req.Header.Set("webhook-signature", r.signature)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(b)
}

// deliver sends an event with a fresh signature. It returns the answer, whose status must be 200.
func (e *example) deliver(t *testing.T, id string, body []byte) string {
	t.Helper()
	status, answer := e.post(t, e.signed(t, id, time.Now(), body))
	if status != http.StatusOK {
		t.Errorf("status of event %s = %d, want 200", id, status)
	}
	return answer
}

// TestExamples runs each sample application with a gateway: a person writes and reads the answer.
// Then it sends redelivered and forged events to the application.
func TestExamples(t *testing.T) {
	h, _ := harness.Start(t, harness.Options{Engine: harness.SQLite})
	user := simulator.TelegramUser{ID: 100, FirstName: "Steve"}
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		user.ID++
		t.Run(name, func(t *testing.T) {
			e := startExample(t, commands[name](t), h.WebhookSecret)
			h.MustCall("PATCH", "/v1/instances/"+h.InstanceID, map[string]string{"agent_url": e.url}, http.StatusOK, nil)
			first := e.converse(t, h, user)
			t.Run("redelivered event", func(t *testing.T) { e.checkRedelivery(t, first) })
			t.Run("concurrent redeliveries", func(t *testing.T) { e.checkConcurrentRedeliveries(t, first) })
			t.Run("signatures", func(t *testing.T) { e.checkSignatures(t, first) })
			t.Run("malformed requests", func(t *testing.T) { e.checkMalformedRequests(t, first) })
			t.Run("bounded memory", func(t *testing.T) { e.checkBoundedMemory(t, first) })
		})
	}
	h.CheckLog()
}

// converse sends a message from a person and waits for the reply. It returns the exchange.
func (e *example) converse(t *testing.T, h *harness.Harness, user simulator.TelegramUser) exchange {
	t.Helper()
	const want = "Request 1: I can only tell that to the owner of the account."
	h.Telegram.SendText(harness.TelegramBot, user, "What is my balance?")
	ctx, cancel := context.WithTimeout(t.Context(), harness.EventTimeout)
	defer cancel()
	reply, err := h.Telegram.WaitReply(ctx, strconv.FormatInt(user.ID, 10), 0)
	if err != nil {
		t.Fatalf("no reply arrived: %v\n%s", err, h.LogTail())
	}
	if reply.Text != want {
		t.Fatalf("reply = %q, want %q", reply.Text, want)
	}
	return <-e.exchanges
}

// checkRedelivery sends the event of first again. The application must answer as before, and count
// no request: the next event is the second.
func (e *example) checkRedelivery(t *testing.T, first exchange) {
	for range 2 {
		if got := e.deliver(t, first.id, first.body); got != string(first.response) {
			t.Errorf("answer to the redelivered event = %q, want %q", got, first.response)
		}
	}
	if got := e.deliver(t, "msg_second", first.body); !strings.Contains(got, "Request 2:") {
		t.Errorf("answer to the next event = %q, want request 2", got)
	}
	verified := []byte(`{"type": "identity.verified", "data": {}}`)
	if got := e.deliver(t, "msg_verified", verified); strings.Contains(got, "Request") {
		t.Errorf("answer to identity.verified = %q, want no replies", got)
	}
}

// checkConcurrentRedeliveries sends one new event several times concurrently. All answers must be
// the same.
func (e *example) checkConcurrentRedeliveries(t *testing.T, first exchange) {
	answers := harness.Concurrently(8, func(int) string { return e.deliver(t, "msg_concurrent", first.body) })
	for _, got := range answers {
		if got != answers[0] || !strings.Contains(got, "Request 3:") {
			t.Errorf("answers = %q, want request 3 in all", answers)
			return
		}
	}
}

// checkSignatures sends events with valid and with forged signatures.
func (e *example) checkSignatures(t *testing.T, first exchange) {
	const otherSecret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	now := time.Now()
	valid := e.signed(t, first.id, now, first.body)
	other := sign(t, otherSecret, first.id, now, first.body)
	with := func(change func(r *request)) request {
		r := valid
		change(&r)
		return r
	}
	withSignature := func(s string) request { return with(func(r *request) { r.signature = s }) }
	at := func(d time.Duration) request { return e.signed(t, first.id, now.Add(d), first.body) }
	forgedBody := bytes.Replace(first.body, []byte(`"unknown"`), []byte(`"owner"`), 1)
	if bytes.Equal(forgedBody, first.body) {
		t.Fatalf("the event has no role unknown: %s", first.body)
	}
	for name, c := range map[string]struct {
		request
		want int
	}{
		"valid":                  {valid, http.StatusOK},
		"valid after another":    {withSignature(other + " " + valid.signature), http.StatusOK},
		"valid before another":   {withSignature(valid.signature + " " + other), http.StatusOK},
		"valid after unknown":    {withSignature("v2,x " + valid.signature), http.StatusOK},
		"four minutes old":       {at(-4 * time.Minute), http.StatusOK},
		"six minutes old":        {at(-6 * time.Minute), http.StatusUnauthorized},
		"six minutes ahead":      {at(6 * time.Minute), http.StatusUnauthorized},
		"other secret":           {withSignature(other), http.StatusUnauthorized},
		"other version":          {withSignature("v2" + valid.signature[2:]), http.StatusUnauthorized},
		"cut off":                {withSignature(valid.signature[:len(valid.signature)-4]), http.StatusUnauthorized},
		"not base64":             {withSignature("v1,§"), http.StatusUnauthorized},
		"empty":                  {withSignature("v1,"), http.StatusUnauthorized},
		"missing":                {withSignature(""), http.StatusUnauthorized},
		"other body":             {with(func(r *request) { r.body = forgedBody }), http.StatusUnauthorized},
		"other ID":               {with(func(r *request) { r.id = "msg_forged" }), http.StatusUnauthorized},
		"other timestamp":        {with(func(r *request) { r.timestamp += "0" }), http.StatusUnauthorized},
		"timestamp not a number": {with(func(r *request) { r.timestamp = "\xb2" }), http.StatusUnauthorized},
		"timestamp missing":      {with(func(r *request) { r.timestamp = "" }), http.StatusUnauthorized},
		"timestamp of 5000 digits": {
			with(func(r *request) { r.timestamp = strings.Repeat("1", 5000) }), http.StatusUnauthorized,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, answer := e.post(t, c.request)
			if got != c.want {
				t.Errorf("status = %d, want %d", got, c.want)
			}
			if got == http.StatusOK && answer != string(first.response) {
				t.Errorf("answer = %q, want %q", answer, first.response)
			}
		})
	}
}

// checkMalformedRequests sends requests that fail after the signature is verified, and requests that
// are not complete. The application must survive, and must process an event that failed when it is
// delivered again.
func (e *example) checkMalformedRequests(t *testing.T, first exchange) {
	incomplete := e.signed(t, "msg_retried", time.Now(), []byte(`{"type":`))
	if got, _ := e.post(t, incomplete); got != http.StatusInternalServerError {
		t.Errorf("status of a body that is not JSON = %d, want 500", got)
	}
	if got := e.deliver(t, "msg_retried", first.body); !strings.Contains(got, "Request 4:") {
		t.Errorf("answer after a failure = %q, want request 4", got)
	}
	for name, request := range map[string]string{
		"body too long":   "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
		"negative length": "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
		"incomplete body": "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(e.direct, "http://"))
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
	if got := e.deliver(t, first.id, first.body); got != string(first.response) {
		t.Errorf("answer after malformed requests = %q, want %q", got, first.response)
	}
}

// checkBoundedMemory sends so many events that the application must forget the first. It does
// nothing in a short run.
func (e *example) checkBoundedMemory(t *testing.T, first exchange) {
	harness.RequireFullRun(t)
	for i := range 10_000 {
		e.deliver(t, "msg_"+strconv.Itoa(i), first.body)
	}
	if got := e.deliver(t, first.id, first.body); got == string(first.response) {
		t.Error("the application remembers more than 10,000 answers")
	}
	if got, want := e.deliver(t, "msg_9999", first.body), "Request 10004:"; !strings.Contains(got, want) {
		t.Errorf("answer to the last event = %q, want %s", got, want)
	}
}

// TestExamples_SecretRequired starts the sample applications without a secret. They must not start,
// because an empty key would accept signatures that anyone can make.
func TestExamples_SecretRequired(t *testing.T) {
	for name, command := range commands {
		t.Run(name, func(t *testing.T) {
			cmd := command(t)
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
