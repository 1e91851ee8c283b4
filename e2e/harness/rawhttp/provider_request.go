//go:build unix

package rawhttp

import (
	"bufio"
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

// An UnsignedRequest is a request of a provider before it is signed.
type UnsignedRequest struct {
	Kind     string // "telegram", "sms", "sms/status", "slack/events", …
	Number   int    // determines the message IDs
	accounts InstanceAccounts

	key       string     // the signing key, or the secret of Telegram
	URL       string     // signed by Twilio
	form      url.Values // the body, if it is a form
	body      string     // the body, if it is JSON
	timestamp time.Time  // signed by Slack
}

// SplitKind returns the channel of a kind and the last segment of its webhook path, which may be
// empty.
func SplitKind(kind string) (channel, subpath string) {
	channel, subpath, _ = strings.Cut(kind, "/")
	return channel, subpath
}

// BodyMarker returns a word that occurs in the text of message n only, so that tests can search
// for it.
func BodyMarker(n int) string { return fmt.Sprintf("canary%dcanary", n) }

// NewUnsignedRequest returns the request that a provider makes for message n, before it is signed.
func NewUnsignedRequest(kind string, n int, accounts InstanceAccounts) *UnsignedRequest {
	channel, subpath := SplitKind(kind)
	d := &UnsignedRequest{
		Kind:      kind,
		Number:    n,
		accounts:  accounts,
		timestamp: time.Now(),
		URL:       webhookURL(channel, subpath, accounts),
	}
	prefix := ""
	if channel == "whatsapp" {
		prefix = "whatsapp:"
	}
	switch kind {
	case "telegram":
		d.key = accounts.TelegramSecret
		d.body = fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":1700000000,"text":"hello %s",`+
			`"from":{"id":7001,"is_bot":false,"first_name":"Steve"},"chat":{"id":7001,"type":"private"}}}`,
			1000+n, n, BodyMarker(n))
	case "sms", "whatsapp":
		d.key = accounts.AuthToken
		d.form = formValues(
			"MessageSid", messageSID(n),
			"SmsSid", messageSID(n),
			"AccountSid", accounts.AccountSID,
			"From", prefix+"+14155550101",
			"To", prefix+accounts.Phone,
			"Body", "hello "+BodyMarker(n),
			"NumMedia", "0",
			"NumSegments", "1",
			"SmsStatus", "received",
			"ApiVersion", "2010-04-01",
			"FromCity", "",
			"ToCountry", "US",
		)
	case "sms/status", "whatsapp/status":
		d.key = accounts.AuthToken
		d.form = formValues(
			"MessageSid", messageSID(n),
			"AccountSid", accounts.AccountSID,
			"MessageStatus", "delivered",
			"To", prefix+"+14155550101",
			"From", prefix+accounts.Phone,
			"ApiVersion", "2010-04-01",
		)
	case "slack/events":
		d.key = accounts.SigningSecret
		d.body = fmt.Sprintf(`{"token":"deprecated","team_id":%q,"api_app_id":%q,"type":"event_callback",`+
			`"event_id":"Ev%d","event_time":1700000000,`+
			`"authorizations":[{"enterprise_id":null,"team_id":%[1]q,"user_id":"U0BOT0","is_bot":true}],`+
			`"event":{"type":"message","channel_type":"im","channel":"D0STEVE","user":"U0STEVE","team":%[1]q,`+
			`"text":"hello %[4]s","ts":"1700000000.%06[3]d"}}`,
			accounts.TeamID, accounts.AppID, n, BodyMarker(n))
	case "slack/commands":
		d.key = accounts.SigningSecret
		d.form = formValues(
			"team_id", accounts.TeamID,
			"api_app_id", accounts.AppID,
			"user_id", "U0STEVE",
			"user_name", "steve",
			"channel_id", "D0STEVE",
			"channel_name", "directmessage",
			"command", "/hello",
			"text", BodyMarker(n),
			"trigger_id", fmt.Sprintf("1.2.%d", n),
			"is_enterprise_install", "false",
		)
	case "slack/interactivity":
		d.key = accounts.SigningSecret
		d.form = formValues("payload", fmt.Sprintf(
			`{"type":"block_actions","api_app_id":%q,"trigger_id":"3.4.%d","team":{"id":%q},`+
				`"user":{"id":"U0STEVE","team_id":%[3]q,"username":"steve"},"channel":{"id":"D0STEVE"},`+
				`"container":{"message_ts":"1700000000.1","channel_id":"D0STEVE"},`+
				`"actions":[{"action_id":"press","value":%[4]q,"action_ts":"1700000000.2"}]}`,
			accounts.AppID, n, accounts.TeamID, BodyMarker(n)))
	default:
		panic(kind)
	}
	return d
}

// messageSID returns the Twilio SID of message n.
func messageSID(n int) string { return fmt.Sprintf("SM%032x", n) }

// StoredMessages returns the number of messages that the gateway stores for a genuine request.
func StoredMessages(kind string) int {
	if strings.HasSuffix(kind, "/status") {
		return 0
	}
	return 1
}

// Sign returns the signed request, as the provider sends it.
func (d *UnsignedRequest) Sign() *RawRequest {
	channel, subpath := SplitKind(d.Kind)
	p := &RawRequest{
		Unsigned: d,
		Method:   "POST",
		Target:   webhookPath(channel, subpath, d.accounts),
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

// The headers in which providers authenticate their requests.
const (
	TelegramSecretHeader  = "X-Telegram-Bot-Api-Secret-Token"
	TwilioSignatureHeader = "X-Twilio-Signature"
	SlackSignatureHeader  = "X-Slack-Signature"
	SlackTimestampHeader  = "X-Slack-Request-Timestamp"
)

// A RawRequest is a request as it is sent, byte for byte. It need not be valid HTTP.
type RawRequest struct {
	Unsigned    *UnsignedRequest
	Method      string
	Target      string
	Host        string
	HeaderLines []string // without Host and the lines in Framing
	Body        string

	Framing   []string // header lines that frame the body; nil: the correct Content-Length
	WireBody  string   // sent instead of Body if not empty
	truncated bool     // the connection is closed for writing after the body
}

// Set replaces all lines of a header with one.
func (p *RawRequest) Set(name, value string) {
	p.Del(name)
	p.Add(name, value)
}

// Add appends a header line.
func (p *RawRequest) Add(name, value string) { p.HeaderLines = append(p.HeaderLines, name+": "+value) }

// Del removes all lines of a header.
func (p *RawRequest) Del(name string) {
	p.HeaderLines = slices.DeleteFunc(
		p.HeaderLines,
		func(l string) bool { return strings.HasPrefix(strings.ToLower(l), strings.ToLower(name)+":") },
	)
}

// Get returns the first value of a header, or an empty string if there is none.
func (p *RawRequest) Get(name string) string {
	for _, l := range p.HeaderLines {
		if n, v, _ := strings.Cut(l, ":"); strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// SignatureHeader returns the name of the header that contains the signature or the secret.
func (p *RawRequest) SignatureHeader() string {
	switch channel, _ := SplitKind(p.Unsigned.Kind); channel {
	case "telegram":
		return TelegramSecretHeader
	case "slack":
		return SlackSignatureHeader
	}
	return TwilioSignatureHeader
}

// UseChunks makes the body be sent in chunks of the given size.
func (p *RawRequest) UseChunks(size int) {
	p.Framing = []string{"Transfer-Encoding: chunked"}
	p.WireBody = chunkedBody(p.Body, size)
}

// chunkedBody returns body in the chunked transfer coding.
func chunkedBody(body string, size int) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// Encode returns the bytes of the request.
func (p *RawRequest) Encode() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", p.Method, p.Target, p.Host)
	framing, body := p.Framing, p.WireBody
	if framing == nil {
		framing = []string{"Content-Length: " + strconv.Itoa(len(p.Body))}
	}
	if body == "" {
		body = p.Body
	}
	for _, l := range append(slices.Clone(p.HeaderLines), framing...) {
		b.WriteString(l + "\r\n")
	}
	return b.String() + "\r\n" + body
}

// Send sends a request on a new connection from the given address, and returns the response.
func (h *WebhookFixture) Send(from string, p *RawRequest) harness.Response {
	h.T.Helper()
	c := h.Dial(from)
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, p.Encode()); err != nil {
		h.T.Fatal(err)
	}
	if p.truncated {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			h.T.Fatal(err)
		}
	}
	return ReadResponse(h.T, bufio.NewReader(c), p.Method)
}

// Dial connects to the gateway from the given address, or from any if from is empty.
func (h *WebhookFixture) Dial(from string) net.Conn {
	h.T.Helper()
	d := net.Dialer{Timeout: harness.EventTimeout}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.DialContext(h.T.Context(), "tcp", h.Gateway.Addr)
	if err != nil {
		h.T.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(harness.EventTimeout)); err != nil {
		h.T.Fatal(err)
	}
	return c
}

// ReadResponse reads one response to a request with the given method. It leaves the bytes that
// follow the response in from.
func ReadResponse(t *testing.T, from *bufio.Reader, method string) harness.Response {
	t.Helper()
	res, err := http.ReadResponse(from, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("ReadResponse: %v", err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return harness.Response{Status: res.StatusCode, Header: res.Header, Body: string(body)}
}

// WrongSignature returns a well-formed but invalid signature for p.
func WrongSignature(p *RawRequest) string {
	valid := p.Get(p.SignatureHeader())
	if strings.HasPrefix(valid, "v0=") {
		return "v0=" + strings.Repeat("0", 64)
	}
	return strings.Repeat("A", len(valid)-1) + "="
}
