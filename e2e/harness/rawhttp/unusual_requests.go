//go:build unix

package rawhttp

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// An unusualRequest is a genuine request that looks unlike the others: a provider makes it so,
// or a proxy on the way does. Each of them was refused somewhere by a check that meant
// well.
type unusualRequest struct {
	Kind, Name    string
	BeforeSigning func(h *WebhookFixture, d *UnsignedRequest)
	AfterSigning  func(h *WebhookFixture, p *RawRequest)
	noMessage     bool // it is taken, and brings no message
}

func (o unusualRequest) StoredMessages(kind string) int {
	if o.noMessage {
		return 0
	}
	return StoredMessages(kind)
}

func UnusualRequests() []unusualRequest {
	all := slices.Concat(twilioVariants(), slackVariants(), telegramVariants())
	for _, kind := range []string{"telegram", "sms", "sms/status", "whatsapp", "slack/events", "slack/commands", "slack/interactivity"} {
		all = append(all, transportVariants(kind)...)
	}
	return all
}

// transportVariants are what a proxy and HTTP itself do to any request.
func transportVariants(kind string) []unusualRequest {
	on := func(name string, after func(p *RawRequest)) unusualRequest {
		return unusualRequest{
			Kind:         kind,
			Name:         kind + " " + name,
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) { after(p) },
		}
	}
	return []unusualRequest{
		on("OtherHost", func(p *RawRequest) { p.Host = "10.0.0.7:8080" }),
		on("IPv6Host", func(p *RawRequest) { p.Host = "[2001:db8::1]:8080" }),
		on("AbsoluteForm", func(p *RawRequest) { p.Target = "http://10.0.0.7" + p.Target }),
		on("Forwarded", func(p *RawRequest) {
			p.Add("X-Forwarded-For", "203.0.113.9, 10.0.0.1")
			p.Add("X-Forwarded-Host", "other.example")
			p.Add("X-Forwarded-Proto", "http")
			p.Add("X-Forwarded-Port", "80")
			p.Add("Forwarded", "for=203.0.113.9;host=other.example;proto=http")
			p.Add("X-Original-URL", "/elsewhere")
		}),
		on("UpperCaseNames", func(p *RawRequest) { rewriteHeaderNames(p, strings.ToUpper) }),
		on("LowerCaseNames", func(p *RawRequest) { rewriteHeaderNames(p, strings.ToLower) }),
		on("BlanksAroundValues", func(p *RawRequest) {
			for i, l := range p.HeaderLines {
				name, value, _ := strings.Cut(l, ": ")
				p.HeaderLines[i] = name + ": \t " + value + " \t"
			}
		}),
		on("Chunked", func(p *RawRequest) { p.UseChunks(1000) }),
		on("ChunkedByBytes", func(p *RawRequest) { p.UseChunks(3) }),
		on("SameLengthTwice", func(p *RawRequest) {
			line := fmt.Sprintf("Content-Length: %d", len(p.Body))
			p.Framing = []string{line, line}
		}),
		on("ConnectionClose", func(p *RawRequest) { p.Add("Connection", "close") }),
		on("ManyHeaders", func(p *RawRequest) {
			for i := range 100 {
				p.Add(fmt.Sprintf("X-Trace-%d", i), strings.Repeat("a", 50))
			}
		}),
	}
}

func rewriteHeaderNames(p *RawRequest, spell func(string) string) {
	for i, l := range p.HeaderLines {
		name, value, _ := strings.Cut(l, ":")
		p.HeaderLines[i] = spell(name) + ":" + value
	}
}

func twilioVariants() []unusualRequest {
	sets := func(kind, name string, pairs ...string) unusualRequest {
		return unusualRequest{Kind: kind, Name: name, BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
			for i := 0; i < len(pairs); i += 2 {
				d.form.Set(pairs[i], pairs[i+1])
			}
		}}
	}
	sent := func(name string, change func(body string) string) unusualRequest {
		return unusualRequest{
			Kind:         "sms",
			Name:         name,
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) { p.Body = change(p.Body) },
		}
	}
	return []unusualRequest{
		sets("sms", "MessagingService", "MessagingServiceSid", "MG00000000000000000000000000000001"),
		sets("sms", "FutureParameters", "SomethingNew", "1", "another.new-one_2", "", "Zeta", "x"),
		sets(
			"sms",
			"EmptyBodyWithMedia",
			"Body",
			"",
			"NumMedia",
			"1",
			"MediaUrl0",
			"https://api.twilio.com/2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/Messages/MM1/Media/ME1",
			"MediaContentType0",
			"image/jpeg",
		),
		sets("sms", "MultimediaSid", "MessageSid", "MM0000000000000000000000000000beef"),
		sets("sms", "EmptyBody", "Body", ""),
		sets("sms", "AlphanumericSender", "From", "ACME Shop"),
		sets("sms", "ShortCode", "From", "72975"),
		sets("sms", "WithheldNumber", "From", "+266696687"),
		sets("sms", "NoSender", "From", ""),
		sets("sms", "Unicode", "Body", "Grüße 👋🏽 مرحبا \u202e"),
		sets("sms", "LineBreaksAndAmpersands", "Body", "a&b=c;d\r\n%2B + ?"),
		sets("sms", "NULInText", "Body", "a\x00b"),
		sets("sms", "BrokenUTF8", "Body", "a\xff\xfeb"),
		sets("sms", "SaysFrom", "Body", "I am From +14155559999, really"),
		sets("sms", "LongText", "Body", strings.Repeat("x", 1600)),
		sets("sms", "AddOns", "AddOns", `{"status":"successful","results":{}}`),
		sets("sms", "OptOut", "Body", "STOP", "OptOutType", "STOP"),
		sets("sms", "FallbackAfterError", "ErrorCode", "11200", "ErrorUrl", "https://hooks.acme.example/x"),
		sets("whatsapp", "ProfileAndId", "ProfileName", "Steve", "WaId", "14155550101", "Forwarded", "true"),
		sets("whatsapp", "Button", "ButtonText", "Yes", "ButtonPayload", "yes", "MessageType", "button"),
		sets("whatsapp", "ScopedId", "From", "whatsapp:US.abc123"),
		sets("whatsapp", "Location", "Body", "", "Latitude", "48.1", "Longitude", "11.5"),
		sets("sms/status", "UnknownState", "MessageStatus", "accepted"),
		sets("sms/status", "Undelivered", "MessageStatus", "undelivered", "ErrorCode", "30003"),
		{Kind: "sms", Name: "PortSigned", BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
			d.URL = strings.Replace(d.URL, ".example/", ".example:443/", 1)
		}},
		{Kind: "sms", Name: "IdempotencyToken", AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			p.Add("I-Twilio-Idempotency-Token", "f7e4b6a2-0000-4000-8000-000000000000")
		}},
		{Kind: "sms", Name: "CharsetInType", AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			p.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
		}},
		{
			Kind:         "sms",
			Name:         "TypeInUpperCase",
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) { p.Set("Content-Type", "Application/X-WWW-Form-Urlencoded") },
		},
		sent("PercentForBlank", func(b string) string { return strings.ReplaceAll(b, "+", "%20") }),
		sent("LowerCaseEscapes", func(b string) string { return strings.ReplaceAll(b, "%2B", "%2b") }),
		sent("EverythingEscaped", func(b string) string { return strings.ReplaceAll(b, "hello", "%68%65%6C%6C%6F") }),
		sent("OtherOrder", func(b string) string {
			parts := strings.Split(b, "&")
			slices.Reverse(parts)
			return strings.Join(parts, "&")
		}),
	}
}

func slackVariants() []unusualRequest {
	said := func(name string, change ...string) unusualRequest {
		return unusualRequest{
			Kind:          "slack/events",
			Name:          name,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.body = strings.NewReplacer(change...).Replace(d.body) },
		}
	}
	off := func(name string, by time.Duration) unusualRequest {
		return unusualRequest{
			Kind:          "slack/events",
			Name:          name,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.timestamp = time.Now().Add(by) },
		}
	}
	return []unusualRequest{
		{Kind: "slack/events", Name: "Retry", AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			p.Add("X-Slack-Retry-Num", "3")
			p.Add("X-Slack-Retry-Reason", "http_timeout")
		}},
		{
			Kind:      "slack/events",
			Name:      "Challenge",
			noMessage: true,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
				d.body = `{"token":"deprecated","type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}`
			},
		},
		off("OldByFourMinutes", -290*time.Second),
		off("EarlyByFourMinutes", 290*time.Second),
		said("SpacesInJSON", `":`, "\" :\r\n\t "),
		said("UnknownFields", `"event_time":`, `"brand_new":{"a":[1,2,{"b":null}]},"event_time":`),
		said("TimeAsText", `"event_time":1700000000`, `"event_time":"1700000000"`),
		said("MalformedBlocks", `"channel":`, `"blocks":[{"type":7}],"channel":`),
		said("NoAuthorizations", `"authorizations":`, `"authorizations_were":`),
		said("EventNobodyKnows", `"type":"message"`, `"type":"brand_new_event"`),
		said("EventIsNull", `"event":{`, `"event":null,"event_was":{`),
		said("NULAndSurrogates", "hello", `hello\u0000\ud800`),
		{
			Kind:         "slack/events",
			Name:         "NoContentType",
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) { p.Del("Content-Type") },
		},
		{Kind: "slack/events", Name: "Organisation", BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
			d.body = strings.Replace(d.body, `"enterprise_id":null`, `"enterprise_id":"E0ACME"`, 1)
		}},
		{
			Kind:      "slack/commands",
			Name:      "SSLCheck",
			noMessage: true,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
				d.form = formValues("ssl_check", "1", "token", "deprecated")
			},
		},
		{
			Kind:          "slack/commands",
			Name:          "StrangerOfASharedChannel",
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Set("team_id", "T0ELSE") },
		},
		{
			Kind:          "slack/commands",
			Name:          "NoText",
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Del("text") },
		},
		{Kind: "slack/interactivity", Name: "Shortcut", BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
			d.form.Set("payload", strings.Replace(d.form.Get("payload"), "block_actions", "shortcut", 1))
		}},
	}
}

func telegramVariants() []unusualRequest {
	update := func(name, body string) unusualRequest {
		return unusualRequest{
			Kind:          "telegram",
			Name:          name,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.body = body },
		}
	}
	return []unusualRequest{
		update(
			"OldShape",
			`{"update_id":900001,"message":{"message_id":1,"date":1435000000,"text":"x","from":{"id":7001,"first_name":"Steve"},"chat":{"id":7001,"first_name":"Steve","type":"private"},"forward_from":{"id":5,"first_name":"a"},"forward_date":1435000000}}`,
		),
		update("KindNobodyKnows", `{"update_id":900002,"brand_new":{"a":1}}`),
		update(
			"ForwardNobodyKnows",
			`{"update_id":900003,"message":{"message_id":3,"date":1,"text":"x","from":{"id":7001,"first_name":"Steve"},"chat":{"id":7001,"type":"private"},"forward_origin":{"type":"brand_new"}}}`,
		),
		update(
			"LongNumbers",
			`{"update_id":900004,"message":{"message_id":4,"date":1,"text":"x","from":{"id":4503599627370495,"first_name":"Steve"},"chat":{"id":4503599627370495,"type":"private"}}}`,
		),
		update(
			"NegativeNumber",
			`{"update_id":-5,"message":{"message_id":5,"date":1,"text":"x","from":{"id":7001,"first_name":"Steve"},"chat":{"id":7001,"type":"private"}}}`,
		),
		update(
			"NULAndSurrogates",
			`{"update_id":900006,"message":{"message_id":6,"date":1,"text":"a\u0000\ud83d","from":{"id":7001,"first_name":"\u0000"},"chat":{"id":7001,"type":"private"}}}`,
		),
		update("NotJSON", `{"update_id":900007,`),
		update("TrailingBytes", `{"update_id":900008}garbage`),
		update("Deep", `{"update_id":900009,"x":`+strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+`}`),
		update("Deeper", strings.Repeat(`{"a":`, 50_000)+"1"+strings.Repeat("}", 50_000)),
		update(
			"BrokenUTF8",
			"{\"update_id\":900010,\"message\":{\"message_id\":10,\"date\":1,\"text\":\"\xff\xfe\",\"from\":{\"id\":7001},\"chat\":{\"id\":7001,\"type\":\"private\"}}}",
		),
		update("Zipped", Gzipped(`{"update_id":900011}`)),
		{
			Kind:         "telegram",
			Name:         "NoContentType",
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) { p.Del("Content-Type") },
		},
	}
}
