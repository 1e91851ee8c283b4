//go:build linux

package main

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A forgery is a genuine request with one thing changed: before it was signed, as
// somebody changes it who holds a key of another place, or after, as somebody does who
// has none. A newcomer adds a line.
type forgery struct {
	kind, name string
	status     int
	before     func(h *hookHouse, d *hookDraft)
	after      func(h *hookHouse, p *hookPost)
}

// The two things a forgery can be, as a table reads them.

func keyed(kind, name string, status int, before func(h *hookHouse, d *hookDraft)) forgery {
	return forgery{kind: kind, name: name, status: status, before: before}
}

func bare(kind, name string, status int, after func(p *hookPost)) forgery {
	return forgery{kind: kind, name: name, status: status, after: func(_ *hookHouse, p *hookPost) { after(p) }}
}

func forgeries() []forgery {
	return slices.Concat(
		telegramForgeries(), smsForgeries(), smsAddressForgeries(), statusForgeries(), whatsAppForgeries(),
		slackForgeries("slack/events"), slackForgeries("slack/commands"), slackForgeries("slack/interactivity"), slackEnvelopes(),
		framingForgeries("telegram"), framingForgeries("sms"), framingForgeries("slack/events"),
	)
}

func telegramForgeries() []forgery {
	secret := func(change func(s string) string) func(*hookPost) {
		return func(p *hookPost) { p.set(telegramProof, change(p.get(telegramProof))) }
	}
	also := func(line string) func(*hookPost) {
		return func(p *hookPost) { p.del(telegramProof); p.lines = append(p.lines, line) }
	}
	all := []forgery{
		bare("telegram", "NoSecret", 403, func(p *hookPost) { p.del(telegramProof) }),
		bare("telegram", "EmptySecret", 403, secret(func(string) string { return "" })),
		bare("telegram", "WrongSecret", 403, secret(func(s string) string { return strings.Repeat("A", len(s)) })),
		bare("telegram", "PrefixOfTheSecret", 403, secret(func(s string) string { return s[:len(s)-1] })),
		bare("telegram", "FirstByteOfTheSecret", 403, secret(func(s string) string { return s[:1] })),
		bare("telegram", "SecretAndMore", 403, secret(func(s string) string { return s + "A" })),
		bare("telegram", "SecretTwiceInOne", 403, secret(func(s string) string { return s + ", " + s })),
		bare("telegram", "SecretInQuotes", 403, secret(strconv.Quote)),
		bare("telegram", "SecretWithNUL", 400, secret(func(s string) string { return s + "\x00" })),
		bare("telegram", "SecretCutByNUL", 400, secret(func(s string) string { return s[:8] + "\x00" + s[9:] })),
		bare("telegram", "SecretInOtherCase", 403, secret(swapCase)),
		bare("telegram", "SecretPercentEncoded", 403, secret(func(s string) string { return fmt.Sprintf("%%%X", s[0]) + s[1:] })),
		bare("telegram", "SecretOfLookAlikes", 403, secret(func(s string) string { return string(rune(s[0])-'!'+'！') + s[1:] })),
		bare("telegram", "SecretTwice", 403, func(p *hookPost) { p.add(telegramProof, p.get(telegramProof)) }),
		bare("telegram", "WrongAndRightSecret", 403, func(p *hookPost) { p.lines = append([]string{telegramProof + ": guess"}, p.lines...) }),
		bare("telegram", "RightAndWrongSecret", 403, func(p *hookPost) { p.add(telegramProof, "guess") }),
		bare("telegram", "SecretInTheQuery", 403, func(p *hookPost) {
			p.target += "?secret_token=" + p.get(telegramProof)
			p.del(telegramProof)
		}),
		bare("telegram", "SecretAndAQuery", 403, func(p *hookPost) { p.target += "?update_id=1" }),
		bare("telegram", "SecretAndAnEmptyQuery", 403, func(p *hookPost) { p.target += "?" }),
		bare("telegram", "SecretAsBearer", 403, func(p *hookPost) { also("Authorization: Bearer " + p.draft.key)(p) }),
		bare("telegram", "SecretUnderAnotherName", 403, func(p *hookPost) { also("X_Telegram_Bot_Api_Secret_Token: " + p.draft.key)(p) }),
		bare("telegram", "SecretInATrailer", 403, func(p *hookPost) {
			also("Trailer: " + telegramProof)(p)
			p.chunked(100)
			p.sent = strings.TrimSuffix(p.sent, "\r\n") + telegramProof + ": " + p.draft.key + "\r\n\r\n"
		}),
		keyed("telegram", "NeighboursSecret", 403, func(h *hookHouse, d *hookDraft) { d.key = h.neighbour.telegramSecret }),
		keyed("telegram", "OnTheNeighboursPath", 403, func(h *hookHouse, d *hookDraft) { d.seat = h.neighbour }),
		keyed("telegram", "EmptyKeyEmptySecret", 503, func(h *hookHouse, d *hookDraft) { d.seat, d.key = h.keyless, "" }),
		keyed("telegram", "EmptyKeyAnySecret", 503, func(h *hookHouse, d *hookDraft) { d.seat = h.keyless }),
		{kind: "telegram", name: "OriginalURLOfAnother", status: 403, after: func(h *hookHouse, p *hookPost) {
			p.add("X-Original-URL", p.target)
			p.add("X-Rewrite-URL", p.target)
			p.target = hookPath("telegram", "", h.neighbour)
		}},
		bare("telegram", "UnknownInstance", 404, func(p *hookPost) {
			p.target = strings.Replace(p.target, p.draft.seat.instance, "00000000-0000-7000-8000-000000000009", 1)
		}),
		bare("telegram", "InstanceInUpperCase", 404, func(p *hookPost) { p.target = upperPath(p) }),
		bare("telegram", "InstanceWithoutDashes", 404, func(p *hookPost) {
			p.target = strings.Replace(p.target, p.draft.seat.instance, strings.ReplaceAll(p.draft.seat.instance, "-", ""), 1)
		}),
		bare("telegram", "HookItDoesNotHave", 404, func(p *hookPost) { p.target += "/events" }),
		bare("telegram", "PathClimbsOut", 404, func(p *hookPost) { p.target += "%2F..%2Fx" }),
		bare("telegram", "EmptyBody", 403, func(p *hookPost) { p.body = "" }),
		bare("telegram", "CutBody", 403, func(p *hookPost) {
			p.frame, p.short = []string{"Content-Length: " + strconv.Itoa(len(p.body)+10)}, true
		}),
	}
	return append(all, methodForgeries("telegram")...)
}

func upperPath(p *hookPost) string {
	return strings.Replace(p.target, p.draft.seat.instance, strings.ToUpper(p.draft.seat.instance), 1)
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, s)
}

func methodForgeries(kind string) (all []forgery) {
	for _, method := range []string{"GET", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "post", "TRACE"} {
		all = append(all, bare(kind, "Method"+method, 405, func(p *hookPost) { p.method = method }))
	}
	return append(all, bare(kind, "MethodOverridden", 405, func(p *hookPost) {
		p.method = "GET"
		p.add("X-HTTP-Method-Override", "POST")
	}))
}

// signatureForgeries are about the header that holds a signature, whoever made it.
func signatureForgeries(kind string) []forgery {
	signature := func(change func(s string) string) func(*hookPost) {
		return func(p *hookPost) { p.set(p.proof(), change(p.get(p.proof()))) }
	}
	return []forgery{
		bare(kind, "NoSignature", 403, func(p *hookPost) { p.del(p.proof()) }),
		bare(kind, "EmptySignature", 403, signature(func(string) string { return "" })),
		bare(kind, "TruncatedSignature", 403, signature(func(s string) string { return s[:len(s)-1] })),
		bare(kind, "LongerSignature", 403, signature(func(s string) string { return s + "0" })),
		bare(kind, "SignatureWithNUL", 400, signature(func(s string) string { return s[:10] + "\x00" + s[11:] })),
		bare(kind, "SignatureInOtherCase", 403, signature(swapCase)),
		bare(kind, "SignatureTwice", 403, func(p *hookPost) { p.add(p.proof(), p.get(p.proof())) }),
		bare(kind, "SignatureInTheQuery", 403, func(p *hookPost) {
			p.target += "?" + p.proof() + "=" + url.QueryEscape(p.get(p.proof()))
			p.del(p.proof())
		}),
		bare(kind, "Query", 403, func(p *hookPost) { p.target += "?a=1" }),
		bare(kind, "EmptyQuery", 403, func(p *hookPost) { p.target += "?" }),
		bare(kind, "OtherBody", 403, func(p *hookPost) { p.body = strings.ReplaceAll(p.body, "canary", "kanary") + "&x=1" }),
		bare(kind, "TrailingBytes", 403, func(p *hookPost) { p.body += "\n" }),
		bare(kind, "LostLastByte", 403, func(p *hookPost) { p.body = p.body[:len(p.body)-2] }),
		bare(kind, "Gzip", 403, func(p *hookPost) {
			p.add("Content-Encoding", "gzip")
			p.body = zipped(p.body)
		}),
		bare(kind, "CutBody", 403, func(p *hookPost) {
			p.frame, p.short = []string{"Content-Length: " + strconv.Itoa(len(p.body)+10)}, true
		}),
	}
}

func smsForgeries() []forgery {
	signature := func(change func(p *hookPost) string) func(*hookPost) {
		return func(p *hookPost) { p.set(twilioProof, change(p)) }
	}
	signedFor := func(u func(d *hookDraft) string, disguise func(p *hookPost)) forgery {
		return forgery{
			before: func(_ *hookHouse, d *hookDraft) { d.url = u(d) },
			after:  func(_ *hookHouse, p *hookPost) { disguise(p) },
		}
	}
	evil := func(d *hookDraft) string { return strings.Replace(d.url, "hooks.acme.example", "evil.example", 1) }
	tricks := map[string]forgery{
		"HostOfAnother":         signedFor(evil, func(p *hookPost) { p.host = "evil.example" }),
		"AbsoluteForm":          signedFor(evil, func(p *hookPost) { p.target = "https://evil.example" + p.target }),
		"ForwardedHost":         signedFor(evil, func(p *hookPost) { p.add("X-Forwarded-Host", "evil.example"); p.add("X-Forwarded-Proto", "https") }),
		"Forwarded":             signedFor(evil, func(p *hookPost) { p.add("Forwarded", "for=192.0.2.1;host=evil.example;proto=https") }),
		"OriginalURL":           signedFor(evil, func(p *hookPost) { p.add("X-Original-URL", "https://evil.example"+p.target) }),
		"OriginalHost":          signedFor(evil, func(p *hookPost) { p.add("X-Original-Host", "evil.example"); p.add("X-Host", "evil.example") }),
		"ForwardedPort":         signedFor(func(d *hookDraft) string { return strings.Replace(d.url, ".example", ".example:8443", 1) }, func(p *hookPost) { p.add("X-Forwarded-Port", "8443") }),
		"ForwardedProto":        signedFor(func(d *hookDraft) string { return strings.Replace(d.url, "https:", "http:", 1) }, func(p *hookPost) { p.add("X-Forwarded-Proto", "http") }),
		"ForwardedPrefix":       signedFor(func(d *hookDraft) string { return strings.Replace(d.url, "/hooks/", "/x/hooks/", 1) }, func(p *hookPost) { p.add("X-Forwarded-Prefix", "/x") }),
		"HostWithUser":          signedFor(func(d *hookDraft) string { return strings.Replace(d.url, "//", "//steve@", 1) }, func(*hookPost) {}),
		"SlashAtTheEnd":         signedFor(func(d *hookDraft) string { return d.url + "/" }, func(*hookPost) {}),
		"URLWithFragment":       signedFor(func(d *hookDraft) string { return d.url + "#rc=5&rp=all" }, func(*hookPost) {}),
		"URLInUpperCase":        signedFor(func(d *hookDraft) string { return strings.ToUpper(d.url) }, func(*hookPost) {}),
		"NoURL":                 signedFor(func(*hookDraft) string { return "" }, func(*hookPost) {}),
		"URLOfTheStatusHook":    signedFor(func(d *hookDraft) string { return d.url + "/status" }, func(*hookPost) {}),
		"QuerySigned":           signedFor(func(d *hookDraft) string { return d.url + "?a=1" }, func(p *hookPost) { p.target += "?a=1" }),
		"QueryOfBodyHashSigned": signedFor(func(d *hookDraft) string { return d.url + "?bodySHA256=00" }, func(p *hookPost) { p.target += "?bodySHA256=00" }),
		"FormInTheQuerySigned":  formInTheQuery(),
		"NeighboursURL":         {before: func(h *hookHouse, d *hookDraft) { d.url = hookURL("sms", "", h.neighbour) }},
		"OnTheNeighboursPath":   {after: func(h *hookHouse, p *hookPost) { p.target = hookPath("sms", "", h.neighbour) }},
		"OnTheWhatsAppPath":     {after: func(h *hookHouse, p *hookPost) { p.target = hookPath("whatsapp", "", h.acme) }},
		"ForeignersToken":       {before: func(h *hookHouse, d *hookDraft) { d.key = h.foreigner.token }},
		"ForeignersRequest":     {before: func(h *hookHouse, d *hookDraft) { *d = *draft("sms", d.n, h.foreigner); d.seat = h.acme }},
		"ForeignersRequestHere": {before: func(h *hookHouse, d *hookDraft) {
			u := d.url
			*d = *draft("sms", d.n, h.foreigner)
			d.seat, d.url = h.acme, u
		}},
		"EmptyToken":            {before: func(_ *hookHouse, d *hookDraft) { d.key = "" }},
		"EmptyTokenWhereItIsSo": {status: 503, before: func(h *hookHouse, d *hookDraft) { *d = *draft("sms", d.n, h.keyless) }},
		"RandomSignature": {after: func(_ *hookHouse, p *hookPost) {
			p.set(twilioProof, base64.StdEncoding.EncodeToString(make([]byte, sha1.Size)))
		}},
		"SignatureBase64URL": {after: func(_ *hookHouse, p *hookPost) { signature(base64URL)(p) }},
		"SignatureWithoutPad": {after: func(_ *hookHouse, p *hookPost) {
			signature(func(p *hookPost) string { return strings.TrimRight(p.get(twilioProof), "=") })(p)
		}},
		"SignatureAsHex": {after: func(_ *hookHouse, p *hookPost) { signature(asHex)(p) }},
		"SignatureOfAnotherName": {after: func(_ *hookHouse, p *hookPost) {
			p.lines = append(p.lines, "X_Twilio_Signature: "+p.get(twilioProof))
			p.del(twilioProof)
		}},
		"SignatureOfRawBody": {after: func(_ *hookHouse, p *hookPost) { p.set(twilioProof, mac1(p.draft.key, p.draft.url+p.body)) }},
	}
	var all []forgery
	for _, name := range slices.Sorted(maps.Keys(tricks)) {
		f := tricks[name]
		f.kind, f.name = "sms", name
		if f.status == 0 {
			f.status = 403
		}
		all = append(all, f)
	}
	return slices.Concat(all, signatureForgeries("sms"), methodForgeries("sms"), formForgeries("sms"), []forgery{
		bare("sms", "JSON", 403, func(p *hookPost) { p.set("Content-Type", "application/json") }),
		bare("sms", "Multipart", 403, func(p *hookPost) { p.set("Content-Type", "multipart/form-data; boundary=x") }),
		bare("sms", "NoContentType", 403, func(p *hookPost) { p.del("Content-Type") }),
		bare("sms", "HookItDoesNotHave", 404, func(p *hookPost) { p.target += "/events" }),
		bare("sms", "InstanceInUpperCase", 404, func(p *hookPost) { p.target = upperPath(p) }),
	})
}

// formInTheQuery moves the whole form into a query, as a webhook called by GET has it,
// under a signature that is right for that.
func formInTheQuery() forgery {
	var query string
	return forgery{
		before: func(_ *hookHouse, d *hookDraft) {
			query = d.form.Encode()
			d.url, d.form = d.url+"?"+query, url.Values{}
		},
		after: func(_ *hookHouse, p *hookPost) { p.target += "?" + query },
	}
}

func base64URL(p *hookPost) string {
	return strings.NewReplacer("+", "-", "/", "_").Replace("+/" + p.get(twilioProof)[2:])
}

func asHex(p *hookPost) string {
	raw, _ := base64.StdEncoding.DecodeString(p.get(twilioProof))
	return hex.EncodeToString(raw)
}

func mac1(key, text string) string {
	m := hmac.New(sha1.New, []byte(key))
	_, _ = m.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// formForgeries are what can be done to a form that Twilio signed, without its key.
func formForgeries(kind string) []forgery {
	resplit := func(change func(f url.Values)) func(p *hookPost) {
		return func(p *hookPost) {
			f := maps.Clone(p.draft.form)
			change(f)
			if p.get(twilioProof) != twilioSignature(p.draft.key, p.draft.url, f) {
				panic("the signature does not hold for the form that was cut anew: nothing is shown")
			}
			p.body = f.Encode()
		}
	}
	return []forgery{
		bare(kind, "SecondBody", 403, func(p *hookPost) { p.body += "&Body=%2Fclaim+WDJBMJ" }),
		bare(kind, "SecondBodyFirst", 403, func(p *hookPost) { p.body = "Body=%2Fclaim+WDJBMJ&" + p.body }),
		bare(kind, "SecondFrom", 403, func(p *hookPost) { p.body += "&From=%2B14155559999" }),
		bare(kind, "SameFieldTwice", 403, func(p *hookPost) { p.body += "&ApiVersion=2010-04-01" }),
		bare(kind, "NewField", 403, func(p *hookPost) { p.body += "&OptOutType=STOP" }),
		bare(kind, "FieldWithoutName", 403, func(p *hookPost) { p.body += "&=" }),
		bare(kind, "FieldRemoved", 403, func(p *hookPost) { p.body = strings.Replace(p.body, "&ApiVersion=2010-04-01", "", 1) }),
		bare(kind, "Semicolons", 403, func(p *hookPost) { p.body = strings.ReplaceAll(p.body, "&", ";") }),
		bare(kind, "BadEscape", 403, func(p *hookPost) { p.body += "&a=%zz" }),
		bare(kind, "NameInOtherCase", 403, func(p *hookPost) { p.body = strings.Replace(p.body, "From=", "from=", 1) }),
		bare(kind, "ManyFields", 403, func(p *hookPost) { p.body += strings.Repeat("&a=1", 10_000) }),
		{
			kind: kind, name: "ResplitSender", status: 403,
			before: func(_ *hookHouse, d *hookDraft) { d.form.Set("Body", "hello From+14155559999") },
			after: func(_ *hookHouse, p *hookPost) {
				resplit(func(f url.Values) {
					f["Body"] = []string{"hello "}
					f["From"] = []string{"+14155559999From" + f.Get("From")}
				})(p)
			},
		},
		{
			// The person's own text is cut so that it names another sender, and what
			// Twilio named goes on as the value of a field after it.
			kind: kind, name: "ResplitSenderAndCity", status: 403,
			before: func(_ *hookHouse, d *hookDraft) { d.form.Set("Body", "hello From+14155559999FromCity") },
			after: func(_ *hookHouse, p *hookPost) {
				resplit(func(f url.Values) {
					from, city := f.Get("From"), f.Get("FromCity")
					f["Body"], f["From"], f["FromCity"] = []string{"hello "}, []string{"+14155559999"}, []string{"From" + from + "FromCity" + city}
				})(p)
			},
		},
		{
			kind: kind, name: "ResplitTwiceNamed", status: 403,
			before: func(_ *hookHouse, d *hookDraft) { d.form.Set("Body", "x") },
			after: func(_ *hookHouse, p *hookPost) {
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
func smsAddressForgeries() []forgery {
	field := func(name string, value func(h *hookHouse) string) func(*hookHouse, *hookDraft) {
		return func(h *hookHouse, d *hookDraft) { d.form.Set(name, value(h)) }
	}
	is := func(v string) func(*hookHouse) string { return func(*hookHouse) string { return v } }
	return []forgery{
		keyed("sms", "ToTheNeighbour", 403, field("To", func(h *hookHouse) string { return h.neighbour.phone })),
		keyed("sms", "ToTheNeighbourByAService", 403, func(h *hookHouse, d *hookDraft) {
			d.form.Set("To", h.neighbour.phone)
			d.form.Set("MessagingServiceSid", "MG00000000000000000000000000000001")
		}),
		keyed("sms", "ToNobody", 403, field("To", is(""))),
		keyed("sms", "WithoutTo", 403, func(_ *hookHouse, d *hookDraft) { d.form.Del("To") }),
		keyed("sms", "AccountOfAnother", 403, field("AccountSid", func(h *hookHouse) string { return h.foreigner.account })),
		keyed("sms", "NoAccount", 403, func(_ *hookHouse, d *hookDraft) { d.form.Del("AccountSid") }),
		keyed("sms", "WithoutFrom", 403, func(_ *hookHouse, d *hookDraft) { d.form.Del("From") }),
		keyed("sms", "FromTwoNumbers", 403, field("From", is("+14155559999From+14155550101"))),
		keyed("sms", "FromWithBlank", 403, field("From", is(" 14155550101"))),
		keyed("sms", "FromWithNUL", 403, field("From", is("+1415555\x000101"))),
		keyed("sms", "FromOfLookAlikes", 403, field("From", is("+1415555０101"))),
		keyed("sms", "FromUnknownScheme", 403, field("From", is("sip:steve@example.com"))),
		keyed("sms", "ASidOfACall", 403, field("MessageSid", is("CA00000000000000000000000000000001"))),
		keyed("sms", "NoSid", 403, field("MessageSid", is(""))),
		keyed("sms", "ASidWithAPath", 403, field("MessageSid", is("SM0000000000000000000000000000/../"))),
		keyed("whatsapp", "NumberWithoutPrefix", 403, field("To", func(h *hookHouse) string { return h.acme.phone })),
		keyed("whatsapp", "PrefixTwice", 403, field("From", is("whatsapp:whatsapp:+14155550101"))),
	}
}

func statusForgeries() []forgery {
	return slices.Concat(signatureForgeries("sms/status")[:8], []forgery{
		keyed("sms/status", "SignedForTheMainHook", 403, func(h *hookHouse, d *hookDraft) { d.url = hookURL("sms", "", d.seat) }),
		keyed("sms/status", "ForeignersToken", 403, func(h *hookHouse, d *hookDraft) { d.key = h.foreigner.token }),
		keyed("sms/status", "AccountOfAnother", 403, func(h *hookHouse, d *hookDraft) { d.form.Set("AccountSid", h.foreigner.account) }),
		keyed("sms/status", "EmptyToken", 403, func(_ *hookHouse, d *hookDraft) { d.key = "" }),
		keyed("sms/status", "EmptyTokenWhereItIsSo", 503, func(h *hookHouse, d *hookDraft) { *d = *draft("sms/status", d.n, h.keyless) }),
		bare("sms/status", "SecondState", 403, func(p *hookPost) { p.body += "&MessageStatus=failed" }),
		bare("sms/status", "OtherState", 403, func(p *hookPost) { p.body = strings.Replace(p.body, "delivered", "undelivered", 1) }),
		bare("sms/status", "Query", 403, func(p *hookPost) { p.target += "?MessageStatus=failed" }),
	})
}

func whatsAppForgeries() []forgery {
	return slices.Concat(signatureForgeries("whatsapp"), []forgery{
		keyed("whatsapp", "SignedForSMS", 403, func(h *hookHouse, d *hookDraft) { d.url = hookURL("sms", "", d.seat) }),
		keyed("whatsapp", "NeighboursURL", 403, func(h *hookHouse, d *hookDraft) { d.url = hookURL("whatsapp", "", h.neighbour) }),
		keyed("whatsapp", "ForeignersToken", 403, func(h *hookHouse, d *hookDraft) { d.key = h.foreigner.token }),
		keyed("whatsapp", "EmptyTokenWhereThereIsNone", 503, func(h *hookHouse, d *hookDraft) { *d = *draft("whatsapp", d.n, h.keyless) }),
		{kind: "whatsapp/status", name: "SignedForTheMainHook", status: 403, before: func(h *hookHouse, d *hookDraft) { d.url = hookURL("whatsapp", "", d.seat) }},
	})
}

// slackForgeries are about any hook of Slack's.
func slackForgeries(kind string) []forgery {
	stamp := func(change func(s string) string) func(*hookPost) { // signed again for what it says then
		return func(p *hookPost) {
			p.set(slackStamp, change(p.get(slackStamp)))
			p.set(slackProof, slackSignature(p.draft.key, p.get(slackStamp), p.body))
		}
	}
	off := func(by time.Duration) func(*hookHouse, *hookDraft) {
		return func(_ *hookHouse, d *hookDraft) { d.at = time.Now().Add(by) }
	}
	signature := func(change func(s string) string) func(*hookPost) {
		return func(p *hookPost) { p.set(slackProof, change(p.get(slackProof))) }
	}
	return slices.Concat(signatureForgeries(kind), []forgery{
		bare(kind, "WrongSignature", 403, signature(func(string) string { return "v0=" + strings.Repeat("0", 64) })),
		bare(kind, "UpperCaseHex", 403, signature(func(s string) string { return "v0=" + strings.ToUpper(s[3:]) })),
		bare(kind, "OtherVersion", 403, signature(func(s string) string { return "v1=" + s[3:] })),
		bare(kind, "NoVersion", 403, signature(func(s string) string { return s[3:] })),
		bare(kind, "Base64Signature", 403, signature(func(s string) string {
			raw, _ := hex.DecodeString(s[3:])
			return "v0=" + base64.StdEncoding.EncodeToString(raw)
		})),
		keyed(kind, "NeighboursApp", 403, func(h *hookHouse, d *hookDraft) { d.key = h.neighbour.signing }),
		keyed(kind, "OnTheNeighboursPath", 403, func(h *hookHouse, d *hookDraft) { d.seat = h.neighbour }),
		keyed(kind, "EmptySecret", 403, func(_ *hookHouse, d *hookDraft) { d.key = "" }),
		keyed(kind, "EmptySecretWhereItIsSo", 503, func(h *hookHouse, d *hookDraft) { d.seat, d.key = h.keyless, "" }),
		keyed(kind, "StaleByFiveMinutes", 403, off(-302*time.Second)),
		keyed(kind, "EarlyByFiveMinutes", 403, off(302*time.Second)),
		keyed(kind, "StaleByADay", 403, off(-24*time.Hour)),
		keyed(kind, "OfTheEpoch", 403, func(_ *hookHouse, d *hookDraft) { d.at = time.Unix(0, 0) }),
		bare(kind, "NoTimestamp", 403, func(p *hookPost) { p.del(slackStamp) }),
		bare(kind, "TimestampTwice", 403, func(p *hookPost) { p.add(slackStamp, p.get(slackStamp)) }),
		bare(kind, "FreshTimestampOldSignature", 403, func(p *hookPost) { p.set(slackStamp, strconv.FormatInt(p.draft.at.Unix()+1, 10)) }),
		bare(kind, "EmptyTimestamp", 403, stamp(func(string) string { return "" })),
		bare(kind, "TimestampWithFraction", 403, stamp(func(s string) string { return s + ".0" })),
		bare(kind, "TimestampWithSign", 403, stamp(func(s string) string { return "+" + s })),
		bare(kind, "TimestampInHex", 403, stamp(func(s string) string {
			n, _ := strconv.ParseInt(s, 10, 64)
			return fmt.Sprintf("0x%x", n)
		})),
		bare(kind, "TimestampOfOtherDigits", 403, stamp(func(s string) string { return strings.ReplaceAll(s, "1", "１") })),
		bare(kind, "TimestampOverflows", 403, stamp(func(s string) string { return "18446744073709551616" + s })),
		bare(kind, "TimestampWithZeros", 403, stamp(func(s string) string { return strings.Repeat("0", 40) + s })),
		bare(kind, "BodyWithoutSignature", 403, func(p *hookPost) { p.set(slackProof, slackSignature(p.draft.key, p.get(slackStamp), "")) }),
		bare(kind, "HookItDoesNotHave", 404, func(p *hookPost) { p.target += "s" }),
		bare(kind, "NoHook", 404, func(p *hookPost) { p.target = hookPath("slack", "", p.draft.seat) }),
		bare(kind, "StatusHook", 404, func(p *hookPost) { p.target = hookPath("slack", "status", p.draft.seat) }),
		bare(kind, "InstanceInUpperCase", 404, func(p *hookPost) { p.target = upperPath(p) }),
		bare(kind, "MethodGET", 405, func(p *hookPost) { p.method = "GET" }),
		bare(kind, "MethodPUT", 405, func(p *hookPost) { p.method = "PUT" }),
	})
}

// slackEnvelopes are about what Slack's requests say, and how it is written.
func slackEnvelopes() []forgery {
	said := func(change ...string) func(*hookHouse, *hookDraft) {
		return func(_ *hookHouse, d *hookDraft) { d.body = strings.NewReplacer(change...).Replace(d.body) }
	}
	challenge := func(text string) func(*hookHouse, *hookDraft) {
		return func(_ *hookHouse, d *hookDraft) {
			d.body = fmt.Sprintf(`{"type":"url_verification","challenge":%q}`, text)
		}
	}
	moved := func(p *hookPost) { // the payload leaves the body that is signed
		p.target += "?" + p.body
		p.body = ""
	}
	return []forgery{
		bare("slack/events", "SpacesInBody", 403, func(p *hookPost) { p.body = strings.ReplaceAll(p.body, `":`, `": `) }),
		bare("slack/events", "EscapesInBody", 403, func(p *hookPost) { p.body = strings.ReplaceAll(p.body, "canary", `\u0063anary`) }),
		bare("slack/events", "ByteOrderMark", 403, func(p *hookPost) { p.body = "\ufeff" + p.body }),
		keyed("slack/events", "TeamOfAnother", 403, said("T0ACME", "T0NEXT")),
		keyed("slack/events", "AppOfAnother", 403, said("A0ACME", "A0NEXT")),
		keyed("slack/events", "AuthorizedTeamOfAnother", 403, func(_ *hookHouse, d *hookDraft) {
			d.body = strings.Replace(d.body, `"enterprise_id":null,"team_id":"T0ACME"`, `"enterprise_id":null,"team_id":"T0NEXT"`, 1)
		}),
		keyed("slack/commands", "AppOfAnother", 403, func(h *hookHouse, d *hookDraft) { d.form.Set("api_app_id", h.neighbour.app) }),
		keyed("slack/interactivity", "AppOfAnother", 403, func(h *hookHouse, d *hookDraft) {
			d.form.Set("payload", strings.ReplaceAll(d.form.Get("payload"), h.acme.app, h.neighbour.app))
		}),
		{kind: "slack/events", name: "ChallengeUnsigned", status: 403, before: challenge("abc"), after: func(_ *hookHouse, p *hookPost) { p.del(slackProof) }},
		{kind: "slack/events", name: "ChallengeUnsignedWithoutTime", status: 403, before: challenge("abc"), after: func(_ *hookHouse, p *hookPost) { p.del(slackProof); p.del(slackStamp) }},
		{kind: "slack/events", name: "ChallengeOfTheNeighbour", status: 403, before: func(h *hookHouse, d *hookDraft) { challenge("abc")(h, d); d.key = h.neighbour.signing }},
		{kind: "slack/events", name: "ChallengeOfTheKeyless", status: 503, before: func(h *hookHouse, d *hookDraft) { challenge("abc")(h, d); d.key, d.seat = "", h.keyless }},
		keyed("slack/events", "ChallengeLong", 403, challenge(strings.Repeat("a", 257))),
		keyed("slack/events", "ChallengeHTML", 403, challenge("<script>alert(1)</script>")),
		keyed("slack/events", "ChallengeOfLines", 403, challenge("a\r\nSet-Cookie: a=b")),
		keyed("slack/events", "ChallengeEmpty", 403, challenge("")),
		bare("slack/interactivity", "PayloadInTheQuery", 403, moved),
		{kind: "slack/interactivity", name: "PayloadInTheQueryNothingSigned", status: 403, after: func(_ *hookHouse, p *hookPost) {
			moved(p)
			p.set(slackProof, slackSignature(p.draft.key, p.get(slackStamp), ""))
		}},
		bare("slack/interactivity", "PayloadAlsoInTheQuery", 403, func(p *hookPost) { p.target += "?payload=%7B%7D" }),
		bare("slack/commands", "TextInTheQuery", 403, func(p *hookPost) { p.target += "?text=other" }),
		bare("slack/commands", "FormReordered", 403, func(p *hookPost) {
			parts := strings.Split(p.body, "&")
			slices.Reverse(parts)
			p.body = strings.Join(parts, "&")
		}),
		bare("slack/commands", "PercentForPlus", 403, func(p *hookPost) { p.body = strings.ReplaceAll(p.body, "%2F", "%2f") }),
	}
}

// framingForgeries try to have one server see where another sees none: whatever is
// framed oddly is refused, or read in one way alone, in which it is not signed.
func framingForgeries(kind string) []forgery {
	unproven := func(change func(p *hookPost)) func(p *hookPost) {
		return func(p *hookPost) { p.del(p.proof()); change(p) }
	}
	framed := func(lines ...string) func(p *hookPost) {
		return func(p *hookPost) { p.frame = lines }
	}
	length := func(p *hookPost, more int) string { return "Content-Length: " + strconv.Itoa(len(p.body)+more) }
	all := []forgery{
		bare(kind, "TwoLengths", 400, func(p *hookPost) { p.frame = []string{length(p, 0), length(p, 1)} }),
		bare(kind, "LengthList", 400, func(p *hookPost) { p.frame = []string{length(p, 0) + ", 0"} }),
		bare(kind, "LengthWithSign", 400, func(p *hookPost) { p.frame = []string{"Content-Length: +" + strconv.Itoa(len(p.body))} }),
		bare(kind, "LengthNegative", 400, framed("Content-Length: -1")),
		bare(kind, "LengthOverflows", 400, framed("Content-Length: 18446744073709551617")),
		bare(kind, "BlankBeforeColon", 400, func(p *hookPost) { p.frame = []string{"Content-Length : " + strconv.Itoa(len(p.body))} }),
		bare(kind, "OtherCoding", 501, framed("Transfer-Encoding: xchunked")),
		bare(kind, "CodingTwice", 501, framed("Transfer-Encoding: chunked", "Transfer-Encoding: chunked")),
		bare(kind, "CodingList", 501, framed("Transfer-Encoding: gzip, chunked")),
		bare(kind, "CodingIdentity", 501, framed("Transfer-Encoding: identity")),
		bare(kind, "TwoHosts", 400, func(p *hookPost) { p.add("Host", "evil.example") }),
		bare(kind, "NoHost", 400, func(p *hookPost) { p.host = "a b" }),
		bare(kind, "LineWithoutColon", 400, func(p *hookPost) { p.lines = append(p.lines, "nonsense") }),
		bare(kind, "LengthAndChunksUnproven", 403, unproven(func(p *hookPost) {
			p.chunked(50)
			p.frame = append(p.frame, length(p, 0))
		})),
	}
	if kind == "telegram" { // the secret proves who calls, whatever the body is
		return all
	}
	return append(all, bare(kind, "LengthSaysSignedChunksSayOther", 403, func(p *hookPost) {
		p.frame, p.sent = []string{length(p, 0), "Transfer-Encoding: chunked"}, inChunks("Body=other&"+p.body, 50)
	}), bare(kind, "ChunkOfNoSize", 403, func(p *hookPost) {
		p.frame, p.sent = []string{"Transfer-Encoding: chunked"}, "zz\r\n"+p.body+"\r\n0\r\n\r\n"
	}), bare(kind, "ChunkTooLarge", 403, func(p *hookPost) {
		p.frame, p.sent = []string{"Transfer-Encoding: chunked"}, "ffffffffffffffff1\r\n"+p.body+"\r\n0\r\n\r\n"
	}))
}
