package telegram_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/adaptertest"
	"hydragate/adapters/simulator"
	"hydragate/adapters/telegram"
)

const (
	token       = "424242:AAEtest-test_testtesttesttesttest123"
	secret      = "hook-secret_1"
	botUsername = "hydragate_bot"
)

var steve = simulator.TelegramUser{ID: 712345678, FirstName: "Steve", Username: "steve"}

func endpoint() adapters.Endpoint {
	return adapters.Endpoint{
		ID: "ep1", Channel: adapters.Telegram, Mode: adapters.Webhook, Address: "424242",
		Settings: map[string]string{adapters.BotUsername: botUsername},
		Credentials: adapters.Credentials{
			adapters.BotToken:               token,
			adapters.WebhookSecret:          secret,
			adapters.WebhookSecret + "_old": "hook-secret_0",
		},
	}
}

// A handlerTransport passes requests to a handler without a network, so that tests can use a fake
// clock.
type handlerTransport struct{ http.Handler }

func (p handlerTransport) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	defer func() {
		if recover() != nil {
			err = io.ErrUnexpectedEOF
		}
	}()
	if r.Context().Err() != nil {
		return nil, r.Context().Err()
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if r.Context().Err() != nil {
		return nil, r.Context().Err()
	}
	return w.Result(), nil
}

// newSimulator returns a simulated Telegram server and an adapter that calls it.
func newSimulator(t *testing.T) (*simulator.Telegram, *telegram.Adapter) {
	t.Helper()
	server := simulator.NewTelegram()
	t.Cleanup(server.Close)
	server.AddBot(token, botUsername)
	return server, &telegram.Adapter{
		HTTP: &http.Client{Transport: handlerTransport{server}},
		Log:  slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// botAPIError returns an error response of the Bot API. parameters is a JSON object, or empty.
func botAPIError(code int, description, parameters string) simulator.Fault {
	body := fmt.Sprintf(`{"ok":false,"error_code":%d,"description":%q`, code, description)
	if parameters != "" {
		body += `,"parameters":` + parameters
	}
	return simulator.Fault{Status: code, Body: body + "}"}
}

func requestWithSecrets(secrets ...string) func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
	return func(_ adapters.Endpoint, _ string, body []byte) *http.Request {
		r := httptest.NewRequest(
			http.MethodPost,
			"https://gateway.example/hooks/telegram/i1",
			strings.NewReader(string(body)),
		)
		for _, s := range secrets {
			r.Header.Add("X-Telegram-Bot-Api-Secret-Token", s)
		}
		return r
	}
}

func modifiedRequest(change func(r *http.Request)) func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
	return func(ep adapters.Endpoint, hook string, body []byte) *http.Request {
		r := requestWithSecrets(secret)(ep, hook, body)
		change(r)
		return r
	}
}

func TestAdapter(t *testing.T) {
	server := simulator.NewTelegram()
	t.Cleanup(server.Close)
	server.AddBot(token, botUsername)
	api := httptest.NewServer(server)
	t.Cleanup(api.Close)

	arm := func(f simulator.Fault) func() { return func() { server.Arm("sendMessage", f) } }
	respond := func(status int, body string) func() { return arm(simulator.Fault{Status: status, Body: body}) }
	adaptertest.Run(t, adaptertest.Subject{
		Adapter:  &telegram.Adapter{APIURL: api.URL},
		Endpoint: endpoint(),
		Request:  requestWithSecrets(secret),
		Forgeries: map[string]func(adapters.Endpoint, string, []byte) *http.Request{
			"no secret":       requestWithSecrets(),
			"empty secret":    requestWithSecrets(""),
			"wrong secret":    requestWithSecrets("hook-secret_2"),
			"prefix of it":    requestWithSecrets("hook-secret_"),
			"secret twice":    requestWithSecrets(secret, secret),
			"right and wrong": requestWithSecrets("wrong", secret),
			"GET":             modifiedRequest(func(r *http.Request) { r.Method = http.MethodGet }),
			"PUT":             modifiedRequest(func(r *http.Request) { r.Method = http.MethodPut }),
			"query":           modifiedRequest(func(r *http.Request) { r.URL.RawQuery = "update_id=1" }),
			"empty query":     modifiedRequest(func(r *http.Request) { r.URL.ForceQuery = true }),
		},
		CredentialKeys: []string{adapters.WebhookSecret, adapters.WebhookSecret + "_old"},
		To:             "712345678",
		Chat:           adapters.Chat{ID: "712345678"},
		SentTexts: func() (texts []string) {
			for _, l := range server.Replies("712345678") {
				texts = append(texts, l.Text)
			}
			return texts
		},
		Faults: map[string]adaptertest.Fault{
			"throttled": {
				Arm:    arm(botAPIError(429, "Too Many Requests: retry after 30", `{"retry_after":30}`)),
				Reason: adapters.Throttled, RetryAfter: 30 * time.Second,
			},
			"throttled by proxy": {
				Arm:    arm(simulator.Fault{Status: 429, Body: "slow down", Header: http.Header{"Retry-After": {"7"}}}),
				Reason: adapters.Throttled, RetryAfter: 7 * time.Second,
			},
			"blocked": {
				Arm:    arm(botAPIError(403, "Forbidden: bot was blocked by the user", "")),
				Reason: adapters.Blocked,
			},
			"no such chat": {
				Arm:    arm(botAPIError(400, "Bad Request: chat not found", "")),
				Reason: adapters.Refused,
			},
			"token in description": {
				Arm:    arm(botAPIError(400, "Bad Request: hello "+token, "")),
				Reason: adapters.Refused,
			},
			"moved": {
				Arm: arm(botAPIError(400, "Bad Request: group chat was upgraded to a supergroup chat",
					`{"migrate_to_chat_id":-1002012345678}`)),
				Reason: adapters.Moved,
			},
			"bad token": {
				Arm:    arm(botAPIError(401, "Unauthorized", "")),
				Reason: adapters.BadSecret,
			},
			"no such token": {
				Arm:    arm(botAPIError(404, "Not Found", "")),
				Reason: adapters.BadSecret,
			},
			"server error": {
				Arm:    arm(botAPIError(500, "Internal Server Error", "")),
				Reason: adapters.Unreachable,
			},
			"bad gateway": {Arm: respond(502, "<html><h1>502 Bad Gateway</h1>hello</html>"), Reason: adapters.Unreachable},
			"redirect": {
				Arm:    arm(simulator.Fault{Status: 307, Header: http.Header{"Location": {"/elsewhere"}}}),
				Reason: adapters.Unreachable,
			},
			"half an answer": {Arm: respond(200, `{"ok":true,"result":{"mess`), Reason: adapters.Ambiguous},
			"not the API":    {Arm: respond(200, "<html>Welcome</html>"), Reason: adapters.Ambiguous},
			"no answer": {
				Arm:     arm(simulator.Fault{Hang: true}),
				Reason:  adapters.Ambiguous,
				Timeout: 100 * time.Millisecond,
			},
			"cut off": {Arm: arm(simulator.Fault{Cut: true}), Reason: adapters.Ambiguous},
		},
	})
}

func TestReceive_SecretCheckedBeforeBody(t *testing.T) {
	for name, secrets := range map[string][]string{"Missing": nil, "Wrong": {"guess"}} {
		t.Run(name, func(t *testing.T) {
			r := requestWithSecrets(secrets...)(endpoint(), "", nil)
			body, read := adaptertest.CountingBody(64 << 20)
			r.Body, r.ContentLength = body, 64<<20
			if _, err := new(telegram.Adapter).Receive(r, endpoint(), ""); !errors.Is(err, adapters.ErrForged) {
				t.Errorf("Receive = %v, want ErrForged", err)
			}
			if n := read(); n != 0 {
				t.Errorf("read %d bytes of an unauthenticated body, want 0", n)
			}
		})
	}
}

// TestReceive_LargeUpdate checks that an update which is too large to store whole is accepted,
// because otherwise Telegram would hold back later updates of the chat.
func TestReceive_LargeUpdate(t *testing.T) {
	longest := []byte(`{"update_id":731000001,"message":{"message_id":1,"chat":{"id":1,"type":"private"},"text":"hi"}}`)
	longest = append(longest, bytes.Repeat([]byte(" "), 512<<10-len(longest))...)
	for kind, body := range map[adapters.Kind][]byte{adapters.Text: longest, adapters.Undecodable: append(longest, ' ')} {
		in, err := new(telegram.Adapter).Receive(requestWithSecrets(secret)(endpoint(), "", body), endpoint(), "")
		if err != nil || len(in.Messages) != 1 || in.Messages[0].Kind != kind {
			t.Errorf("Receive of %d bytes = %d messages, %v, want one of kind %q", len(body), len(in.Messages), err, kind)
		}
	}
	big := []byte(`{"update_id":731000001,"message":{"message_id":1,"chat":{"id":1,"type":"private"},"text":"` +
		strings.Repeat("m", 1<<20) + `"}}`)
	in, err := new(telegram.Adapter).Receive(requestWithSecrets(secret)(endpoint(), "", big), endpoint(), "")
	if err != nil || len(in.Messages) != 1 {
		t.Fatalf("Receive = %v, %d messages, want 1", err, len(in.Messages))
	}
	m := in.Messages[0]
	if m.Kind != adapters.Undecodable || len(m.Raw) != 512<<10 || !strings.Contains(m.Key, ":x:731000001:") {
		t.Errorf("%s, %d bytes, key %q, want Undecodable with 512 KiB", m.Kind, len(m.Raw), m.Key)
	}
}

func TestReceive_BodyLimit(t *testing.T) {
	for name, length := range map[string]int64{"Told": 64 << 20, "Chunked": -1} {
		t.Run(name, func(t *testing.T) {
			r := requestWithSecrets(secret)(endpoint(), "", nil)
			body, read := adaptertest.CountingBody(64 << 20)
			r.Body, r.ContentLength = body, length
			if _, err := new(telegram.Adapter).Receive(r, endpoint(), ""); !errors.Is(err, adapters.ErrTooLarge) {
				t.Errorf("Receive = %v, want ErrTooLarge", err)
			}
			if n := read(); n > 5<<20 {
				t.Errorf("read %d bytes, want at most %d", n, 5<<20)
			}
		})
	}
}

func TestReceive_PreviousSecret(t *testing.T) {
	r := requestWithSecrets("hook-secret_0")(endpoint(), "", []byte(`{"update_id":1}`))
	if _, err := new(telegram.Adapter).Receive(r, endpoint(), ""); err != nil {
		t.Error(err)
	}
}

// TestReceive_TruncatedBody checks that a truncated body is rejected, so that Telegram sends it
// again.
func TestReceive_TruncatedBody(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"empty":          strings.NewReader(""),
		"connection cut": io.MultiReader(strings.NewReader(`{"update_id":1,`), failingReader{}),
	} {
		t.Run(name, func(t *testing.T) {
			r := requestWithSecrets(secret)(endpoint(), "", nil)
			r.Body, r.ContentLength = io.NopCloser(body), -1
			if _, err := new(telegram.Adapter).Receive(r, endpoint(), ""); !errors.Is(err, adapters.ErrMalformed) {
				t.Errorf("Receive = %v, want ErrMalformed", err)
			}
		})
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestAck_NoBody(t *testing.T) {
	r := requestWithSecrets(secret)(endpoint(), "", []byte(`{"update_id":1}`))
	in, err := new(telegram.Adapter).Receive(r, endpoint(), "")
	if err != nil {
		t.Fatal(err)
	}
	stored, failed := httptest.NewRecorder(), httptest.NewRecorder()
	in.Ack(stored, nil)
	in.Ack(failed, errors.New("disk full"))
	if stored.Code != http.StatusOK || stored.Body.Len() != 0 {
		t.Errorf("stored: %d %q, want 200 without a body", stored.Code, stored.Body)
	}
	if failed.Code != http.StatusServiceUnavailable || failed.Header().Get("Retry-After") == "" || failed.Body.Len() != 0 {
		t.Errorf("not stored: %d %v %q, want 503 with Retry-After", failed.Code, failed.Header(), failed.Body)
	}
}
