//go:build linux

package main

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A hookDraft is a request of a provider before it is signed.
type hookDraft struct {
	kind string // "telegram", "sms", "sms/status", "slack/events", …
	n    int    // what its ids are made of: another n is another message
	seat hookSeat

	key  string     // signs, or is the secret itself
	url  string     // that Twilio signs for
	form url.Values // where the body is a form
	body string     // where it is JSON
	at   time.Time  // of Slack
}

// channelOf gives the channel and the hook of a kind.
func channelOf(kind string) (channel, hook string) {
	channel, hook, _ = strings.Cut(kind, "/")
	return channel, hook
}

// markOf gives a word that is in every request, to look for afterwards.
func markOf(n int) string { return fmt.Sprintf("canary%dcanary", n) }

// draft gives the request that a provider makes of message n, not signed yet.
func draft(kind string, n int, seat hookSeat) *hookDraft {
	channel, hook := channelOf(kind)
	d := &hookDraft{kind: kind, n: n, seat: seat, at: time.Now(), url: hookURL(channel, hook, seat)}
	prefix := ""
	if channel == "whatsapp" {
		prefix = "whatsapp:"
	}
	switch kind {
	case "telegram":
		d.key = seat.telegramSecret
		d.body = fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":1700000000,"text":"hello %s","from":{"id":7001,"is_bot":false,"first_name":"Steve"},"chat":{"id":7001,"type":"private"}}}`, 1000+n, n, markOf(n))
	case "sms", "whatsapp":
		d.key = seat.token
		d.form = fields("MessageSid", sid(n), "SmsSid", sid(n), "AccountSid", seat.account, "From", prefix+"+14155550101", "To", prefix+seat.phone,
			"Body", "hello "+markOf(n), "NumMedia", "0", "NumSegments", "1", "SmsStatus", "received", "ApiVersion", "2010-04-01", "FromCity", "", "ToCountry", "US")
	case "sms/status", "whatsapp/status":
		d.key = seat.token
		d.form = fields("MessageSid", sid(n), "AccountSid", seat.account, "MessageStatus", "delivered", "To", prefix+"+14155550101", "From", prefix+seat.phone, "ApiVersion", "2010-04-01")
	case "slack/events":
		d.key = seat.signing
		d.body = fmt.Sprintf(`{"token":"deprecated","team_id":%q,"api_app_id":%q,"type":"event_callback","event_id":"Ev%d","event_time":1700000000,"authorizations":[{"enterprise_id":null,"team_id":%q,"user_id":"U0BOT0","is_bot":true}],"event":{"type":"message","channel_type":"im","channel":"D0STEVE","user":"U0STEVE","team":%q,"text":"hello %s","ts":"1700000000.%06d"}}`,
			seat.team, seat.app, n, seat.team, seat.team, markOf(n), n)
	case "slack/commands":
		d.key = seat.signing
		d.form = fields("team_id", seat.team, "api_app_id", seat.app, "user_id", "U0STEVE", "user_name", "steve", "channel_id", "D0STEVE", "channel_name", "directmessage",
			"command", "/hello", "text", markOf(n), "trigger_id", fmt.Sprintf("1.2.%d", n), "is_enterprise_install", "false")
	case "slack/interactivity":
		d.key = seat.signing
		d.form = fields("payload", fmt.Sprintf(`{"type":"block_actions","api_app_id":%q,"trigger_id":"3.4.%d","team":{"id":%q},"user":{"id":"U0STEVE","team_id":%q,"username":"steve"},"channel":{"id":"D0STEVE"},"container":{"message_ts":"1700000000.1","channel_id":"D0STEVE"},"actions":[{"action_id":"press","value":%q,"action_ts":"1700000000.2"}]}`,
			seat.app, n, seat.team, seat.team, markOf(n)))
	default:
		panic(kind)
	}
	return d
}

func sid(n int) string { return fmt.Sprintf("SM%032x", n) }

// stores reports how many messages a genuine request of the kind brings.
func stores(kind string) int {
	if strings.HasSuffix(kind, "/status") {
		return 0
	}
	return 1
}

// post signs the draft: the request as the provider makes it.
func (d *hookDraft) post() *hookPost {
	channel, hook := channelOf(d.kind)
	p := &hookPost{draft: d, method: "POST", target: hookPath(channel, hook, d.seat), host: strings.TrimPrefix(hookOrigin, "https://"), body: d.body}
	if d.form != nil {
		p.body = d.form.Encode()
		p.set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		p.set("Content-Type", "application/json")
	}
	switch channel {
	case "telegram":
		p.set(telegramProof, d.key)
	case "slack":
		p.set(slackStamp, strconv.FormatInt(d.at.Unix(), 10))
		p.set(slackProof, slackSignature(d.key, p.get(slackStamp), p.body))
	default:
		p.set(twilioProof, twilioSignature(d.key, d.url, d.form))
	}
	return p
}

const (
	telegramProof = "X-Telegram-Bot-Api-Secret-Token"
	twilioProof   = "X-Twilio-Signature"
	slackProof    = "X-Slack-Signature"
	slackStamp    = "X-Slack-Request-Timestamp"
)

// The signatures are written down here once more, as the providers document them.

func twilioSignature(token, u string, form url.Values) string {
	mac := hmac.New(sha1.New, []byte(token))
	_, _ = io.WriteString(mac, u)
	for _, key := range slices.Sorted(maps.Keys(form)) {
		values := slices.Compact(slices.Sorted(slices.Values(form[key])))
		for _, v := range values {
			_, _ = io.WriteString(mac, key+v)
		}
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func slackSignature(secret, timestamp, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, "v0:"+timestamp+":"+body)
	return "v0=" + hex.EncodeToString(mac.Sum(nil))
}

// A hookPost is a request as it goes over the wire, byte for byte.
type hookPost struct {
	draft  *hookDraft
	method string
	target string
	host   string
	lines  []string // of the header, without Host and what frames the body
	body   string

	frame []string // lines that frame the body; nil: Content-Length
	sent  string   // what is sent for the body, when it is not the body itself
	short bool     // the connection is closed for writing where the body was to go on
}

func (p *hookPost) set(name, value string) {
	p.del(name)
	p.add(name, value)
}

func (p *hookPost) add(name, value string) { p.lines = append(p.lines, name+": "+value) }

func (p *hookPost) del(name string) {
	p.lines = slices.DeleteFunc(p.lines, func(l string) bool { return strings.HasPrefix(strings.ToLower(l), strings.ToLower(name)+":") })
}

func (p *hookPost) get(name string) string {
	for _, l := range p.lines {
		if n, v, _ := strings.Cut(l, ":"); strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// proof is the name of the header that proves where the request comes from.
func (p *hookPost) proof() string {
	switch channel, _ := channelOf(p.draft.kind); channel {
	case "telegram":
		return telegramProof
	case "slack":
		return slackProof
	}
	return twilioProof
}

// chunked sends the body in chunks of size.
func (p *hookPost) chunked(size int) {
	p.frame = []string{"Transfer-Encoding: chunked"}
	p.sent = inChunks(p.body, size)
}

func inChunks(body string, size int) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// wire gives the bytes of the request.
func (p *hookPost) wire() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", p.method, p.target, p.host)
	frame, sent := p.frame, p.sent
	if frame == nil {
		frame = []string{"Content-Length: " + strconv.Itoa(len(p.body))}
	}
	if sent == "" {
		sent = p.body
	}
	for _, l := range append(slices.Clone(p.lines), frame...) {
		b.WriteString(l + "\r\n")
	}
	return b.String() + "\r\n" + sent
}

// A hookAnswer is what came back.
type hookAnswer struct {
	status int
	header http.Header
	body   string
}

// text is all of the answer.
func (a hookAnswer) text() string { return fmt.Sprint(a.status, a.header, a.body) }

// send makes a request over a connection of its own, from an address.
func (h *hookHouse) send(t *testing.T, from string, p *hookPost) hookAnswer {
	t.Helper()
	c := h.dial(t, from)
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, p.wire()); err != nil {
		t.Fatal(err)
	}
	if p.short {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	return read(t, bufio.NewReader(c), p.method)
}

func (h *hookHouse) dial(t *testing.T, from string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.DialContext(t.Context(), "tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// read reads one answer, and leaves what follows it.
func read(t *testing.T, from *bufio.Reader, method string) hookAnswer {
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
	return hookAnswer{res.StatusCode, res.Header, string(body)}
}
