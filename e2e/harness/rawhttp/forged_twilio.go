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

func smsForgeries() []ForgedRequest {
	signature := func(change func(p *RawRequest) string) func(*RawRequest) {
		return func(p *RawRequest) { p.Set(TwilioSignatureHeader, change(p)) }
	}
	signedFor := func(u func(d *UnsignedRequest) string, disguise func(p *RawRequest)) ForgedRequest {
		return ForgedRequest{
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.URL = u(d) },
			AfterSigning:  func(_ *WebhookFixture, p *RawRequest) { disguise(p) },
		}
	}
	evil := func(d *UnsignedRequest) string {
		return strings.Replace(d.URL, "hooks.acme.example", "evil.example", 1)
	}
	tricks := map[string]ForgedRequest{
		"HostOfAnother": signedFor(evil, func(p *RawRequest) { p.Host = "evil.example" }),
		"AbsoluteForm":  signedFor(evil, func(p *RawRequest) { p.Target = "https://evil.example" + p.Target }),
		"ForwardedHost": signedFor(
			evil,
			func(p *RawRequest) { p.Add("X-Forwarded-Host", "evil.example"); p.Add("X-Forwarded-Proto", "https") },
		),
		"Forwarded": signedFor(
			evil,
			func(p *RawRequest) { p.Add("Forwarded", "for=192.0.2.1;host=evil.example;proto=https") },
		),
		"OriginalURL": signedFor(
			evil,
			func(p *RawRequest) { p.Add("X-Original-URL", "https://evil.example"+p.Target) },
		),
		"OriginalHost": signedFor(
			evil,
			func(p *RawRequest) { p.Add("X-Original-Host", "evil.example"); p.Add("X-Host", "evil.example") },
		),
		"ForwardedPort": signedFor(
			func(d *UnsignedRequest) string { return strings.Replace(d.URL, ".example", ".example:8443", 1) },
			func(p *RawRequest) { p.Add("X-Forwarded-Port", "8443") },
		),
		"ForwardedProto": signedFor(
			func(d *UnsignedRequest) string { return strings.Replace(d.URL, "https:", "http:", 1) },
			func(p *RawRequest) { p.Add("X-Forwarded-Proto", "http") },
		),
		"ForwardedPrefix": signedFor(
			func(d *UnsignedRequest) string { return strings.Replace(d.URL, "/hooks/", "/x/hooks/", 1) },
			func(p *RawRequest) { p.Add("X-Forwarded-Prefix", "/x") },
		),
		"HostWithUser": signedFor(
			func(d *UnsignedRequest) string { return strings.Replace(d.URL, "//", "//steve@", 1) },
			func(*RawRequest) {},
		),
		"SlashAtTheEnd": signedFor(func(d *UnsignedRequest) string { return d.URL + "/" }, func(*RawRequest) {}),
		"URLWithFragment": signedFor(
			func(d *UnsignedRequest) string { return d.URL + "#rc=5&rp=all" },
			func(*RawRequest) {},
		),
		"URLInUpperCase": signedFor(
			func(d *UnsignedRequest) string { return strings.ToUpper(d.URL) },
			func(*RawRequest) {},
		),
		"NoURL": signedFor(func(*UnsignedRequest) string { return "" }, func(*RawRequest) {}),
		"URLOfTheStatusHook": signedFor(
			func(d *UnsignedRequest) string { return d.URL + "/status" },
			func(*RawRequest) {},
		),
		"QuerySigned": signedFor(
			func(d *UnsignedRequest) string { return d.URL + "?a=1" },
			func(p *RawRequest) { p.Target += "?a=1" },
		),
		"QueryOfBodyHashSigned": signedFor(
			func(d *UnsignedRequest) string { return d.URL + "?bodySHA256=00" },
			func(p *RawRequest) { p.Target += "?bodySHA256=00" },
		),
		"FormInTheQuerySigned": formInTheQuery(),
		"NeighboursURL": {
			BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) { d.URL = webhookURL("sms", "", h.Neighbor) },
		},
		"OnTheNeighboursPath": {
			AfterSigning: func(h *WebhookFixture, p *RawRequest) { p.Target = webhookPath("sms", "", h.Neighbor) },
		},
		"OnTheWhatsAppPath": {
			AfterSigning: func(h *WebhookFixture, p *RawRequest) { p.Target = webhookPath("whatsapp", "", h.Acme) },
		},
		"ForeignersToken": {
			BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) { d.key = h.OtherAccount.AuthToken },
		},
		"ForeignersRequest": {BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) {
			*d = *NewUnsignedRequest("sms", d.Number, h.OtherAccount)
			d.accounts = h.Acme
		}},
		"ForeignersRequestHere": {BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) {
			u := d.URL
			*d = *NewUnsignedRequest("sms", d.Number, h.OtherAccount)
			d.accounts, d.URL = h.Acme, u
		}},
		"EmptyToken": {BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.key = "" }},
		"EmptyTokenWhereItIsSo": {
			Status:        503,
			BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) { *d = *NewUnsignedRequest("sms", d.Number, h.Keyless) },
		},
		"RandomSignature": {AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			p.Set(TwilioSignatureHeader, base64.StdEncoding.EncodeToString(make([]byte, sha1.Size)))
		}},
		"SignatureBase64URL": {AfterSigning: func(_ *WebhookFixture, p *RawRequest) { signature(base64URL)(p) }},
		"SignatureWithoutPad": {AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			signature(func(p *RawRequest) string { return strings.TrimRight(p.Get(TwilioSignatureHeader), "=") })(p)
		}},
		"SignatureAsHex": {AfterSigning: func(_ *WebhookFixture, p *RawRequest) { signature(hexSignature)(p) }},
		"SignatureOfAnotherName": {AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			p.HeaderLines = append(p.HeaderLines, "X_Twilio_Signature: "+p.Get(TwilioSignatureHeader))
			p.Del(TwilioSignatureHeader)
		}},
		"SignatureOfRawBody": {AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
			p.Set(TwilioSignatureHeader, hmacSHA1(p.Unsigned.key, p.Unsigned.URL+p.Body))
		}},
	}
	var all []ForgedRequest
	for _, name := range slices.Sorted(maps.Keys(tricks)) {
		f := tricks[name]
		f.Kind, f.Name = "sms", name
		if f.Status == 0 {
			f.Status = 403
		}
		all = append(all, f)
	}
	return slices.Concat(all, signatureForgeries("sms"), methodForgeries("sms"), formForgeries("sms"), []ForgedRequest{
		unsignedForgery("sms", "JSON", 403, func(p *RawRequest) { p.Set("Content-Type", "application/json") }),
		unsignedForgery(
			"sms",
			"Multipart",
			403,
			func(p *RawRequest) { p.Set("Content-Type", "multipart/form-data; boundary=x") },
		),
		unsignedForgery("sms", "NoContentType", 403, func(p *RawRequest) { p.Del("Content-Type") }),
		unsignedForgery("sms", "HookItDoesNotHave", 404, func(p *RawRequest) { p.Target += "/events" }),
		unsignedForgery("sms", "InstanceInUpperCase", 404, func(p *RawRequest) { p.Target = upperInstancePath(p) }),
	})
}

// formInTheQuery moves the whole form into a query, as a webhook called by GET has it,
// under a signature that is right for that.
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

func base64URL(p *RawRequest) string {
	return strings.NewReplacer("+", "-", "/", "_").Replace("+/" + p.Get(TwilioSignatureHeader)[2:])
}

func hexSignature(p *RawRequest) string {
	raw, _ := base64.StdEncoding.DecodeString(p.Get(TwilioSignatureHeader))
	return hex.EncodeToString(raw)
}

func hmacSHA1(key, text string) string {
	m := hmac.New(sha1.New, []byte(key))
	_, _ = m.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// formForgeries are what can be done to a form that Twilio signed, without its key.
func formForgeries(kind string) []ForgedRequest {
	resplit := func(change func(f url.Values)) func(p *RawRequest) {
		return func(p *RawRequest) {
			f := maps.Clone(p.Unsigned.form)
			change(f)
			if p.Get(TwilioSignatureHeader) != harness.TwilioSignature(p.Unsigned.key, p.Unsigned.URL, f) {
				panic("the signature does not hold for the form that was cut anew: nothing is shown")
			}
			p.Body = f.Encode()
		}
	}
	return []ForgedRequest{
		unsignedForgery(kind, "SecondBody", 403, func(p *RawRequest) { p.Body += "&Body=%2Fclaim+WDJBMJ" }),
		unsignedForgery(kind, "SecondBodyFirst", 403, func(p *RawRequest) { p.Body = "Body=%2Fclaim+WDJBMJ&" + p.Body }),
		unsignedForgery(kind, "SecondFrom", 403, func(p *RawRequest) { p.Body += "&From=%2B14155559999" }),
		unsignedForgery(kind, "SameFieldTwice", 403, func(p *RawRequest) { p.Body += "&ApiVersion=2010-04-01" }),
		unsignedForgery(kind, "NewField", 403, func(p *RawRequest) { p.Body += "&OptOutType=STOP" }),
		unsignedForgery(kind, "FieldWithoutName", 403, func(p *RawRequest) { p.Body += "&=" }),
		unsignedForgery(
			kind,
			"FieldRemoved",
			403,
			func(p *RawRequest) { p.Body = strings.Replace(p.Body, "&ApiVersion=2010-04-01", "", 1) },
		),
		unsignedForgery(kind, "Semicolons", 403, func(p *RawRequest) { p.Body = strings.ReplaceAll(p.Body, "&", ";") }),
		unsignedForgery(kind, "BadEscape", 403, func(p *RawRequest) { p.Body += "&a=%zz" }),
		unsignedForgery(
			kind,
			"NameInOtherCase",
			403,
			func(p *RawRequest) { p.Body = strings.Replace(p.Body, "From=", "from=", 1) },
		),
		unsignedForgery(kind, "ManyFields", 403, func(p *RawRequest) { p.Body += strings.Repeat("&a=1", 10_000) }),
		{
			Kind: kind, Name: "ResplitSender", Status: 403,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Set("Body", "hello From+14155559999") },
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
				resplit(func(f url.Values) {
					f["Body"] = []string{"hello "}
					f["From"] = []string{"+14155559999From" + f.Get("From")}
				})(p)
			},
		},
		{
			// The person's own text is cut so that it names another sender, and what
			// Twilio named goes on as the value of a field after it.
			Kind: kind, Name: "ResplitSenderAndCity", Status: 403,
			BeforeSigning: func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Set("Body", "hello From+14155559999FromCity") },
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
				resplit(func(f url.Values) {
					from, city := f.Get("From"), f.Get("FromCity")
					f["Body"], f["From"], f["FromCity"] = []string{
						"hello ",
					}, []string{
						"+14155559999",
					}, []string{
						"From" + from + "FromCity" + city,
					}
				})(p)
			},
		},
		{
			Kind: kind, Name: "ResplitTwiceNamed", Status: 403,
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

// smsAddressForgeries are signed with the right key for the right URL, by somebody who
// holds the account: an instance that shares it, or staff who know the token.
func smsAddressForgeries() []ForgedRequest {
	field := func(name string, value func(h *WebhookFixture) string) func(*WebhookFixture, *UnsignedRequest) {
		return func(h *WebhookFixture, d *UnsignedRequest) { d.form.Set(name, value(h)) }
	}
	is := func(v string) func(*WebhookFixture) string { return func(*WebhookFixture) string { return v } }
	return []ForgedRequest{
		signedForgery("sms", "ToTheNeighbour", 403, field("To", func(h *WebhookFixture) string { return h.Neighbor.Phone })),
		signedForgery("sms", "ToTheNeighbourByAService", 403, func(h *WebhookFixture, d *UnsignedRequest) {
			d.form.Set("To", h.Neighbor.Phone)
			d.form.Set("MessagingServiceSid", "MG00000000000000000000000000000001")
		}),
		signedForgery("sms", "ToNobody", 403, field("To", is(""))),
		signedForgery("sms", "WithoutTo", 403, func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Del("To") }),
		signedForgery(
			"sms",
			"AccountOfAnother",
			403,
			field("AccountSid", func(h *WebhookFixture) string { return h.OtherAccount.AccountSID }),
		),
		signedForgery("sms", "NoAccount", 403, func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Del("AccountSid") }),
		signedForgery("sms", "WithoutFrom", 403, func(_ *WebhookFixture, d *UnsignedRequest) { d.form.Del("From") }),
		signedForgery("sms", "FromTwoNumbers", 403, field("From", is("+14155559999From+14155550101"))),
		signedForgery("sms", "FromWithBlank", 403, field("From", is(" 14155550101"))),
		signedForgery("sms", "FromWithNUL", 403, field("From", is("+1415555\x000101"))),
		signedForgery("sms", "FromOfLookAlikes", 403, field("From", is("+1415555０101"))),
		signedForgery("sms", "FromUnknownScheme", 403, field("From", is("sip:steve@example.com"))),
		signedForgery("sms", "ASidOfACall", 403, field("MessageSid", is("CA00000000000000000000000000000001"))),
		signedForgery("sms", "NoSid", 403, field("MessageSid", is(""))),
		signedForgery("sms", "ASidWithAPath", 403, field("MessageSid", is("SM0000000000000000000000000000/../"))),
		signedForgery(
			"whatsapp",
			"NumberWithoutPrefix",
			403,
			field("To", func(h *WebhookFixture) string { return h.Acme.Phone }),
		),
		signedForgery("whatsapp", "PrefixTwice", 403, field("From", is("whatsapp:whatsapp:+14155550101"))),
	}
}

func statusForgeries() []ForgedRequest {
	return slices.Concat(signatureForgeries("sms/status")[:8], []ForgedRequest{
		signedForgery(
			"sms/status",
			"SignedForTheMainHook",
			403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.URL = webhookURL("sms", "", d.accounts) },
		),
		signedForgery(
			"sms/status",
			"ForeignersToken",
			403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.key = h.OtherAccount.AuthToken },
		),
		signedForgery(
			"sms/status",
			"AccountOfAnother",
			403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.form.Set("AccountSid", h.OtherAccount.AccountSID) },
		),
		signedForgery("sms/status", "EmptyToken", 403, func(_ *WebhookFixture, d *UnsignedRequest) { d.key = "" }),
		signedForgery("sms/status", "EmptyTokenWhereItIsSo", 503, func(h *WebhookFixture, d *UnsignedRequest) {
			*d = *NewUnsignedRequest("sms/status", d.Number, h.Keyless)
		}),
		unsignedForgery("sms/status", "SecondState", 403, func(p *RawRequest) { p.Body += "&MessageStatus=failed" }),
		unsignedForgery(
			"sms/status",
			"OtherState",
			403,
			func(p *RawRequest) { p.Body = strings.Replace(p.Body, "delivered", "undelivered", 1) },
		),
		unsignedForgery("sms/status", "Query", 403, func(p *RawRequest) { p.Target += "?MessageStatus=failed" }),
	})
}

func whatsAppForgeries() []ForgedRequest {
	return slices.Concat(signatureForgeries("whatsapp"), []ForgedRequest{
		signedForgery(
			"whatsapp",
			"SignedForSMS",
			403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.URL = webhookURL("sms", "", d.accounts) },
		),
		signedForgery(
			"whatsapp",
			"NeighboursURL",
			403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.URL = webhookURL("whatsapp", "", h.Neighbor) },
		),
		signedForgery(
			"whatsapp",
			"ForeignersToken",
			403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.key = h.OtherAccount.AuthToken },
		),
		signedForgery(
			"whatsapp",
			"EmptyTokenWhereThereIsNone",
			503,
			func(h *WebhookFixture, d *UnsignedRequest) { *d = *NewUnsignedRequest("whatsapp", d.Number, h.Keyless) },
		),
		{
			Kind:          "whatsapp/status",
			Name:          "SignedForTheMainHook",
			Status:        403,
			BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) { d.URL = webhookURL("whatsapp", "", d.accounts) },
		},
	})
}
