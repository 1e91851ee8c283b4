package simulator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"hydragate/adapters"
)

// A Control lets anybody at this machine type as a person on the pretend channels,
// and read what was said there. What is typed takes the way of a real message: the
// pretend provider posts it, signed, to the gateway's hook.
//
// It serves three calls: GET / gives a Lobby, POST /say takes a Saying and gives a
// Said, and GET /transcript?channel=&as=&after=&wait= gives a Talk. Errors are
// {"error": "…"}. Serve it on loopback alone: it asks nobody for a password.
type Control struct {
	Telegram *Telegram
	Bot      string // username of the bot on Telegram

	Twilio         *Twilio
	SMSNumber      string
	WhatsAppNumber string

	Slack *Slack
	AppID string
	// SocketAppID is another app, in Socket Mode, that hears people instead as long as it
	// is connected; empty: there is none.
	SocketAppID string
	Team        string // workspace of people whose ids name none
}

// A ControlInfo says where the bot can be written to, by channel.
type ControlInfo struct {
	Addresses map[adapters.Channel]string `json:"addresses"`
}

// A SendRequest is what a person types. As is the external id: Telegram's numeric user
// id, a phone number, or Slack's user id, with or without the team before it.
type SendRequest struct {
	Channel adapters.Channel `json:"channel"`
	Sender  string           `json:"as"`
	Name    string           `json:"name,omitempty"`
	Text    string           `json:"text"`
}

// A SendResponse is what became of a Saying. Answer is what Slack shows at once to who typed
// a slash command.
type SendResponse struct {
	Reply string `json:"answer,omitempty"`
}

// A TranscriptPage is a part of a conversation. Next is the number to ask for what follows.
type TranscriptPage struct {
	Lines []TranscriptLine `json:"lines"`
	Next  int              `json:"next"`
}

// A TranscriptLine is something said in a conversation: by the person, by the bot or, as
// Twilio answers to STOP, by the provider.
type TranscriptLine struct {
	From    string    `json:"from"` // FromPerson, FromBot or FromProvider
	Private bool      `json:"private"`
	Text    string    `json:"text"`
	At      time.Time `json:"at"`
}

// Who says a TalkLine.
const (
	FromPerson   = "person"
	FromBot      = "bot"
	FromProvider = "provider"
)

// Errors of Say.
var (
	// ErrUnknownSender says that there is no such channel, or nobody of this name on it.
	ErrUnknownSender = errors.New("nobody can type that")
	// ErrNotAccepted says that the gateway did not take the message from the provider.
	ErrNotAccepted = errors.New("the gateway did not take the message")
)

// Send types a text as a person and returns when the gateway has taken it. answer is
// what Slack shows at once to who typed a slash command.
func (c *Control) Send(ctx context.Context, s SendRequest) (answer string, err error) {
	if _, _, err := c.Conversation(s.Channel, s.Sender); err != nil {
		return "", err
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
		return "", c.sendTwilio(whatsAppPrefix+s.Sender, whatsAppPrefix+c.WhatsAppNumber, s.Text, TwilioParam("ProfileName", cmp.Or(s.Name, s.Sender)))
	}
	return c.sendSlack(ctx, s)
}

func (c *Control) sendTelegram(ctx context.Context, s SendRequest) error {
	id, _ := strconv.ParseInt(s.Sender, 10, 64) // Conversation has read it
	update := c.Telegram.SendText(c.Bot, TelegramUser{ID: id, FirstName: s.Name}, s.Text)
	if update == 0 {
		return fmt.Errorf("%w: the bot is not set up", ErrNotAccepted)
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

func (c *Control) sendSlack(ctx context.Context, s SendRequest) (answer string, err error) {
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
	a, err := c.Slack.SendCommand(ctx, c.activeAppID(), u, "", command, strings.TrimSpace(text))
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrNotAccepted, err)
	case a.Status/100 != 2:
		return "", ErrNotAccepted
	}
	return a.Text, nil
}

// Conversation gives what is said between a person and the bot, and the name of that
// chat in it.
func (c *Control) Conversation(channel adapters.Channel, as string) (t *Transcript, chat string, err error) {
	wrong := func(right string) error { return fmt.Errorf("%w: %s", ErrUnknownSender, right) }
	switch channel {
	case adapters.Telegram:
		if id, err := strconv.ParseInt(as, 10, 64); err != nil || id <= 0 || strconv.FormatInt(id, 10) != as {
			return nil, "", wrong("people on Telegram have a number, such as 12345")
		}
		return &c.Telegram.Transcript, as, nil
	case adapters.SMS, adapters.WhatsApp:
		if !isE164(as) {
			return nil, "", wrong("phone numbers are written with their country code, such as +12025550123")
		}
		if channel == adapters.WhatsApp {
			as = whatsAppPrefix + as
		}
		return &c.Twilio.Transcript, as, nil
	case adapters.Slack:
		u := c.slackUser(as)
		if !strings.HasPrefix(u.Team, "T") || !strings.HasPrefix(u.ID, "U") && !strings.HasPrefix(u.ID, "W") {
			return nil, "", wrong("people on Slack have a user id, such as U023BECGF")
		}
		return &c.Slack.Transcript, u.Chat(), nil
	}
	return nil, "", wrong("there are the channels telegram, sms, whatsapp and slack")
}

// activeAppID gives the Slack app that hears people now.
func (c *Control) activeAppID() string {
	if c.SocketAppID != "" && c.Slack.SocketCount(c.SocketAppID) > 0 {
		return c.SocketAppID
	}
	return c.AppID
}

func (c *Control) slackUser(as string) SlackUser {
	as = strings.ToUpper(as)
	if team, id, ok := strings.Cut(as, ":"); ok {
		return SlackUser{Team: team, ID: id}
	}
	return SlackUser{Team: c.Team, ID: as}
}

// ServeHTTP answers to programs at this machine. What a web page could send from
// somebody's browser is refused.
func (c *Control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isLoopback(r.Host) {
		writeControlError(w, http.StatusForbidden, errors.New("only for programs at this machine"))
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /":
		writeControlJSON(w, http.StatusOK, ControlInfo{Addresses: map[adapters.Channel]string{
			adapters.Telegram: "@" + c.Bot, adapters.SMS: c.SMSNumber, adapters.WhatsApp: c.WhatsAppNumber, adapters.Slack: c.Team,
		}})
	case "POST /say":
		c.serveSend(w, r)
	case "GET /transcript":
		c.serveTranscript(w, r)
	default:
		writeControlError(w, http.StatusNotFound, errors.New("there are GET /, POST /say and GET /transcript"))
	}
}

// isLoopback reports whether the host of a request names this machine. A name that
// only leads here, as a web page may have, does not.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && a.IsLoopback()
}

const maxSendRequest = 256 << 10

func (c *Control) serveSend(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") != "application/json" { // what a form on a web page cannot send
		writeControlError(w, http.StatusUnsupportedMediaType, errors.New("the Content-Type must be application/json"))
		return
	}
	var s SendRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSendRequest)).Decode(&s); err != nil {
		writeControlError(w, http.StatusBadRequest, errors.New("the body must be JSON with channel, as, name and text"))
		return
	}
	answer, err := c.Send(r.Context(), s)
	switch {
	case errors.Is(err, ErrUnknownSender):
		writeControlError(w, http.StatusBadRequest, err)
	case err != nil:
		writeControlError(w, http.StatusBadGateway, err)
	default:
		writeControlJSON(w, http.StatusAccepted, SendResponse{Reply: answer})
	}
}

// maxTranscriptWait is how long a call for what was said waits at most.
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

// waitPage gives what was said in chat after the first so many lines, as soon as there is
// something or ctx ends.
func (t *Transcript) waitPage(ctx context.Context, chat string, after int) TranscriptPage {
	for {
		changed := t.watch()
		lines := t.Lines(chat)
		if len(lines) > after || ctx.Err() != nil {
			talk := TranscriptPage{Lines: []TranscriptLine{}, Next: len(lines)}
			for _, l := range lines[min(after, len(lines)):] {
				talk.Lines = append(talk.Lines, TranscriptLine{From: l.source(), Private: l.Private, Text: l.Text, At: l.At})
			}
			return talk
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
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(doc)
}
