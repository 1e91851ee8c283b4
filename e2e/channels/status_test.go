package channels

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
)

// A channelFault is something that makes a bot deaf, or that must not be mistaken for it.
type channelFault struct {
	channel adapters.Channel
	mode    adapters.Mode
	fault   string // of simulator.FaultRequest
	// status is part of the error that staff see; empty if the status must remain active.
	status string
	// heals says that the gateway corrects it by itself. Otherwise it works again when the fault ends.
	heals   bool
	warning string // part of a warning that staff see while the fault lasts
	early   bool   // the fault begins before the set-up
}

const anotherProgram = "another program or address: https://other.example/…"

func channelFaults() []channelFault {
	return []channelFault{
		{channel: adapters.Telegram, fault: "webhook_replaced", status: anotherProgram, heals: true},
		{channel: adapters.Telegram, fault: "webhook_deleted", status: "has no webhook", heals: true},
		{
			channel: adapters.Telegram, fault: "webhook_secret_replaced", heals: true,
			status: "cannot deliver 1 updates: Wrong response from the webhook: 403 Forbidden",
		},
		{channel: adapters.Telegram, fault: "token_revoked", status: "does not know this bot token (Unauthorized)"},
		{channel: adapters.Telegram, fault: "bad_gateway", warning: "could not be asked"},
		{channel: adapters.Telegram, fault: "slow"},
		{
			channel: adapters.Telegram, mode: adapters.Polling, fault: "webhook_replaced", heals: true,
			status: "a webhook is set: https://other.example/…",
		},
		{
			channel: adapters.Telegram, mode: adapters.Polling, fault: "rival_poller",
			status: "terminated by other getUpdates request",
		},
		{channel: adapters.Telegram, mode: adapters.Polling, fault: "token_revoked", status: "Unauthorized"},
		{channel: adapters.Telegram, mode: adapters.Polling, fault: "bad_gateway", warning: "could not be asked"},
		{channel: adapters.Telegram, fault: "commands_limited", warning: "Too Many Requests: retry after 600", early: true},
		{
			channel: adapters.Telegram, mode: adapters.Polling, fault: "commands_limited",
			warning: "Too Many Requests: retry after 600", early: true,
		},
		{
			channel: adapters.Telegram, mode: adapters.Polling, fault: "commands_refused",
			warning: "BOT_COMMANDS_TOO_MUCH", early: true,
		},
		{channel: adapters.SMS, fault: "webhook_replaced", status: anotherProgram, heals: true},
		{channel: adapters.SMS, fault: "webhook_deleted", status: "has no webhook", heals: true},
		{channel: adapters.SMS, fault: "service_override", status: "belongs to the Messaging Service MG"},
		{channel: adapters.SMS, fault: "token_secondary", status: "Twilio signs webhooks with the primary auth token"},
		{channel: adapters.SMS, fault: "token_revoked", status: "Authenticate"},
		{channel: adapters.SMS, fault: "account_suspended", status: "The account is suspended"},
		{channel: adapters.SMS, fault: "bad_gateway", warning: "could not be asked"},
		{channel: adapters.SMS, fault: "slow"},
		{channel: adapters.WhatsApp, fault: "webhook_replaced", status: anotherProgram, heals: true},
		{channel: adapters.WhatsApp, fault: "webhook_deleted", status: "has no webhook", heals: true},
		{channel: adapters.WhatsApp, fault: "service_override", status: "belongs to the Messaging Service MG"},
		{channel: adapters.WhatsApp, fault: "sender_offline", status: "OFFLINE: 63110 Business account is locked"},
		{channel: adapters.Slack, fault: "token_revoked", status: "token_revoked"},
		{channel: adapters.Slack, fault: "invalid_auth", status: "invalid_auth"},
		{channel: adapters.Slack, fault: "missing_scope", status: "missing_scope: the bot token lacks the scope chat:write"},
		{channel: adapters.Slack, fault: "app_uninstalled", status: "account_inactive", warning: "The app was removed"},
		{channel: adapters.Slack, fault: "tokens_revoked", status: "token_revoked", warning: "The bot token was revoked"},
		{channel: adapters.Slack, fault: "app_rate_limited", warning: "Slack drops events of this workspace"},
		{channel: adapters.Slack, fault: "bad_gateway", warning: "could not be asked"},
		{channel: adapters.Slack, mode: adapters.Socket, fault: "app_uninstalled", status: "account_inactive"},
		{channel: adapters.Slack, mode: adapters.Socket, fault: "link_disabled", status: "access_denied"},
		{channel: adapters.Slack, mode: adapters.Socket, fault: "too_many_websockets", status: "more connections than Slack"},
		{channel: adapters.Slack, mode: adapters.Socket, fault: "refresh_requested"},
	}
}

// A faultyChannel is the channel of a row, with an instance and an account of its own.
type faultyChannel struct {
	channelFault
	instance string
	control  *simulator.Control
}

// name returns the name of the row.
func (c *faultyChannel) name() string {
	return strings.TrimSuffix(fmt.Sprintf("%s %s %s", c.channel, c.fault, c.mode), " ")
}

// A statusFixture is a gateway with the channels of all rows.
type statusFixture struct {
	*harness.Harness
	channels []*faultyChannel
}

// TestStatus breaks many channels in the ways in which that happens, and checks what staff see in the API,
// in the metric, in the audit log and in the output of doctor, and that the channels work again.
func TestStatus(t *testing.T) {
	harness.ParallelUnlessFull(t)
	harness.ForEachEngine(t, func(t *testing.T, engine harness.Engine) {
		s, p := newStatusFixture(t, engine)
		s.rejectOnce()
		s.checkAll("all channels are active", func(c *faultyChannel, shown shownChannel) bool {
			return shown.Status == "active" && (c.mode != adapters.Socket || s.Slack.SocketCount(c.control.AppID) > 0)
		})
		s.setFaults(false)
		s.checkAll("every fault is shown", (*faultyChannel).isShown)
		s.requireDoctor()
		s.requireMetric()
		s.setFaults(true)
		s.checkAll("all channels are active again", func(c *faultyChannel, shown shownChannel) bool {
			return shown.Status == "active" && (c.status == "" || shown.lastChange == "active")
		})
		s.requireEvents()
		s.requireMessages()
		s.requireRefusal()
		if n := s.Telegram.BrokenCalls(s.find(adapters.Telegram, "commands_limited").control.Bot, "setMyCommands"); n != 1 {
			t.Errorf("setMyCommands was called %d times, want once within its retry_after", n)
		}
		s.requireNewURL(p)
		s.requireOldBotDisconnected()
		s.CheckLog()
	})
}

func newStatusFixture(t *testing.T, engine harness.Engine) (*statusFixture, *harness.Process) {
	t.Helper()
	h, p := harness.Start(t, harness.Options{Engine: engine, NoChannels: true, Settings: func(s *app.Settings) {
		s.CheckInterval = "1s"
	}})
	s := &statusFixture{Harness: h}
	for i, f := range channelFaults() {
		c := &faultyChannel{channelFault: f}
		s.channels = append(s.channels, c)
		var instance struct{ ID string }
		s.MustCall("POST", "/v1/instances", map[string]string{"name": c.name()}, http.StatusCreated, &instance)
		c.instance = instance.ID
		s.connect(c, i)
	}
	return s, p
}

// connect creates the account of c at its provider and connects it.
func (s *statusFixture) connect(c *faultyChannel, n int) {
	s.T.Helper()
	number, account := fmt.Sprintf("+120255502%02d", n), fmt.Sprintf("AC%032x", n)
	c.control = &simulator.Control{
		Telegram: s.Telegram, Bot: fmt.Sprintf("status%d_bot", n), Twilio: s.Twilio, SMSNumber: number,
		WhatsAppNumber: number, Slack: s.Slack, AppID: fmt.Sprintf("A0STATUS%d", n), Team: harness.SlackTeamID,
	}
	body := map[string]string{}
	switch c.channel {
	case adapters.Telegram:
		body["bot_token"], body["mode"] = fmt.Sprintf("72000%02d:AAE0123456789abcdefghijklmnopqrstuv", n), string(c.mode)
		if c.mode == "" {
			body["mode"] = string(adapters.Webhook)
		}
		s.Telegram.AddBot(body["bot_token"], c.control.Bot)
	case adapters.Slack:
		slack := simulator.SlackApp{
			AppID: c.control.AppID, TeamID: harness.SlackTeamID, BotUserID: "U0BOT",
			Token: fmt.Sprintf("xoxb-status-%08d", n), SigningSecret: fmt.Sprintf("%032x", n),
			EventsURL: s.API.URL + "/hooks/slack/" + c.instance + "/events",
		}
		body["bot_token"], body["signing_secret"] = slack.Token, slack.SigningSecret
		if c.mode == adapters.Socket {
			slack.AppToken = "xapp-1-" + slack.AppID + "-status"
			body["app_token"] = slack.AppToken
		}
		s.Slack.AddApp(slack)
	default:
		token := fmt.Sprintf("%032x", 0xace0+n)
		body = map[string]string{"account_sid": account, "auth_token": token, "phone_number": number}
		s.Twilio.AddAccount(account, token)
		if c.channel == adapters.SMS {
			s.Twilio.AddNumber(account, number)
		} else {
			s.Twilio.SetWhatsAppURL(account, number, "", "")
		}
	}
	if c.early {
		s.setFault(c, false)
	}
	s.ConnectChannel(c.instance, string(c.channel), body)
}

// rejectOnce makes each provider reject the valid credentials of one channel for a moment, which must not
// change a status.
func (s *statusFixture) rejectOnce() {
	s.Telegram.Arm("getMe", simulator.Fault{
		Status: http.StatusUnauthorized, Body: `{"ok":false,"error_code":401,"description":"Unauthorized"}`,
	})
	s.Twilio.Arm("Accounts.fetch", simulator.Fault{
		Status: http.StatusUnauthorized, Body: `{"code":20003,"message":"Authenticate","status":401}`,
	})
	s.Slack.Arm("auth.test", simulator.Fault{Status: http.StatusOK, Body: `{"ok":false,"error":"invalid_auth"}`})
}

// setFaults causes the faults of all rows, or ends them.
func (s *statusFixture) setFaults(end bool) {
	s.T.Helper()
	for _, c := range s.channels {
		if !c.early {
			s.setFault(c, end)
		}
		if c.fault == "webhook_secret_replaced" && !end {
			s.Telegram.SendText(c.control.Bot, simulator.TelegramUser{ID: 1}, "refused until the secret is set again")
		}
	}
}

func (s *statusFixture) setFault(c *faultyChannel, end bool) {
	s.T.Helper()
	err := c.control.SetFault(s.T.Context(), simulator.FaultRequest{Channel: c.channel, Fault: c.fault, End: end})
	if err != nil {
		s.T.Errorf("%s: %v", c.name(), err)
	}
}

// A shownChannel is what staff see of a channel.
type shownChannel struct {
	Status       string   `json:"status"`
	ErrorMessage string   `json:"error_message"`
	Warnings     []string `json:"warnings"`
	lastChange   string   // of the status, from the audit log
	changes      []string
}

// show returns what staff see of c.
func (s *statusFixture) show(c *faultyChannel) shownChannel {
	s.T.Helper()
	var all struct{ Channels []shownChannel }
	s.MustCall("GET", "/v1/instances/"+c.instance+"/channels", nil, http.StatusOK, &all)
	if len(all.Channels) != 1 {
		s.T.Fatalf("%s: %d channels, want 1", c.name(), len(all.Channels))
	}
	shown := all.Channels[0]
	var events struct {
		Items []struct{ Detail map[string]string }
	}
	s.MustCall("GET", "/v1/audit?kind=channel.status&instance_id="+c.instance, nil, http.StatusOK, &events)
	for _, e := range events.Items { // newest first
		shown.changes = append([]string{e.Detail["to"] + ": " + e.Detail["error"]}, shown.changes...)
	}
	if len(events.Items) > 0 {
		shown.lastChange = events.Items[0].Detail["to"]
	}
	return shown
}

// isShown reports whether staff see the fault of c. One that the gateway corrects must be over; the audit
// log has it.
func (c *faultyChannel) isShown(shown shownChannel) bool {
	switch {
	case !strings.Contains(strings.Join(shown.Warnings, "\n"), c.warning):
		return false
	case c.status == "":
		return shown.Status == "active"
	case c.heals:
		return strings.Contains(strings.Join(shown.changes, "\n"), c.status) && shown.Status == "active"
	}
	return shown.Status == "error" && strings.Contains(shown.ErrorMessage, c.status) &&
		strings.Contains(strings.Join(shown.changes, "\n"), "error: ")
}

// checkAll has all channels checked and waits until ok returns true for each.
func (s *statusFixture) checkAll(what string, ok func(*faultyChannel, shownChannel) bool) {
	s.T.Helper()
	s.Exec(`update endpoints set check_at = '1970-01-01 00:00:00+00'`)
	for _, c := range s.channels {
		s.awaitShown(what, c, ok)
	}
}

// awaitShown waits until ok returns true for what the API shows about a channel.
func (s *statusFixture) awaitShown(what string, c *faultyChannel, ok func(*faultyChannel, shownChannel) bool) {
	s.T.Helper()
	var shown shownChannel
	defer func() {
		if s.T.Failed() {
			s.T.Logf("%s: %s: %+v", what, c.name(), shown)
		}
	}()
	harness.Eventually(s.T, what+": "+c.name(), func() bool {
		shown = s.show(c)
		return ok(c, shown)
	})
}

// requireDoctor checks the line of each channel in the output of doctor.
func (s *statusFixture) requireDoctor() {
	s.T.Helper()
	out, err := s.Command("hydragate", nil, "doctor").CombinedOutput()
	if err == nil {
		s.T.Errorf("doctor succeeds with broken channels")
	}
	lines := strings.Split(string(out), "\n")
	for _, c := range s.channels {
		want := "✓ "
		if c.status != "" && !c.heals || c.fault == "bad_gateway" {
			want = "✗ "
		}
		i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, c.instance) })
		if i < 0 || !strings.HasPrefix(lines[i], want) || want == "✗ " && !strings.Contains(lines[i], c.status) {
			s.T.Errorf("%s: doctor prints %q, want %s%s", c.name(), lines[max(i, 0)], want, c.status)
		}
	}
}

// requireMetric checks hydragate_channel_up of each channel.
func (s *statusFixture) requireMetric() {
	s.T.Helper()
	missing := func() (lines []string) {
		res, err := s.API.Do(s.T.Context(), http.MethodGet, "/metrics", harness.BearerHeader(harness.AdminKey), "")
		if err != nil {
			s.T.Fatal(err)
		}
		for _, c := range s.channels {
			up := 1
			if c.status != "" && !c.heals {
				up = 0
			}
			line := fmt.Sprintf("hydragate_channel_up{channel=%q,instance=%q} %d\n", c.channel, c.instance, up)
			if !strings.Contains(res.Body, line) {
				lines = append(lines, line)
			}
		}
		return lines
	}
	harness.Eventually(s.T, "the metric shows the faults", func() bool { return len(missing()) == 0 })
}

// requireEvents checks that each fault led to two changes of the status, and that nothing else did.
func (s *statusFixture) requireEvents() {
	s.T.Helper()
	for _, c := range s.channels {
		want := 2
		if c.status == "" {
			want = 0
		}
		if got := s.show(c).changes; len(got) != want {
			s.T.Errorf("%s: changes of the status = %q, want %d", c.name(), got, want)
		}
	}
}

// requireMessages checks that the channels receive messages again.
func (s *statusFixture) requireMessages() {
	s.T.Helper()
	for _, c := range s.channels {
		sender := map[adapters.Channel]string{adapters.Telegram: "77001", adapters.Slack: "U077"}[c.channel]
		_, err := c.control.Send(s.T.Context(), simulator.SendRequest{
			Channel: c.channel, Sender: cmp.Or(sender, "+12025550177"), Text: "hello again",
		})
		if err != nil {
			s.T.Errorf("%s: send a message: %v", c.name(), err)
		}
	}
}

// find returns the channel of a row.
func (s *statusFixture) find(channel adapters.Channel, fault string) *faultyChannel {
	return s.channels[slices.IndexFunc(s.channels, func(c *faultyChannel) bool {
		return c.channel == channel && c.fault == fault
	})]
}

// requireNewURL restarts the gateway with another public URL and checks that the providers then have it.
func (s *statusFixture) requireNewURL(p *harness.Process) {
	s.T.Helper()
	s.Terminate(p)
	s.Settings.PublicURL = strings.Replace(s.Settings.PublicURL, "127.0.0.1", "localhost", 1)
	s.Restart()
	for _, c := range s.channels {
		var webhook func() (u, other string)
		switch {
		case c.heals || c.early: // was configured within the last minute, and is again after it
			continue
		case c.channel == adapters.Telegram && c.mode == "":
			webhook = func() (string, string) { return s.Telegram.Webhook(c.control.Bot) }
		case c.channel == adapters.SMS:
			webhook = func() (string, string) { return s.Twilio.Webhook(c.control.SMSNumber) }
		case c.channel == adapters.WhatsApp:
			webhook = func() (string, string) { return s.Twilio.Webhook("whatsapp:" + c.control.WhatsAppNumber) }
		default:
			continue
		}
		harness.Eventually(s.T, "the webhook has the new public URL: "+c.name(), func() bool {
			u, _ := webhook()
			return strings.HasPrefix(u, s.Settings.PublicURL+"/hooks/")
		})
	}
	c := s.find(adapters.Telegram, "slow")
	harness.Eventually(s.T, "the change of the URL is shown", func() bool {
		changes := s.show(c).changes
		return len(changes) == 2 && strings.Contains(changes[0], "http://127.0.0.1:") && changes[1] == "active: "
	})
}

// requireOldBotDisconnected checks that the webhook of a bot is removed when its instance gets another one.
func (s *statusFixture) requireOldBotDisconnected() {
	s.T.Helper()
	c := s.find(adapters.Telegram, "slow")
	token := "7299999:AAE0123456789abcdefghijklmnopqrstuv"
	s.Telegram.AddBot(token, "another_bot")
	s.ConnectChannel(c.instance, "telegram", map[string]string{"bot_token": token, "mode": "webhook"})
	if u, _ := s.Telegram.Webhook(c.control.Bot); u != "" {
		s.T.Errorf("webhook of the previous bot = %q, want none", u)
	}
	if u, _ := s.Telegram.Webhook("another_bot"); !strings.HasPrefix(u, s.Settings.PublicURL) {
		s.T.Errorf("webhook of the new bot = %q", u)
	}
}
