//go:build unix

package rawhttp

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hydragate/e2e/harness"
)

// A UnsignedRequest is a request of a provider before it is signed.
type UnsignedRequest struct {
	Kind     string // "telegram", "sms", "sms/status", "slack/events", …
	Number   int    // what its ids are made of: another n is another message
	accounts InstanceAccounts

	key       string     // signs, or is the secret itself
	URL       string     // that Twilio signs for
	form      url.Values // where the body is a form
	body      string     // where it is JSON
	timestamp time.Time  // of Slack
}

// SplitKind gives the channel and the hook of a kind.
func SplitKind(kind string) (channel, hook string) {
	channel, hook, _ = strings.Cut(kind, "/")
	return channel, hook
}

// BodyMarker gives a word that is in every request, to look for afterwards.
func BodyMarker(n int) string { return fmt.Sprintf("canary%dcanary", n) }

// NewUnsignedRequest gives the request that a provider makes of message n, not signed yet.
func NewUnsignedRequest(kind string, n int, seat InstanceAccounts) *UnsignedRequest {
	channel, hook := SplitKind(kind)
	d := &UnsignedRequest{
		Kind:      kind,
		Number:    n,
		accounts:  seat,
		timestamp: time.Now(),
		URL:       webhookURL(channel, hook, seat),
	}
	prefix := ""
	if channel == "whatsapp" {
		prefix = "whatsapp:"
	}
	switch kind {
	case "telegram":
		d.key = seat.TelegramSecret
		d.body = fmt.Sprintf(
			`{"update_id":%d,"message":{"message_id":%d,"date":1700000000,"text":"hello %s","from":{"id":7001,"is_bot":false,"first_name":"Steve"},"chat":{"id":7001,"type":"private"}}}`,
			1000+n,
			n,
			BodyMarker(n),
		)
	case "sms", "whatsapp":
		d.key = seat.AuthToken
		d.form = formValues(
			"MessageSid",
			messageSID(n),
			"SmsSid",
			messageSID(n),
			"AccountSid",
			seat.AccountSID,
			"From",
			prefix+"+14155550101",
			"To",
			prefix+seat.Phone,
			"Body",
			"hello "+BodyMarker(n),
			"NumMedia",
			"0",
			"NumSegments",
			"1",
			"SmsStatus",
			"received",
			"ApiVersion",
			"2010-04-01",
			"FromCity",
			"",
			"ToCountry",
			"US",
		)
	case "sms/status", "whatsapp/status":
		d.key = seat.AuthToken
		d.form = formValues(
			"MessageSid",
			messageSID(n),
			"AccountSid",
			seat.AccountSID,
			"MessageStatus",
			"delivered",
			"To",
			prefix+"+14155550101",
			"From",
			prefix+seat.Phone,
			"ApiVersion",
			"2010-04-01",
		)
	case "slack/events":
		d.key = seat.SigningSecret
		d.body = fmt.Sprintf(
			`{"token":"deprecated","team_id":%q,"api_app_id":%q,"type":"event_callback","event_id":"Ev%d","event_time":1700000000,"authorizations":[{"enterprise_id":null,"team_id":%q,"user_id":"U0BOT0","is_bot":true}],"event":{"type":"message","channel_type":"im","channel":"D0STEVE","user":"U0STEVE","team":%q,"text":"hello %s","ts":"1700000000.%06d"}}`,
			seat.TeamID,
			seat.AppID,
			n,
			seat.TeamID,
			seat.TeamID,
			BodyMarker(n),
			n,
		)
	case "slack/commands":
		d.key = seat.SigningSecret
		d.form = formValues(
			"team_id",
			seat.TeamID,
			"api_app_id",
			seat.AppID,
			"user_id",
			"U0STEVE",
			"user_name",
			"steve",
			"channel_id",
			"D0STEVE",
			"channel_name",
			"directmessage",
			"command",
			"/hello",
			"text",
			BodyMarker(n),
			"trigger_id",
			fmt.Sprintf("1.2.%d", n),
			"is_enterprise_install",
			"false",
		)
	case "slack/interactivity":
		d.key = seat.SigningSecret
		d.form = formValues(
			"payload",
			fmt.Sprintf(
				`{"type":"block_actions","api_app_id":%q,"trigger_id":"3.4.%d","team":{"id":%q},"user":{"id":"U0STEVE","team_id":%q,"username":"steve"},"channel":{"id":"D0STEVE"},"container":{"message_ts":"1700000000.1","channel_id":"D0STEVE"},"actions":[{"action_id":"press","value":%q,"action_ts":"1700000000.2"}]}`,
				seat.AppID,
				n,
				seat.TeamID,
				seat.TeamID,
				BodyMarker(n),
			),
		)
	default:
		panic(kind)
	}
	return d
}

func messageSID(n int) string { return fmt.Sprintf("SM%032x", n) }

// StoredMessages reports how many messages a genuine request of the kind brings.
func StoredMessages(kind string) int {
	if strings.HasSuffix(kind, "/status") {
		return 0
	}
	return 1
}

// Sign signs the draft: the request as the provider makes it.
func (d *UnsignedRequest) Sign() *RawRequest {
	channel, hook := SplitKind(d.Kind)
	p := &RawRequest{
		Unsigned: d,
		Method:   "POST",
		Target:   webhookPath(channel, hook, d.accounts),
		Host:     strings.TrimPrefix(webhookOrigin, "https://"),
		Body:     d.body,
	}
	if d.form != nil {
		p.Body = d.form.Encode()
		p.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		p.Set("Content-Type", "application/json")
	}
	switch channel {
	case "telegram":
		p.Set(TelegramSecretHeader, d.key)
	case "slack":
		p.Set(SlackTimestampHeader, strconv.FormatInt(d.timestamp.Unix(), 10))
		p.Set(SlackSignatureHeader, harness.SlackSignature(d.key, p.Get(SlackTimestampHeader), p.Body))
	default:
		p.Set(TwilioSignatureHeader, harness.TwilioSignature(d.key, d.URL, d.form))
	}
	return p
}

const (
	TelegramSecretHeader  = "X-Telegram-Bot-Api-Secret-Token"
	TwilioSignatureHeader = "X-Twilio-Signature"
	SlackSignatureHeader  = "X-Slack-Signature"
	SlackTimestampHeader  = "X-Slack-Request-Timestamp"
)

// A RawRequest is a request as it goes over the wire, byte for byte.
type RawRequest struct {
	Unsigned    *UnsignedRequest
	Method      string
	Target      string
	Host        string
	HeaderLines []string // of the header, without Host and what frames the body
	Body        string

	Framing   []string // lines that frame the body; nil: Content-Length
	WireBody  string   // what is sent for the body, when it is not the body itself
	truncated bool     // the connection is closed for writing where the body was to go on
}

func (p *RawRequest) Set(name, value string) {
	p.Del(name)
	p.Add(name, value)
}

func (p *RawRequest) Add(name, value string) { p.HeaderLines = append(p.HeaderLines, name+": "+value) }

func (p *RawRequest) Del(name string) {
	p.HeaderLines = slices.DeleteFunc(
		p.HeaderLines,
		func(l string) bool { return strings.HasPrefix(strings.ToLower(l), strings.ToLower(name)+":") },
	)
}

func (p *RawRequest) Get(name string) string {
	for _, l := range p.HeaderLines {
		if n, v, _ := strings.Cut(l, ":"); strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// SignatureHeader is the name of the header that proves where the request comes from.
func (p *RawRequest) SignatureHeader() string {
	switch channel, _ := SplitKind(p.Unsigned.Kind); channel {
	case "telegram":
		return TelegramSecretHeader
	case "slack":
		return SlackSignatureHeader
	}
	return TwilioSignatureHeader
}

// UseChunks sends the body in chunks of size.
func (p *RawRequest) UseChunks(size int) {
	p.Framing = []string{"Transfer-Encoding: chunked"}
	p.WireBody = chunkedBody(p.Body, size)
}

func chunkedBody(body string, size int) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// Encode gives the bytes of the request.
func (p *RawRequest) Encode() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", p.Method, p.Target, p.Host)
	frame, sent := p.Framing, p.WireBody
	if frame == nil {
		frame = []string{"Content-Length: " + strconv.Itoa(len(p.Body))}
	}
	if sent == "" {
		sent = p.Body
	}
	for _, l := range append(slices.Clone(p.HeaderLines), frame...) {
		b.WriteString(l + "\r\n")
	}
	return b.String() + "\r\n" + sent
}

// Send makes a request over a connection of its own, from an address.
func (h *WebhookFixture) Send(t *testing.T, from string, p *RawRequest) harness.Response {
	t.Helper()
	c := h.Dial(t, from)
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, p.Encode()); err != nil {
		t.Fatal(err)
	}
	if p.truncated {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	return ReadResponse(t, bufio.NewReader(c), p.Method)
}

func (h *WebhookFixture) Dial(t *testing.T, from string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: harness.EventTimeout}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.DialContext(t.Context(), "tcp", h.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(harness.EventTimeout)); err != nil {
		t.Fatal(err)
	}
	return c
}

// ReadResponse reads one answer, and leaves what follows it.
func ReadResponse(t *testing.T, from *bufio.Reader, method string) harness.Response {
	t.Helper()
	res, err := http.ReadResponse(from, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return harness.Response{Status: res.StatusCode, Header: res.Header, Body: string(body)}
}

func Gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

// WrongSignature is as well-formed as a right one.
func WrongSignature(p *RawRequest) string {
	right := p.Get(p.SignatureHeader())
	if strings.HasPrefix(right, "v0=") {
		return "v0=" + strings.Repeat("0", 64)
	}
	return strings.Repeat("A", len(right)-1) + "="
}
