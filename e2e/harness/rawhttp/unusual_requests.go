//go:build unix

package rawhttp

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hydragate/e2e/harness"
)

// An UnusualRequest is a genuine request in an unusual form that a provider or a proxy can
// produce. The gateway must accept it.
type UnusualRequest struct {
	Kind, Name    string
	BeforeSigning func(h *WebhookFixture, d *UnsignedRequest)
	AfterSigning  func(h *WebhookFixture, p *RawRequest)
	noMessage     bool // accepted without storing a message
}

// Build returns the request with message number n.
func (u UnusualRequest) Build(h *WebhookFixture, n int) *RawRequest {
	return buildRequest(h, NewUnsignedRequest(u.Kind, n, h.Acme), u.BeforeSigning, u.AfterSigning)
}

// StoredMessages returns the number of messages that the gateway stores for the request.
func (u UnusualRequest) StoredMessages() int {
	if u.noMessage {
		return 0
	}
	return StoredMessages(u.Kind)
}

// UnusualRequests returns all unusual requests, in a fixed order.
func UnusualRequests() []UnusualRequest {
	all := slices.Concat(twilioVariants(), slackVariants(), telegramVariants())
	for _, kind := range []string{
		"telegram", "sms", "sms/status", "whatsapp", "slack/events", "slack/commands", "slack/interactivity",
	} {
		all = append(all, transportVariants(kind)...)
	}
	return all
}

// transportVariants returns changes that a proxy can make, and other valid forms of an HTTP
// request.
func transportVariants(kind string) []UnusualRequest {
	variant := func(name string, after func(p *RawRequest)) UnusualRequest {
		return UnusualRequest{
			Kind:         kind,
			Name:         kind + " " + name,
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) { after(p) },
		}
	}
	return []UnusualRequest{
		variant("other host", func(p *RawRequest) { p.Host = "10.0.0.7:8080" }),
		variant("IPv6 host", func(p *RawRequest) { p.Host = "[2001:db8::1]:8080" }),
		variant("absolute form", func(p *RawRequest) { p.Target = "http://10.0.0.7" + p.Target }),
		variant("Forwarded header", func(p *RawRequest) {
			p.Add("X-Forwarded-For", "203.0.113.9, 10.0.0.1")
			p.Add("X-Forwarded-Host", "other.example")
			p.Add("X-Forwarded-Proto", "http")
			p.Add("X-Forwarded-Port", "80")
			p.Add("Forwarded", "for=203.0.113.9;host=other.example;proto=http")
			p.Add("X-Original-URL", "/elsewhere")
		}),
		variant("upper-case header names", func(p *RawRequest) { rewriteHeaderNames(p, strings.ToUpper) }),
		variant("lower-case header names", func(p *RawRequest) { rewriteHeaderNames(p, strings.ToLower) }),
		variant("spaces around header values", func(p *RawRequest) {
			for i, l := range p.HeaderLines {
				name, value, _ := strings.Cut(l, ": ")
				p.HeaderLines[i] = name + ": \t " + value + " \t"
			}
		}),
		variant("chunked", func(p *RawRequest) { p.UseChunks(1000) }),
		variant("small chunks", func(p *RawRequest) { p.UseChunks(3) }),
		variant("repeated length", func(p *RawRequest) {
			line := fmt.Sprintf("Content-Length: %d", len(p.Body))
			p.Framing = []string{line, line}
		}),
		variant("Connection: close", func(p *RawRequest) { p.Add("Connection", "close") }),
		variant("many headers", func(p *RawRequest) {
			for i := range 100 {
				p.Add(fmt.Sprintf("X-Trace-%d", i), strings.Repeat("a", 50))
			}
		}),
	}
}

// rewriteHeaderNames applies spell to the name of each header line.
func rewriteHeaderNames(p *RawRequest, spell func(string) string) {
	for i, l := range p.HeaderLines {
		name, value, _ := strings.Cut(l, ":")
		p.HeaderLines[i] = spell(name) + ":" + value
	}
}

// twilioVariants returns unusual requests of Twilio.
func twilioVariants() []UnusualRequest {
	withFields := func(kind, name string, pairs ...string) UnusualRequest {
		return UnusualRequest{Kind: kind, Name: name, BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
			for i := 0; i < len(pairs); i += 2 {
				d.form.Set(pairs[i], pairs[i+1])
			}
		}}
	}
	encoded := func(name string, change func(body string) string) UnusualRequest {
		return UnusualRequest{
			Kind:         "sms",
			Name:         name,
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) { p.Body = change(p.Body) },
		}
	}
	return []UnusualRequest{
		withFields("sms", "messaging service", "MessagingServiceSid", "MG00000000000000000000000000000001"),
		withFields("sms", "future parameters", "SomethingNew", "1", "another.new-one_2", "", "Zeta", "x"),
		withFields(
			"sms",
			"empty body with media",
			"Body",
			"",
			"NumMedia",
			"1",
			"MediaUrl0",
			"https://api.twilio.com/2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/Messages/MM1/Media/ME1",
			"MediaContentType0",
			"image/jpeg",
		),
		withFields("sms", "multimedia SID", "MessageSid", "MM0000000000000000000000000000beef"),
		withFields("sms", "empty body", "Body", ""),
		withFields("sms", "alphanumeric sender", "From", "ACME Shop"),
		withFields("sms", "short code", "From", "72975"),
		withFields("sms", "withheld number", "From", "+266696687"),
		withFields("sms", "no sender", "From", ""),
		withFields("sms", "Unicode", "Body", "Grüße 👋🏽 مرحبا \u202e"),
		withFields("sms", "line breaks and ampersands", "Body", "a&b=c;d\r\n%2B + ?"),
		withFields("sms", "NUL in text", "Body", "a\x00b"),
		withFields("sms", "invalid UTF-8", "Body", "a\xff\xfeb"),
		withFields("sms", "text contains From", "Body", "I am From +14155559999, really"),
		withFields("sms", "text begins with From and a field", "Body", "FromLabel x"),
		withFields("sms", "text ends in From and a number", "Body", "call me From+14155559999"),
		withFields("sms", "city begins with From", "FromCity", "Frome"),
		withFields("sms", "future From parameters", "FromCarrier", "Vodafone", "FromZone", "x", "From2", ""),
		withFields("sms", "future SID of another message", "ParentMessageSid", "SM0000000000000000000000000000beef"),
		withFields("sms", "long text", "Body", strings.Repeat("x", 1600)),
		withFields("sms", "add-ons", "AddOns", `{"status":"successful","results":{}}`),
		withFields("sms", "opt-out", "Body", "STOP", "OptOutType", "STOP"),
		withFields("sms", "fallback after an error", "ErrorCode", "11200", "ErrorUrl", "https://hooks.acme.example/x"),
		withFields("whatsapp", "profile name and ID",
			"ProfileName", "Steve", "WaId", "14155550101", "Forwarded", "true"),
		withFields("whatsapp", "button", "ButtonText", "Yes", "ButtonPayload", "yes", "MessageType", "button"),
		withFields("whatsapp", "scoped ID", "From", "whatsapp:US.abc123"),
		withFields("whatsapp", "location", "Body", "", "Latitude", "48.1", "Longitude", "11.5"),
		withFields("whatsapp", "place begins with From",
			"Body", "", "Latitude", "48.1", "Longitude", "11.5", "Label", "Fromagerie Dupont", "Address", "Fromelles"),
		withFields("whatsapp", "name begins with From", "ProfileName", "Fromm"),
		withFields("whatsapp", "reply to another message",
			"OriginalRepliedMessageSid", "SM0000000000000000000000000000beef", "OriginalRepliedMessageSender", "whatsapp:+1"),
		withFields("sms/status", "unknown status", "MessageStatus", "accepted"),
		withFields("sms/status", "undelivered", "MessageStatus", "undelivered", "ErrorCode", "30003"),
		{Kind: "sms", Name: "signed URL with port", BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
			d.URL = strings.Replace(d.URL, ".example/", ".example:443/", 1)
		}},
		{Kind: "sms", Name: "idempotency token", AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			p.Add("I-Twilio-Idempotency-Token", "f7e4b6a2-0000-4000-8000-000000000000")
		}},
		{Kind: "sms", Name: "charset in content type", AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			p.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
		}},
		{
			Kind: "sms",
			Name: "content type in upper case",
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
				p.Set("Content-Type", "Application/X-WWW-Form-Urlencoded")
			},
		},
		encoded("percent-encoded spaces", func(b string) string { return strings.ReplaceAll(b, "+", "%20") }),
		encoded("lower-case escapes", func(b string) string { return strings.ReplaceAll(b, "%2B", "%2b") }),
		encoded("needless escapes", func(b string) string { return strings.ReplaceAll(b, "hello", "%68%65%6C%6C%6F") }),
		encoded("other order", func(b string) string {
			parts := strings.Split(b, "&")
			slices.Reverse(parts)
			return strings.Join(parts, "&")
		}),
	}
}

// slackVariants returns unusual requests of Slack.
func slackVariants() []UnusualRequest {
	replaced := func(name string, change ...string) UnusualRequest {
		return UnusualRequest{
			Kind: "slack/events",
			Name: name,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
				d.body = strings.NewReplacer(change...).Replace(d.body)
			},
		}
	}
	shifted := func(name string, by time.Duration) UnusualRequest {
		return UnusualRequest{
			Kind:          "slack/events",
			Name:          name,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.timestamp = time.Now().Add(by) },
		}
	}
	return []UnusualRequest{
		{Kind: "slack/events", Name: "retry", AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			p.Add("X-Slack-Retry-Num", "3")
			p.Add("X-Slack-Retry-Reason", "http_timeout")
		}},
		{
			Kind:      "slack/events",
			Name:      "challenge",
			noMessage: true,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
				d.body = `{"token":"deprecated","type":"url_verification",` +
					`"challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}`
			},
		},
		shifted("timestamp four minutes old", -290*time.Second),
		shifted("timestamp four minutes ahead", 290*time.Second),
		replaced("spaces in JSON", `":`, "\" :\r\n\t "),
		replaced("unknown fields", `"event_time":`, `"brand_new":{"a":[1,2,{"b":null}]},"event_time":`),
		replaced("time as a string", `"event_time":1700000000`, `"event_time":"1700000000"`),
		replaced("malformed blocks", `"channel":`, `"blocks":[{"type":7}],"channel":`),
		replaced("no authorizations", `"authorizations":`, `"renamed_authorizations":`),
		replaced("unknown event type", `"type":"message"`, `"type":"brand_new_event"`),
		replaced("null event", `"event":{`, `"event":null,"renamed_event":{`),
		replaced("NUL and surrogates", "hello", `hello\u0000\ud800`),
		{
			Kind:         "slack/events",
			Name:         "no content type",
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) { p.Del("Content-Type") },
		},
		{Kind: "slack/events", Name: "organization", BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
			d.body = strings.Replace(d.body, `"enterprise_id":null`, `"enterprise_id":"E0ACME"`, 1)
		}},
		{
			Kind:      "slack/commands",
			Name:      "SSL check",
			noMessage: true,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
				d.form = formValues("ssl_check", "1", "token", "deprecated")
			},
		},
		{
			Kind:          "slack/commands",
			Name:          "user of another team in a shared channel",
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Set("team_id", "T0ELSE") },
		},
		{
			Kind:          "slack/commands",
			Name:          "no text",
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Del("text") },
		},
		{Kind: "slack/interactivity", Name: "shortcut", BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
			d.form.Set("payload", strings.Replace(d.form.Get("payload"), "block_actions", "shortcut", 1))
		}},
	}
}

// telegramVariants returns unusual requests of Telegram.
func telegramVariants() []UnusualRequest {
	update := func(name, body string) UnusualRequest {
		return UnusualRequest{
			Kind:          "telegram",
			Name:          name,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.body = body },
		}
	}
	return []UnusualRequest{
		update("old format", `{"update_id":900001,"message":{"message_id":1,"date":1435000000,"text":"x",`+
			`"from":{"id":7001,"first_name":"Steve"},"chat":{"id":7001,"first_name":"Steve","type":"private"},`+
			`"forward_from":{"id":5,"first_name":"a"},"forward_date":1435000000}}`),
		update("unknown kind of update", `{"update_id":900002,"brand_new":{"a":1}}`),
		update("unknown forward origin", `{"update_id":900003,"message":{"message_id":3,"date":1,"text":"x",`+
			`"from":{"id":7001,"first_name":"Steve"},"chat":{"id":7001,"type":"private"},`+
			`"forward_origin":{"type":"brand_new"}}}`),
		update("long numbers", `{"update_id":900004,"message":{"message_id":4,"date":1,"text":"x",`+
			`"from":{"id":4503599627370495,"first_name":"Steve"},"chat":{"id":4503599627370495,"type":"private"}}}`),
		update("negative number", `{"update_id":-5,"message":{"message_id":5,"date":1,"text":"x",`+
			`"from":{"id":7001,"first_name":"Steve"},"chat":{"id":7001,"type":"private"}}}`),
		update("NUL and surrogates", `{"update_id":900006,"message":{"message_id":6,"date":1,"text":"a\u0000\ud83d",`+
			`"from":{"id":7001,"first_name":"\u0000"},"chat":{"id":7001,"type":"private"}}}`),
		update("not JSON", `{"update_id":900007,`),
		update("trailing bytes", `{"update_id":900008}garbage`),
		update("deeply nested JSON",
			`{"update_id":900009,"x":`+strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+`}`),
		update("very deeply nested JSON", strings.Repeat(`{"a":`, 50_000)+"1"+strings.Repeat("}", 50_000)),
		update(
			"invalid UTF-8",
			"{\"update_id\":900010,\"message\":{\"message_id\":10,\"date\":1,\"text\":\"\xff\xfe\","+
				"\"from\":{\"id\":7001},\"chat\":{\"id\":7001,\"type\":\"private\"}}}",
		),
		update("gzip", harness.Gzipped(`{"update_id":900011}`)),
		{
			Kind:         "telegram",
			Name:         "no content type",
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) { p.Del("Content-Type") },
		},
	}
}
