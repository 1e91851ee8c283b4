//go:build unix

package rawhttp

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"net/url"
	"slices"
	"strings"

	"hydragate/e2e/harness"
)

// smsForgeries returns forgeries of received SMS.
func smsForgeries() []ForgedRequest {
	forgeries := smsURLForgeries()
	maps.Copy(forgeries, smsSignatureForgeries())
	var all []ForgedRequest
	for _, name := range slices.Sorted(maps.Keys(forgeries)) {
		f := forgeries[name]
		f.Kind, f.Name = "sms", name
		if f.Status == 0 {
			f.Status = 403
		}
		all = append(all, f)
	}
	return slices.Concat(all, signatureForgeries("sms"), methodForgeries("sms"), formForgeries("sms"), []ForgedRequest{
		unsignedForgery("sms", "JSON", 403, func(p *RawRequest) { p.Set("Content-Type", "application/json") }),
		unsignedForgery("sms", "multipart", 403,
			func(p *RawRequest) { p.Set("Content-Type", "multipart/form-data; boundary=x") }),
		unsignedForgery("sms", "no content type", 403, func(p *RawRequest) { p.Del("Content-Type") }),
		unsignedForgery("sms", "unknown webhook path", 404, func(p *RawRequest) { p.Target += "/events" }),
		unsignedForgery("sms", "instance ID in upper case", 404,
			func(p *RawRequest) { p.Target = upperInstancePath(p) }),
	})
}

// smsURLForgeries returns requests whose signature covers another URL than the one of the webhook, by
// name.
func smsURLForgeries() map[string]ForgedRequest {
	// signedFor returns a request that is signed for the URL u and changed afterwards.
	signedFor := func(u func(d *UnsignedRequest) string, change func(p *RawRequest)) ForgedRequest {
		return ForgedRequest{
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.URL = u(d) },
			AfterSigning:  func(_ *WebhookFixture, p *RawRequest) { change(p) },
		}
	}
	evil := func(d *UnsignedRequest) string {
		return strings.Replace(d.URL, "hooks.acme.example", "evil.example", 1)
	}
	return map[string]ForgedRequest{
		"other host":    signedFor(evil, func(p *RawRequest) { p.Host = "evil.example" }),
		"absolute form": signedFor(evil, func(p *RawRequest) { p.Target = "https://evil.example" + p.Target }),
		"X-Forwarded-Host": signedFor(
			evil,
			func(p *RawRequest) { p.Add("X-Forwarded-Host", "evil.example"); p.Add("X-Forwarded-Proto", "https") },
		),
		"Forwarded header": signedFor(
			evil,
			func(p *RawRequest) { p.Add("Forwarded", "for=192.0.2.1;host=evil.example;proto=https") },
		),
		"X-Original-URL": signedFor(
			evil,
			func(p *RawRequest) { p.Add("X-Original-URL", "https://evil.example"+p.Target) },
		),
		"X-Original-Host": signedFor(
			evil,
			func(p *RawRequest) { p.Add("X-Original-Host", "evil.example"); p.Add("X-Host", "evil.example") },
		),
		"X-Forwarded-Port": signedFor(
			func(d *UnsignedRequest) string { return strings.Replace(d.URL, ".example", ".example:8443", 1) },
			func(p *RawRequest) { p.Add("X-Forwarded-Port", "8443") },
		),
		"X-Forwarded-Proto": signedFor(
			func(d *UnsignedRequest) string { return strings.Replace(d.URL, "https:", "http:", 1) },
			func(p *RawRequest) { p.Add("X-Forwarded-Proto", "http") },
		),
		"X-Forwarded-Prefix": signedFor(
			func(d *UnsignedRequest) string { return strings.Replace(d.URL, "/hooks/", "/x/hooks/", 1) },
			func(p *RawRequest) { p.Add("X-Forwarded-Prefix", "/x") },
		),
		"user in URL": signedFor(
			func(d *UnsignedRequest) string { return strings.Replace(d.URL, "//", "//steve@", 1) },
			func(*RawRequest) {},
		),
		"trailing slash": signedFor(func(d *UnsignedRequest) string { return d.URL + "/" }, func(*RawRequest) {}),
		"URL with fragment": signedFor(
			func(d *UnsignedRequest) string { return d.URL + "#rc=5&rp=all" },
			func(*RawRequest) {},
		),
		"URL in upper case": signedFor(
			func(d *UnsignedRequest) string { return strings.ToUpper(d.URL) },
			func(*RawRequest) {},
		),
		"no URL": signedFor(func(*UnsignedRequest) string { return "" }, func(*RawRequest) {}),
		"URL of the status webhook": signedFor(
			func(d *UnsignedRequest) string { return d.URL + "/status" },
			func(*RawRequest) {},
		),
		"signed query": signedFor(
			func(d *UnsignedRequest) string { return d.URL + "?a=1" },
			func(p *RawRequest) { p.Target += "?a=1" },
		),
		"signed query with body hash": signedFor(
			func(d *UnsignedRequest) string { return d.URL + "?bodySHA256=00" },
			func(p *RawRequest) { p.Target += "?bodySHA256=00" },
		),
		"signed form in the query": formInTheQuery(),
		"URL of another instance": {
			BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) { d.URL = webhookURL("sms", "", h.Neighbor) },
		},
		"path of another instance": {
			AfterSigning: func(h *WebhookFixture, p *RawRequest) { p.Target = webhookPath("sms", "", h.Neighbor) },
		},
		"path of WhatsApp": {
			AfterSigning: func(h *WebhookFixture, p *RawRequest) { p.Target = webhookPath("whatsapp", "", h.Acme) },
		},
	}
}

// smsSignatureForgeries returns requests with the key of another account, without a key, or with the
// signature in another encoding, by name.
func smsSignatureForgeries() map[string]ForgedRequest {
	signature := func(change func(p *RawRequest) string) func(*RawRequest) {
		return func(p *RawRequest) { p.Set(TwilioSignatureHeader, change(p)) }
	}
	return map[string]ForgedRequest{
		"token of another account": {
			BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) { d.key = h.OtherAccount.AuthToken },
		},
		"request and URL of another account": {BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) {
			*d = *NewUnsignedRequest("sms", d.Number, h.OtherAccount)
			d.accounts = h.Acme
		}},
		"request of another account for this URL": {BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) {
			u := d.URL
			*d = *NewUnsignedRequest("sms", d.Number, h.OtherAccount)
			d.accounts, d.URL = h.Acme, u
		}},
		"empty token": {BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.key = "" }},
		"empty token, endpoint with an empty key": {
			Status: 503,
			BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) {
				*d = *NewUnsignedRequest("sms", d.Number, h.Keyless)
			},
		},
		"random signature": {AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			p.Set(TwilioSignatureHeader, base64.StdEncoding.EncodeToString(make([]byte, sha1.Size)))
		}},
		"Base64 URL signature": {AfterSigning: func(_ *WebhookFixture, p *RawRequest) { signature(base64URL)(p) }},
		"signature without padding": {AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			signature(func(p *RawRequest) string { return strings.TrimRight(p.Get(TwilioSignatureHeader), "=") })(p)
		}},
		"hex signature": {AfterSigning: func(_ *WebhookFixture, p *RawRequest) { signature(hexSignature)(p) }},
		"signature under another header name": {AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			p.HeaderLines = append(p.HeaderLines, "X_Twilio_Signature: "+p.Get(TwilioSignatureHeader))
			p.Del(TwilioSignatureHeader)
		}},
		"signature of the raw body": {AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			p.Set(TwilioSignatureHeader, hmacSHA1(p.Unsigned.key, p.Unsigned.URL+p.Body))
		}},
	}
}

// formInTheQuery returns a request with the whole form in the query, as in a webhook called by
// GET, and with a valid signature of that URL.
func formInTheQuery() ForgedRequest {
	var query string
	return ForgedRequest{
		BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
			query = d.form.Encode()
			d.URL, d.form = d.URL+"?"+query, url.Values{}
		},
		AfterSigning: func(_ *WebhookFixture, p *RawRequest) { p.Target += "?" + query },
	}
}

// base64URL returns the signature with the alphabet of Base64 URL, and with both characters in
// which the alphabets differ.
func base64URL(p *RawRequest) string {
	return strings.NewReplacer("+", "-", "/", "_").Replace("+/" + p.Get(TwilioSignatureHeader)[2:])
}

// hexSignature returns the signature in hex.
func hexSignature(p *RawRequest) string {
	raw, _ := base64.StdEncoding.DecodeString(p.Get(TwilioSignatureHeader))
	return hex.EncodeToString(raw)
}

// hmacSHA1 returns the Base64 HMAC-SHA1 of text.
func hmacSHA1(key, text string) string {
	m := hmac.New(sha1.New, []byte(key))
	_, _ = m.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// formForgeries returns changes of a form that Twilio signed. They require no key.
func formForgeries(kind string) []ForgedRequest {
	// resplit moves the boundaries between fields. The signature stays valid, because Twilio signs names
	// and values without separators.
	resplit := func(change func(f url.Values)) func(p *RawRequest) {
		return func(p *RawRequest) {
			f := maps.Clone(p.Unsigned.form)
			change(f)
			if p.Get(TwilioSignatureHeader) != harness.TwilioSignature(p.Unsigned.key, p.Unsigned.URL, f) {
				panic("the signature is not valid for the changed form, so the test would show nothing")
			}
			p.Body = f.Encode()
		}
	}
	return []ForgedRequest{
		unsignedForgery(kind, "second Body appended", 403, func(p *RawRequest) { p.Body += "&Body=%2Fclaim+WDJBMJ" }),
		unsignedForgery(kind, "second Body prepended", 403,
			func(p *RawRequest) { p.Body = "Body=%2Fclaim+WDJBMJ&" + p.Body }),
		unsignedForgery(kind, "second From", 403, func(p *RawRequest) { p.Body += "&From=%2B14155559999" }),
		unsignedForgery(kind, "repeated field", 403, func(p *RawRequest) { p.Body += "&ApiVersion=2010-04-01" }),
		unsignedForgery(kind, "new field", 403, func(p *RawRequest) { p.Body += "&OptOutType=STOP" }),
		unsignedForgery(kind, "field without name", 403, func(p *RawRequest) { p.Body += "&=" }),
		unsignedForgery(kind, "removed field", 403,
			func(p *RawRequest) { p.Body = strings.Replace(p.Body, "&ApiVersion=2010-04-01", "", 1) }),
		unsignedForgery(kind, "semicolons", 403, func(p *RawRequest) { p.Body = strings.ReplaceAll(p.Body, "&", ";") }),
		unsignedForgery(kind, "invalid escape", 403, func(p *RawRequest) { p.Body += "&a=%zz" }),
		unsignedForgery(kind, "field name in other case", 403,
			func(p *RawRequest) { p.Body = strings.Replace(p.Body, "From=", "from=", 1) }),
		unsignedForgery(kind, "many fields", 403, func(p *RawRequest) { p.Body += strings.Repeat("&a=1", 10_000) }),
		{
			Kind: kind, Name: "sender split from the text", Status: 403,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Set("Body", "hello From+14155559999") },
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
				resplit(func(f url.Values) {
					f["Body"] = []string{"hello "}
					f["From"] = []string{"+14155559999From" + f.Get("From")}
				})(p)
			},
		},
		{
			// The end of the message text becomes another sender, and the real sender becomes part of
			// the value of a later field.
			Kind: kind, Name: "sender and city split from the text", Status: 403,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
				d.form.Set("Body", "hello From+14155559999FromCity")
			},
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
				resplit(func(f url.Values) {
					from, city := f.Get("From"), f.Get("FromCity")
					f["Body"] = []string{"hello "}
					f["From"] = []string{"+14155559999"}
					f["FromCity"] = []string{"From" + from + "FromCity" + city}
				})(p)
			},
		},
		{
			// As above, with a parameter that Twilio does not have yet.
			Kind: kind, Name: "sender and new field split from the text", Status: 403,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) {
				d.form.Set("Body", "hello From+14155559999FromA")
				d.form.Set("FromCarrier", "x")
			},
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
				resplit(func(f url.Values) {
					f["Body"], f["FromA"] = []string{"hello "}, []string{"From" + f.Get("From")}
					f["From"] = []string{"+14155559999"}
				})(p)
			},
		},
		{
			Kind: kind, Name: "field names split", Status: 403,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Set("Body", "x") },
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
				resplit(func(f url.Values) {
					f["NumMedi"] = []string{"a" + f.Get("NumMedia")}
					delete(f, "NumMedia")
					f["Fro"] = []string{"m" + f.Get("From")}
					delete(f, "From")
				})(p)
			},
		},
	}
}

// smsAddressForgeries returns requests with a valid signature for the right URL, but with invalid
// addresses. The holder of the account can make them: another instance that shares the account, or
// staff who know the token.
func smsAddressForgeries() []ForgedRequest {
	field := func(name string, value func(h *WebhookFixture) string) func(*WebhookFixture, *UnsignedRequest) {
		return func(h *WebhookFixture, d *UnsignedRequest) { d.form.Set(name, value(h)) }
	}
	constant := func(v string) func(*WebhookFixture) string { return func(*WebhookFixture) string { return v } }
	return []ForgedRequest{
		signedForgery("sms", "number of another instance", 403,
			field("To", func(h *WebhookFixture) string { return h.Neighbor.Phone })),
		signedForgery("sms", "number of another instance with messaging service", 403,
			func(h *WebhookFixture, d *UnsignedRequest) {
				d.form.Set("To", h.Neighbor.Phone)
				d.form.Set("MessagingServiceSid", "MG00000000000000000000000000000001")
			}),
		signedForgery("sms", "empty To", 403, field("To", constant(""))),
		signedForgery("sms", "no To", 403, func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Del("To") }),
		signedForgery("sms", "other account", 403,
			field("AccountSid", func(h *WebhookFixture) string { return h.OtherAccount.AccountSID })),
		signedForgery("sms", "no AccountSid", 403,
			func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Del("AccountSid") }),
		signedForgery("sms", "no From", 403, func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Del("From") }),
		signedForgery("sms", "two numbers in From", 403, field("From", constant("+14155559999From+14155550101"))),
		signedForgery("sms", "space in From", 403, field("From", constant(" 14155550101"))),
		signedForgery("sms", "NUL in From", 403, field("From", constant("+1415555\x000101"))),
		signedForgery("sms", "full-width digit in From", 403, field("From", constant("+1415555０101"))),
		signedForgery("sms", "call SID", 403, field("MessageSid", constant("CA00000000000000000000000000000001"))),
		signedForgery("sms", "empty SID", 403, field("MessageSid", constant(""))),
		signedForgery("sms", "SID with a path", 403,
			field("MessageSid", constant("SM0000000000000000000000000000/../"))),
		signedForgery("whatsapp", "number without prefix", 403,
			field("To", func(h *WebhookFixture) string { return h.Acme.Phone })),
		signedForgery("whatsapp", "repeated prefix", 403, field("From", constant("whatsapp:whatsapp:+14155550101"))),
	}
}

// statusForgeries returns forgeries of delivery status callbacks.
func statusForgeries() []ForgedRequest {
	return slices.Concat(signatureForgeries("sms/status")[:8], []ForgedRequest{
		signedForgery("sms/status", "signed for the message webhook", 403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.URL = webhookURL("sms", "", d.accounts) }),
		signedForgery("sms/status", "token of another account", 403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.key = h.OtherAccount.AuthToken }),
		signedForgery("sms/status", "other account", 403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.form.Set("AccountSid", h.OtherAccount.AccountSID) }),
		signedForgery("sms/status", "empty token", 403, func(_ *WebhookFixture, d *UnsignedRequest) { d.key = "" }),
		signedForgery("sms/status", "empty token, endpoint with an empty key", 503,
			func(h *WebhookFixture, d *UnsignedRequest) {
				*d = *NewUnsignedRequest("sms/status", d.Number, h.Keyless)
			}),
		unsignedForgery("sms/status", "second status", 403, func(p *RawRequest) { p.Body += "&MessageStatus=failed" }),
		unsignedForgery("sms/status", "other status", 403,
			func(p *RawRequest) { p.Body = strings.Replace(p.Body, "delivered", "undelivered", 1) }),
		unsignedForgery("sms/status", "query", 403, func(p *RawRequest) { p.Target += "?MessageStatus=failed" }),
	})
}

// whatsAppForgeries returns forgeries of received WhatsApp messages and of their status callbacks.
func whatsAppForgeries() []ForgedRequest {
	return slices.Concat(signatureForgeries("whatsapp"), []ForgedRequest{
		signedForgery("whatsapp", "signed for SMS", 403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.URL = webhookURL("sms", "", d.accounts) }),
		signedForgery("whatsapp", "URL of another instance", 403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.URL = webhookURL("whatsapp", "", h.Neighbor) }),
		signedForgery("whatsapp", "token of another account", 403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.key = h.OtherAccount.AuthToken }),
		signedForgery("whatsapp", "empty token, endpoint without a key", 503,
			func(h *WebhookFixture, d *UnsignedRequest) { *d = *NewUnsignedRequest("whatsapp", d.Number, h.Keyless) }),
		{
			Kind:   "whatsapp/status",
			Name:   "signed for the message webhook",
			Status: 403,
			BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) {
				d.URL = webhookURL("whatsapp", "", d.accounts)
			},
		},
	})
}
