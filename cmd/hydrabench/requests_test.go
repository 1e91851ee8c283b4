package main

import (
	"bufio"
	"bytes"
	"net/http"
	"testing"

	"hydragate/adapters"
	"hydragate/adapters/slack"
	"hydragate/adapters/sms"
	"hydragate/adapters/telegram"
)

const origin = "https://hooks.example.com"

// newEndpoint returns the adapter and the endpoint for the requests to h, and the last element of
// the path.
func newEndpoint(h webhook) (adapters.Adapter, adapters.Endpoint, string) {
	switch h.channel {
	case telegramChannel:
		return &telegram.Adapter{}, adapters.Endpoint{
			Channel: adapters.Telegram, WebhookURL: h.url,
			Credentials: adapters.Credentials{adapters.WebhookSecret: h.secret},
		}, ""
	case smsChannel:
		return sms.Adapter{Name: adapters.SMS}, adapters.Endpoint{
			Channel: adapters.SMS, WebhookURL: h.url, Address: h.number,
			Credentials: adapters.Credentials{adapters.AccountSID: h.account, adapters.AuthToken: h.secret},
		}, ""
	}
	return &slack.Adapter{}, adapters.Endpoint{
		Channel: adapters.Slack, WebhookURL: h.url, Address: h.slack.team,
		Settings:    map[string]string{adapters.AppID: h.slack.app, adapters.BotUserID: h.slack.bot},
		Credentials: adapters.Credentials{adapters.SigningSecret: h.secret},
	}, "events"
}

func testWebhooks(t *testing.T) []webhook {
	t.Helper()
	return []webhook{
		{channel: telegramChannel, url: origin + "/hooks/telegram/1", secret: "a-secret"},
		{
			channel: smsChannel, url: origin + "/hooks/sms/1",
			secret: randomHex(32), account: "AC" + randomHex(32), number: phoneNumber,
		},
		{
			channel: slackChannel, url: origin + "/hooks/slack/1/events",
			secret: randomHex(32), slack: slackApp{team: "T0HYDRA", app: "A0HYDRA", bot: "U0HYDRABOT"},
		},
	}
}

// TestRequestWriter_AcceptedByAdapters passes the requests of every channel to its adapter.
func TestRequestWriter_AcceptedByAdapters(t *testing.T) {
	for _, h := range testWebhooks(t) {
		t.Run(h.channel, func(t *testing.T) {
			write, err := h.newWriter()
			if err != nil {
				t.Fatal(err)
			}
			keys, senders := map[string]bool{}, map[string]bool{}
			var buf []byte
			for _, c := range []struct {
				n      int64
				sender int
			}{{1, 0}, {2, 0}, {999_999, 1}, {1_000_000, 9}, {123_456_789, maxSenders - 1}} {
				buf = write(buf[:0], c.n, c.sender)
				m := receiveRequest(t, h, buf)
				if m.Kind != adapters.Text || m.Text != messageText || m.UnprovenReason != "" || m.Command != nil {
					t.Errorf("message %d was received as %+v", c.n, m)
				}
				keys[m.Key], senders[m.Sender.ID] = true, true
			}
			if len(keys) != 5 || len(senders) != 4 {
				t.Errorf("%d keys and %d senders, want 5 and 4", len(keys), len(senders))
			}
		})
	}
}

func receiveRequest(t *testing.T, h webhook, request []byte) adapters.Message {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(request))
	req, err := http.ReadRequest(r)
	if err != nil {
		t.Fatal(err)
	}
	a, ep, name := newEndpoint(h)
	in, err := a.Receive(req, ep, name)
	if err != nil {
		t.Fatal(err)
	}
	if r.Buffered() > 0 || len(in.Messages) != 1 {
		t.Fatalf("%d bytes after the request, %d messages, want 0 and 1", r.Buffered(), len(in.Messages))
	}
	return in.Messages[0]
}

func TestRequestWriter_UnknownChannel(t *testing.T) {
	if _, err := (webhook{channel: "pigeon", url: origin}).newWriter(); err == nil {
		t.Error("newWriter of an unknown channel = nil, want an error")
	}
}

func BenchmarkRequestWriter(b *testing.B) {
	for _, h := range []webhook{
		{channel: telegramChannel, url: origin, secret: "a-secret"},
		{channel: smsChannel, url: origin, secret: "a-secret", account: "AC1", number: phoneNumber},
		{channel: slackChannel, url: origin, secret: "a-secret"},
	} {
		b.Run(h.channel, func(b *testing.B) {
			write, err := h.newWriter()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			var buf []byte
			for n := 0; b.Loop(); n++ {
				buf = write(buf[:0], int64(n), n%maxSenders)
			}
		})
	}
}
