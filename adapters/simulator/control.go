package simulator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"hydragate/adapters"
)

// A Control sends messages as a person on the simulated channels, and returns the transcript. A
// message takes the same path as a real one: the simulated provider posts it, signed, to the
// gateway's webhook.
//
// It is an http.Handler with four routes: GET / returns a ControlInfo, POST /say accepts a
// SendRequest and returns a SendResponse, POST /fault accepts a FaultRequest, and
// GET /transcript?channel=&as=&after=&wait= returns a TranscriptPage. Errors are {"error": "…"}. It has no
// authentication and must only be served on loopback.
type Control struct {
	Telegram *Telegram
	Bot      string // the bot's username on Telegram

	Twilio         *Twilio
	SMSNumber      string
	WhatsAppNumber string

	Slack *Slack
	AppID string
	// SocketAppID is an app in Socket Mode that receives messages in place of AppID while it is
	// connected. It may be empty.
	SocketAppID string
	Team        string // workspace of user IDs without a team
}

// A ControlInfo holds the address of the bot on each channel.
type ControlInfo struct {
	Addresses map[adapters.Channel]string `json:"addresses"`
}

// A SendRequest is a message of a person. Sender is the external ID: Telegram's numeric user ID, a
// phone number, or Slack's user ID with or without "team:" before it.
type SendRequest struct {
	Channel adapters.Channel `json:"channel"`
	Sender  string           `json:"as"`
	Name    string           `json:"name,omitempty"`
	Text    string           `json:"text"`

	// Payload is sent in place of a text: what the provider sends for a message or an interaction of
	// another kind. The provider adds what identifies the person and the bot. On SMS and WhatsApp it is an
	// object of Twilio's parameters, all of them strings; From may be an address of another kind, and each
	// MediaContentTypeN adds a file. On Telegram it is an update without its number, such as
	// {"message": {"dice": {"value": 4}}}.
	Payload json.RawMessage `json:"payload,omitempty"`
}

// A SendResponse is the result of a SendRequest. Reply is the text of the response to a slash
// command, which Slack shows to the sender.
type SendResponse struct {
	Reply string `json:"answer,omitempty"`
}

// A TranscriptPage is a part of a conversation. Next is the value of "after" for the next page.
type TranscriptPage struct {
	Lines []TranscriptLine `json:"lines"`
	Next  int              `json:"next"`
}

// A TranscriptLine is a message in a conversation. The provider is the sender of messages such as
// Twilio's reply to STOP.
type TranscriptLine struct {
	From    string    `json:"from"` // FromPerson, FromBot or FromProvider
	Private bool      `json:"private"`
	Text    string    `json:"text"`
	At      time.Time `json:"at"`
}

// Values of TranscriptLine.From.
const (
	FromPerson   = "person"
	FromBot      = "bot"
	FromProvider = "provider"
)

// Errors of Send.
var (
	// ErrUnknownSender means that the channel or the sender does not exist, or that the text is empty.
	ErrUnknownSender = errors.New("invalid message")
	// ErrNotAccepted means that the gateway did not accept the webhook of the message.
	ErrNotAccepted = errors.New("the gateway did not accept the message")
)

// Send sends a message as a person and returns when the gateway has accepted it. reply is the text
// of the response to a slash command on Slack.
func (c *Control) Send(ctx context.Context, s SendRequest) (reply string, err error) {
	if _, _, err := c.Conversation(s.Channel, s.Sender); err != nil {
		return "", err
	}
	if len(s.Payload) > 0 {
		return "", c.sendPayload(ctx, s)
	}
	if strings.TrimSpace(s.Text) == "" {
		return "", fmt.Errorf("%w: the text is empty", ErrUnknownSender)
	}
	switch s.Channel {
	case adapters.Telegram:
		return "", c.sendTelegram(ctx, s)
	case adapters.SMS:
		return "", c.sendTwilio(s.Sender, c.SMSNumber, s.Text)
	case adapters.WhatsApp:
		name := TwilioParam("ProfileName", cmp.Or(s.Name, s.Sender))
		return "", c.sendTwilio(whatsAppPrefix+s.Sender, whatsAppPrefix+c.WhatsAppNumber, s.Text, name)
	default: // Conversation accepts no other channel
		return c.sendSlack(ctx, s)
	}
}

func (c *Control) sendTelegram(ctx context.Context, s SendRequest) error {
	id, _ := strconv.ParseInt(s.Sender, 10, 64) // validated by Conversation
	return c.waitTelegram(ctx, c.Telegram.SendText(c.Bot, TelegramUser{ID: id, FirstName: s.Name}, s.Text))
}

// waitTelegram returns when the gateway has accepted an update.
func (c *Control) waitTelegram(ctx context.Context, update int64) error {
	if update == 0 {
		return fmt.Errorf("%w: the bot has no webhook", ErrNotAccepted)
	}
	if _, err := c.Telegram.WaitDelivered(ctx, update); err != nil {
		return fmt.Errorf("%w: %w", ErrNotAccepted, err)
	}
	return nil
}

func (c *Control) sendTwilio(from, to, text string, options ...TwilioOption) error {
	sid := c.Twilio.SendText(from, to, text, options...)
	if sid == "" || !c.Twilio.Delivered(sid) {
		return ErrNotAccepted
	}
	return nil
}

func (c *Control) sendSlack(ctx context.Context, s SendRequest) (reply string, err error) {
	u := c.slackUser(s.Sender)
	u.Name = s.Name
	if !strings.HasPrefix(s.Text, "/") {
		d, err := c.Slack.SendText(ctx, c.activeAppID(), u, s.Text)
		if err == nil && !d.Accepted() {
			err = ErrNotAccepted
		}
		return "", err
	}
	command, text, _ := strings.Cut(s.Text, " ")
	response, err := c.Slack.SendCommand(ctx, c.activeAppID(), u, "", command, strings.TrimSpace(text))
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrNotAccepted, err)
	case response.Status/100 != 2:
		return "", ErrNotAccepted
	}
	return response.Text, nil
}

// sendPayload sends a message in the form of its provider.
func (c *Control) sendPayload(ctx context.Context, s SendRequest) error {
	switch s.Channel {
	case adapters.Slack:
	case adapters.SMS:
		return c.sendParameters(s.Sender, c.SMSNumber, s.Payload)
	case adapters.WhatsApp:
		return c.sendParameters(whatsAppPrefix+s.Sender, whatsAppPrefix+c.WhatsAppNumber, s.Payload)
	case adapters.Telegram:
		id, _ := strconv.ParseInt(s.Sender, 10, 64) // validated by Conversation
		update, err := c.Telegram.SendPayload(c.Bot, TelegramUser{ID: id, FirstName: s.Name}, s.Payload)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnknownSender, err)
		}
		return c.waitTelegram(ctx, update)
	}
	u := c.slackUser(s.Sender)
	u.Name = s.Name
	accepted, err := c.Slack.SendPayload(ctx, c.activeAppID(), u, s.Payload)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnknownSender, err)
	case !accepted:
		return ErrNotAccepted
	}
	return nil
}

// sendParameters sends a message with parameters of Twilio, whose names begin with a capital letter.
func (c *Control) sendParameters(from, to string, payload json.RawMessage) error {
	var parameters map[string]string
	if err := json.Unmarshal(payload, &parameters); err != nil || len(parameters) == 0 {
		return fmt.Errorf("%w: a payload is an object of Twilio's parameters, all of them strings", ErrUnknownSender)
	}
	var options []TwilioOption
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		switch value := parameters[name]; {
		case name == "" || name[0] < 'A' || name[0] > 'Z':
			return fmt.Errorf("%w: %q is not a parameter of Twilio", ErrUnknownSender, name)
		case name == "From":
			from = value
		case strings.HasPrefix(name, "MediaContentType"):
			options = append(options, TwilioMedia(value))
		default:
			options = append(options, TwilioParam(name, value))
		}
	}
	return c.sendTwilio(from, to, parameters["Body"], options...)
}

// Conversation returns the transcript of a channel and the chat of a person with the bot in it. It
// returns ErrUnknownSender if the channel does not exist or sender is not an external ID of it.
func (c *Control) Conversation(
	channel adapters.Channel, sender string,
) (t *Transcript, chat string, err error) {
	invalid := func(want string) error { return fmt.Errorf("%w: %s", ErrUnknownSender, want) }
	switch channel {
	case adapters.Telegram:
		if id, err := strconv.ParseInt(sender, 10, 64); err != nil || id <= 0 || strconv.FormatInt(id, 10) != sender {
			return nil, "", invalid("a Telegram user ID is a number, such as 12345")
		}
		return &c.Telegram.Transcript, sender, nil
	case adapters.SMS, adapters.WhatsApp:
		if !isE164(sender) {
			return nil, "", invalid("a phone number includes the country code, such as +12025550123")
		}
		if channel == adapters.WhatsApp {
			sender = whatsAppPrefix + sender
		}
		return &c.Twilio.Transcript, sender, nil
	case adapters.Slack:
		u := c.slackUser(sender)
		if !strings.HasPrefix(u.Team, "T") || !strings.HasPrefix(u.ID, "U") && !strings.HasPrefix(u.ID, "W") {
			return nil, "", invalid("a Slack user ID begins with U or W, such as U023BECGF")
		}
		return &c.Slack.Transcript, u.Chat(), nil
	}
	return nil, "", invalid("the channel must be telegram, sms, whatsapp or slack")
}

// activeAppID returns the Slack app that receives messages now.
func (c *Control) activeAppID() string {
	if c.SocketAppID != "" && c.Slack.SocketCount(c.SocketAppID) > 0 {
		return c.SocketAppID
	}
	return c.AppID
}

func (c *Control) slackUser(sender string) SlackUser {
	sender = strings.ToUpper(sender)
	if team, id, ok := strings.Cut(sender, ":"); ok {
		return SlackUser{Team: team, ID: id}
	}
	return SlackUser{Team: c.Team, ID: sender}
}

// ServeHTTP handles the routes for programs on this machine. It rejects requests that a web
// page could send from a browser.
func (c *Control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isLoopback(r.Host) {
		writeControlError(w, http.StatusForbidden, errors.New("only available to programs on this machine"))
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /":
		writeControlJSON(w, http.StatusOK, ControlInfo{Addresses: map[adapters.Channel]string{
			adapters.Telegram: "@" + c.Bot, adapters.SMS: c.SMSNumber,
			adapters.WhatsApp: c.WhatsAppNumber, adapters.Slack: c.Team,
		}})
	case "POST /say":
		c.serveSend(w, r)
	case "POST /fault":
		c.serveFault(w, r)
	case "GET /transcript":
		c.serveTranscript(w, r)
	default:
		writeControlError(w, http.StatusNotFound,
			errors.New("the routes are GET /, POST /say, POST /fault and GET /transcript"))
	}
}

// isLoopback reports whether the Host of a request is localhost or a loopback address. Other names
// that resolve to loopback are not accepted, which prevents DNS rebinding.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && a.IsLoopback()
}

const maxSendRequest = 256 << 10

// readControl decodes the body of a request. If it is invalid, readControl answers and returns false.
func readControl(w http.ResponseWriter, r *http.Request, fields string, into any) bool {
	if r.Header.Get("Content-Type") != "application/json" { // a form on a web page cannot send it
		err := errors.New("the Content-Type must be application/json")
		writeControlError(w, http.StatusUnsupportedMediaType, err)
		return false
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSendRequest)).Decode(into); err != nil {
		writeControlError(w, http.StatusBadRequest, errors.New("the body must be JSON with "+fields))
		return false
	}
	return true
}

func (c *Control) serveFault(w http.ResponseWriter, r *http.Request) {
	var f FaultRequest
	if !readControl(w, r, "channel, fault and end", &f) {
		return
	}
	switch err := c.SetFault(r.Context(), f); {
	case errors.Is(err, ErrUnknownFault):
		writeControlError(w, http.StatusBadRequest, err)
	case err != nil:
		writeControlError(w, http.StatusBadGateway, err)
	default:
		writeControlJSON(w, http.StatusOK, f)
	}
}

func (c *Control) serveSend(w http.ResponseWriter, r *http.Request) {
	var s SendRequest
	if !readControl(w, r, "channel, as, name and text", &s) {
		return
	}
	reply, err := c.Send(r.Context(), s)
	switch {
	case errors.Is(err, ErrUnknownSender):
		writeControlError(w, http.StatusBadRequest, err)
	case err != nil:
		writeControlError(w, http.StatusBadGateway, err)
	default:
		writeControlJSON(w, http.StatusAccepted, SendResponse{Reply: reply})
	}
}

// maxTranscriptWait limits how long a request for the transcript waits for new lines.
const maxTranscriptWait = 60 * time.Second

func (c *Control) serveTranscript(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	t, chat, err := c.Conversation(adapters.Channel(q.Get("channel")), q.Get("as"))
	if err != nil {
		writeControlError(w, http.StatusBadRequest, err)
		return
	}
	after, _ := strconv.Atoi(q.Get("after"))
	seconds, _ := strconv.Atoi(q.Get("wait"))
	ctx, cancel := context.WithTimeout(r.Context(), min(time.Duration(max(seconds, 0))*time.Second, maxTranscriptWait))
	defer cancel()
	writeControlJSON(w, http.StatusOK, t.waitPage(ctx, chat, max(after, 0)))
}

// waitPage returns the lines of chat after the first after lines. If there are none, it waits until
// there are or ctx ends.
func (t *Transcript) waitPage(ctx context.Context, chat string, after int) TranscriptPage {
	for {
		changed := t.watch()
		lines := t.Lines(chat)
		if len(lines) > after || ctx.Err() != nil {
			page := TranscriptPage{Lines: []TranscriptLine{}, Next: len(lines)}
			for _, l := range lines[min(after, len(lines)):] {
				page.Lines = append(page.Lines, TranscriptLine{
					From: l.source(), Private: l.Private, Text: l.Text, At: l.At,
				})
			}
			return page
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (l Line) source() string {
	switch l.Sender {
	case "":
		return FromBot
	case l.Chat:
		return FromPerson
	}
	return FromProvider
}

func writeControlError(w http.ResponseWriter, status int, err error) {
	writeControlJSON(w, status, map[string]string{"error": err.Error()})
}

func writeControlJSON(w http.ResponseWriter, status int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	writeJSON(w, status, doc)
}
