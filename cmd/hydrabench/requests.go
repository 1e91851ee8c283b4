package main

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A webhook is the URL of a channel and what is needed to sign its requests.
type webhook struct {
	channel string
	url     string

	secret  string // secret token of Telegram, auth token of Twilio, or signing secret of Slack
	account string // Twilio account SID
	number  string // Twilio phone number
	slack   slackApp
}

// A slackApp contains the ids in the events of a Slack app.
type slackApp struct{ team, app, bot string }

// A requestWriter appends a complete request to b: message n, which must be unique, from a sender,
// counted from 0. It must not be called concurrently.
type requestWriter func(b []byte, n int64, sender int) []byte

// The content of messages. It must not look like a command or a claim code.
const (
	senderName  = "Steve"
	messageText = "Hello, is my order on its way? It should have been here on Tuesday."
	maxSenders  = 10_000
)

const (
	telegramChannel = "telegram"
	smsChannel      = "sms"
	slackChannel    = "slack"
)

// allChannels returns the channels that can be measured.
func allChannels() []string { return []string{telegramChannel, smsChannel, slackChannel} }

// newWriter returns a writer of the requests of the channel.
func (h webhook) newWriter() (requestWriter, error) {
	u, err := url.Parse(h.url)
	if err != nil {
		return nil, fmt.Errorf("parse the URL of the webhook: %w", err)
	}
	head := "POST " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\n"
	switch h.channel {
	case telegramChannel:
		return h.telegramWriter(head), nil
	case smsChannel:
		return h.smsWriter(head), nil
	case slackChannel:
		return h.slackWriter(head), nil
	}
	return nil, fmt.Errorf("unknown channel %q", h.channel)
}

func (h webhook) telegramWriter(head string) requestWriter {
	head += "Content-Type: application/json\r\nX-Telegram-Bot-Api-Secret-Token: " + h.secret + "\r\nContent-Length: "
	date := strconv.FormatInt(time.Now().Unix(), 10)
	var body []byte
	return func(b []byte, n int64, sender int) []byte {
		id := int64(700_000_000 + sender)
		body = append(body[:0], `{"update_id":`...)
		body = strconv.AppendInt(body, 1_000_000_000+n, 10)
		body = append(body, `,"message":{"message_id":`...)
		body = strconv.AppendInt(body, 1_000_000+n, 10)
		body = append(body, `,"from":{"id":`...)
		body = strconv.AppendInt(body, id, 10)
		body = append(body, `,"is_bot":false,"first_name":"`+senderName+`","username":"steve`...)
		body = appendPadded(body, int64(sender), 4)
		body = append(body, `","language_code":"en"},"chat":{"id":`...)
		body = strconv.AppendInt(body, id, 10)
		body = append(body, `,"first_name":"`+senderName+`","username":"steve`...)
		body = appendPadded(body, int64(sender), 4)
		body = append(body, `","type":"private"},"date":`+date+`,"text":"`+messageText+`"}}`...)
		return appendBody(append(b, head...), body)
	}
}

// smsWriter returns a writer of requests of Twilio. It fills two templates: the encoded form, and the
// signed text, in which the parameters are sorted and not encoded.
func (h webhook) smsWriter(head string) requestWriter {
	signature := hmac.New(sha1.New, []byte(h.secret))
	head += "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\nUser-Agent: TwilioProxy/1.1\r\n" +
		"X-Twilio-Signature: "
	const sidMark, fromMark = "\x00sid\x00", "\x00from\x00"
	form := map[string]string{
		"MessageSid": sidMark, "SmsSid": sidMark, "SmsMessageSid": sidMark, "AccountSid": h.account,
		"From": fromMark, "To": h.number, "Body": messageText, "NumMedia": "0", "NumSegments": "2",
		"SmsStatus": "received", "ApiVersion": "2010-04-01",
		"FromCity": "SAN FRANCISCO", "FromState": "CA", "FromZip": "94105", "FromCountry": "US",
		"ToCity": "", "ToState": "CA", "ToZip": "", "ToCountry": "US",
	}
	names := make([]string, 0, len(form))
	for name := range form {
		names = append(names, name)
	}
	slices.Sort(names)
	var encoded, signed strings.Builder
	for _, name := range names {
		value := url.QueryEscape(form[name])
		if form[name] == sidMark || form[name] == fromMark {
			value = form[name]
		}
		encoded.WriteString("&" + name + "=" + value)
		signed.WriteString(name + form[name])
	}
	formParts := splitTemplate(strings.TrimPrefix(encoded.String(), "&"), sidMark, fromMark)
	textParts := splitTemplate(h.url+signed.String(), sidMark, fromMark)
	var body, text, sum []byte
	return func(b []byte, n int64, sender int) []byte {
		body = fillTemplate(body[:0], formParts, sidMark, n, "%2B", sender)
		text = fillTemplate(text[:0], textParts, sidMark, n, "+", sender)
		sum = sign(signature, sum, text)
		b = append(b, head...)
		b = base64.StdEncoding.AppendEncode(b, sum)
		return appendBody(append(b, "\r\nContent-Length: "...), body)
	}
}

// splitTemplate splits a template at its marks, which are every second part of the result.
func splitTemplate(template string, marks ...string) []string {
	var parts []string
	for template != "" {
		at, mark := len(template), ""
		for _, m := range marks {
			if i := strings.Index(template, m); i >= 0 && i < at {
				at, mark = i, m
			}
		}
		parts = append(parts, template[:at])
		if mark != "" {
			parts = append(parts, mark)
		}
		template = template[at+len(mark):]
	}
	return parts
}

// fillTemplate appends the parts of a template, with the SID of message n and the phone number of the
// sender in place of the marks.
func fillTemplate(b []byte, parts []string, sidMark string, n int64, plus string, sender int) []byte {
	for i, p := range parts {
		switch {
		case i%2 == 0:
			b = append(b, p...)
		case p == sidMark:
			b = append(b, "SM5b1e77d0c4a64e2f9a30b2"...)
			b = appendPadded(b, n, 10)
		default:
			b = append(append(b, plus...), "1415520"...)
			b = appendPadded(b, int64(sender), 4)
		}
	}
	return b
}

func (h webhook) slackWriter(head string) requestWriter {
	signature := hmac.New(sha256.New, []byte(h.secret))
	head += "Content-Type: application/json\r\nUser-Agent: Slackbot 1.0 (+https://api.slack.com/robots)\r\n" +
		"X-Slack-Request-Timestamp: "
	started := time.Now().Unix()
	start := `{"token":"deprecated","team_id":"` + h.slack.team + `","context_team_id":"` + h.slack.team +
		`","context_enterprise_id":null,"api_app_id":"` + h.slack.app +
		`","type":"event_callback","authorizations":[{"enterprise_id":null,"team_id":"` + h.slack.team +
		`","user_id":"` + h.slack.bot + `","is_bot":true,"is_enterprise_install":false}],` +
		`"is_ext_shared_channel":false,"event_context":"4-context","event_time":` + strconv.FormatInt(started, 10) +
		`,"event":{"type":"message","channel_type":"im","team":"` + h.slack.team +
		`","text":"` + messageText + `","channel":"D0HYDRA`
	var body, text, sum []byte
	return func(b []byte, n int64, sender int) []byte {
		body = append(body[:0], start...)
		body = appendPadded(body, int64(sender), 4)
		body = append(body, `","user":"U0HYDRA`...)
		body = appendPadded(body, int64(sender), 4)
		body = append(body, `","client_msg_id":"1f0e7a52-6f0b-4c7e-9d3a-`...)
		body = appendPadded(body, n, 12)
		body = append(body, `","ts":"`...)
		body = strconv.AppendInt(body, started+n/1_000_000, 10)
		body = append(body, '.')
		body = appendPadded(body, n%1_000_000, 6)
		body = append(body, `"},"event_id":"Ev`...)
		body = appendPadded(body, n, 10)
		body = append(body, `"}`...)

		at := time.Now().Unix()
		text = strconv.AppendInt(append(text[:0], "v0:"...), at, 10)
		text = append(append(text, ':'), body...)
		sum = sign(signature, sum, text)
		b = strconv.AppendInt(append(b, head...), at, 10)
		b = append(b, "\r\nX-Slack-Signature: v0="...)
		b = hex.AppendEncode(b, sum)
		return appendBody(append(b, "\r\nContent-Length: "...), body)
	}
}

// sign returns the sum of text. It reuses the memory of sum.
func sign(h hash.Hash, sum, text []byte) []byte {
	h.Reset()
	h.Write(text)
	return h.Sum(sum[:0])
}

// appendBody appends the value of Content-Length, the end of the header, and the body.
func appendBody(b, body []byte) []byte {
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}

// appendPadded appends n in decimal, padded with zeros to width.
func appendPadded(b []byte, n int64, width int) []byte {
	if d := countDigits(n); d < width {
		b = append(b, "000000000000"[:width-d]...)
	}
	return strconv.AppendInt(b, n, 10)
}

// countDigits returns the number of decimal digits of n, which must not be negative.
func countDigits(n int64) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}
