//go:build unix

package rawhttp

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A ForgedRequest is a genuine request with one thing changed: before it was signed, as
// somebody changes it who holds a key of another place, or after, as somebody does who
// has none. A newcomer adds a line.
type ForgedRequest struct {
	Kind, Name    string
	Status        int
	BeforeSigning func(h *WebhookFixture, d *UnsignedRequest)
	AfterSigning  func(h *WebhookFixture, p *RawRequest)
}

// The two things a forgery can be, as a table reads them.

func signedForgery(kind, name string, status int, before func(h *WebhookFixture, d *UnsignedRequest)) ForgedRequest {
	return ForgedRequest{Kind: kind, Name: name, Status: status, BeforeSigning: before}
}

func unsignedForgery(kind, name string, status int, after func(p *RawRequest)) ForgedRequest {
	return ForgedRequest{
		Kind:         kind,
		Name:         name,
		Status:       status,
		AfterSigning: func(_ *WebhookFixture, p *RawRequest) { after(p) },
	}
}

func ForgedRequests() []ForgedRequest {
	return slices.Concat(
		telegramForgeries(),
		smsForgeries(),
		smsAddressForgeries(),
		statusForgeries(),
		whatsAppForgeries(),
		slackForgeries(
			"slack/events",
		),
		slackForgeries("slack/commands"),
		slackForgeries("slack/interactivity"),
		slackEnvelopes(),
		framingForgeries("telegram"),
		framingForgeries("sms"),
		framingForgeries("slack/events"),
	)
}

func telegramForgeries() []ForgedRequest {
	secret := func(change func(s string) string) func(*RawRequest) {
		return func(p *RawRequest) { p.Set(TelegramSecretHeader, change(p.Get(TelegramSecretHeader))) }
	}
	also := func(line string) func(*RawRequest) {
		return func(p *RawRequest) { p.Del(TelegramSecretHeader); p.HeaderLines = append(p.HeaderLines, line) }
	}
	all := []ForgedRequest{
		unsignedForgery("telegram", "NoSecret", 403, func(p *RawRequest) { p.Del(TelegramSecretHeader) }),
		unsignedForgery("telegram", "EmptySecret", 403, secret(func(string) string { return "" })),
		unsignedForgery("telegram", "WrongSecret", 403, secret(func(s string) string { return strings.Repeat("A", len(s)) })),
		unsignedForgery("telegram", "PrefixOfTheSecret", 403, secret(func(s string) string { return s[:len(s)-1] })),
		unsignedForgery("telegram", "FirstByteOfTheSecret", 403, secret(func(s string) string { return s[:1] })),
		unsignedForgery("telegram", "SecretAndMore", 403, secret(func(s string) string { return s + "A" })),
		unsignedForgery("telegram", "SecretTwiceInOne", 403, secret(func(s string) string { return s + ", " + s })),
		unsignedForgery("telegram", "SecretInQuotes", 403, secret(strconv.Quote)),
		unsignedForgery("telegram", "SecretWithNUL", 400, secret(func(s string) string { return s + "\x00" })),
		unsignedForgery("telegram", "SecretCutByNUL", 400, secret(func(s string) string { return s[:8] + "\x00" + s[9:] })),
		unsignedForgery("telegram", "SecretInOtherCase", 403, secret(swapCase)),
		unsignedForgery(
			"telegram",
			"SecretPercentEncoded",
			403,
			secret(func(s string) string { return fmt.Sprintf("%%%X", s[0]) + s[1:] }),
		),
		unsignedForgery(
			"telegram",
			"SecretOfLookAlikes",
			403,
			secret(func(s string) string { return string(rune(s[0])-'!'+'！') + s[1:] }),
		),
		unsignedForgery(
			"telegram",
			"SecretTwice",
			403,
			func(p *RawRequest) { p.Add(TelegramSecretHeader, p.Get(TelegramSecretHeader)) },
		),
		unsignedForgery("telegram", "WrongAndRightSecret", 403, func(p *RawRequest) {
			p.HeaderLines = append([]string{TelegramSecretHeader + ": guess"}, p.HeaderLines...)
		}),
		unsignedForgery("telegram", "RightAndWrongSecret", 403, func(p *RawRequest) { p.Add(TelegramSecretHeader, "guess") }),
		unsignedForgery("telegram", "SecretInTheQuery", 403, func(p *RawRequest) {
			p.Target += "?secret_token=" + p.Get(TelegramSecretHeader)
			p.Del(TelegramSecretHeader)
		}),
		unsignedForgery("telegram", "SecretAndAQuery", 403, func(p *RawRequest) { p.Target += "?update_id=1" }),
		unsignedForgery("telegram", "SecretAndAnEmptyQuery", 403, func(p *RawRequest) { p.Target += "?" }),
		unsignedForgery(
			"telegram",
			"SecretAsBearer",
			403,
			func(p *RawRequest) { also("Authorization: Bearer " + p.Unsigned.key)(p) },
		),
		unsignedForgery(
			"telegram",
			"SecretUnderAnotherName",
			403,
			func(p *RawRequest) { also("X_Telegram_Bot_Api_Secret_Token: " + p.Unsigned.key)(p) },
		),
		unsignedForgery("telegram", "SecretInATrailer", 403, func(p *RawRequest) {
			also("Trailer: " + TelegramSecretHeader)(p)
			p.UseChunks(100)
			p.WireBody = strings.TrimSuffix(p.WireBody, "\r\n") + TelegramSecretHeader + ": " + p.Unsigned.key + "\r\n\r\n"
		}),
		signedForgery(
			"telegram",
			"NeighboursSecret",
			403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.key = h.Neighbor.TelegramSecret },
		),
		signedForgery(
			"telegram",
			"OnTheNeighboursPath",
			403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.accounts = h.Neighbor },
		),
		signedForgery(
			"telegram",
			"EmptyKeyEmptySecret",
			503,
			func(h *WebhookFixture, d *UnsignedRequest) { d.accounts, d.key = h.Keyless, "" },
		),
		signedForgery(
			"telegram",
			"EmptyKeyAnySecret",
			503,
			func(h *WebhookFixture, d *UnsignedRequest) { d.accounts = h.Keyless },
		),
		{Kind: "telegram", Name: "OriginalURLOfAnother", Status: 403, AfterSigning: func(h *WebhookFixture, p *RawRequest) {
			p.Add("X-Original-URL", p.Target)
			p.Add("X-Rewrite-URL", p.Target)
			p.Target = webhookPath("telegram", "", h.Neighbor)
		}},
		unsignedForgery("telegram", "UnknownInstance", 404, func(p *RawRequest) {
			p.Target = strings.Replace(p.Target, p.Unsigned.accounts.InstanceID, "00000000-0000-7000-8000-000000000009", 1)
		}),
		unsignedForgery("telegram", "InstanceInUpperCase", 404, func(p *RawRequest) { p.Target = upperInstancePath(p) }),
		unsignedForgery("telegram", "InstanceWithoutDashes", 404, func(p *RawRequest) {
			p.Target = strings.Replace(
				p.Target,
				p.Unsigned.accounts.InstanceID,
				strings.ReplaceAll(p.Unsigned.accounts.InstanceID, "-", ""),
				1,
			)
		}),
		unsignedForgery("telegram", "HookItDoesNotHave", 404, func(p *RawRequest) { p.Target += "/events" }),
		unsignedForgery("telegram", "PathClimbsOut", 404, func(p *RawRequest) { p.Target += "%2F..%2Fx" }),
		unsignedForgery("telegram", "EmptyBody", 403, func(p *RawRequest) { p.Body = "" }),
		unsignedForgery("telegram", "CutBody", 403, func(p *RawRequest) {
			p.Framing, p.truncated = []string{"Content-Length: " + strconv.Itoa(len(p.Body)+10)}, true
		}),
	}
	return append(all, methodForgeries("telegram")...)
}

func upperInstancePath(p *RawRequest) string {
	return strings.Replace(p.Target, p.Unsigned.accounts.InstanceID, strings.ToUpper(p.Unsigned.accounts.InstanceID), 1)
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

func methodForgeries(kind string) (all []ForgedRequest) {
	for _, method := range []string{"GET", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "post", "TRACE"} {
		all = append(all, unsignedForgery(kind, "Method"+method, 405, func(p *RawRequest) { p.Method = method }))
	}
	return append(all, unsignedForgery(kind, "MethodOverridden", 405, func(p *RawRequest) {
		p.Method = "GET"
		p.Add("X-HTTP-Method-Override", "POST")
	}))
}

// signatureForgeries are about the header that holds a signature, whoever made it.
func signatureForgeries(kind string) []ForgedRequest {
	signature := func(change func(s string) string) func(*RawRequest) {
		return func(p *RawRequest) { p.Set(p.SignatureHeader(), change(p.Get(p.SignatureHeader()))) }
	}
	return []ForgedRequest{
		unsignedForgery(kind, "NoSignature", 403, func(p *RawRequest) { p.Del(p.SignatureHeader()) }),
		unsignedForgery(kind, "EmptySignature", 403, signature(func(string) string { return "" })),
		unsignedForgery(kind, "TruncatedSignature", 403, signature(func(s string) string { return s[:len(s)-1] })),
		unsignedForgery(kind, "LongerSignature", 403, signature(func(s string) string { return s + "0" })),
		unsignedForgery(kind, "SignatureWithNUL", 400, signature(func(s string) string { return s[:10] + "\x00" + s[11:] })),
		unsignedForgery(kind, "SignatureInOtherCase", 403, signature(swapCase)),
		unsignedForgery(
			kind,
			"SignatureTwice",
			403,
			func(p *RawRequest) { p.Add(p.SignatureHeader(), p.Get(p.SignatureHeader())) },
		),
		unsignedForgery(kind, "SignatureInTheQuery", 403, func(p *RawRequest) {
			p.Target += "?" + p.SignatureHeader() + "=" + url.QueryEscape(p.Get(p.SignatureHeader()))
			p.Del(p.SignatureHeader())
		}),
		unsignedForgery(kind, "Query", 403, func(p *RawRequest) { p.Target += "?a=1" }),
		unsignedForgery(kind, "EmptyQuery", 403, func(p *RawRequest) { p.Target += "?" }),
		unsignedForgery(
			kind,
			"OtherBody",
			403,
			func(p *RawRequest) { p.Body = strings.ReplaceAll(p.Body, "canary", "kanary") + "&x=1" },
		),
		unsignedForgery(kind, "TrailingBytes", 403, func(p *RawRequest) { p.Body += "\n" }),
		unsignedForgery(kind, "LostLastByte", 403, func(p *RawRequest) { p.Body = p.Body[:len(p.Body)-2] }),
		unsignedForgery(kind, "Gzip", 403, func(p *RawRequest) {
			p.Add("Content-Encoding", "gzip")
			p.Body = Gzipped(p.Body)
		}),
		unsignedForgery(kind, "CutBody", 403, func(p *RawRequest) {
			p.Framing, p.truncated = []string{"Content-Length: " + strconv.Itoa(len(p.Body)+10)}, true
		}),
	}
}

// framingForgeries try to have one server see where another sees none: whatever is
// framed oddly is refused, or read in one way alone, in which it is not signed.
func framingForgeries(kind string) []ForgedRequest {
	unproven := func(change func(p *RawRequest)) func(p *RawRequest) {
		return func(p *RawRequest) { p.Del(p.SignatureHeader()); change(p) }
	}
	framed := func(lines ...string) func(p *RawRequest) {
		return func(p *RawRequest) { p.Framing = lines }
	}
	length := func(p *RawRequest, more int) string { return "Content-Length: " + strconv.Itoa(len(p.Body)+more) }
	all := []ForgedRequest{
		unsignedForgery(kind, "TwoLengths", 400, func(p *RawRequest) { p.Framing = []string{length(p, 0), length(p, 1)} }),
		unsignedForgery(kind, "LengthList", 400, func(p *RawRequest) { p.Framing = []string{length(p, 0) + ", 0"} }),
		unsignedForgery(
			kind,
			"LengthWithSign",
			400,
			func(p *RawRequest) { p.Framing = []string{"Content-Length: +" + strconv.Itoa(len(p.Body))} },
		),
		unsignedForgery(kind, "LengthNegative", 400, framed("Content-Length: -1")),
		unsignedForgery(kind, "LengthOverflows", 400, framed("Content-Length: 18446744073709551617")),
		unsignedForgery(
			kind,
			"BlankBeforeColon",
			400,
			func(p *RawRequest) { p.Framing = []string{"Content-Length : " + strconv.Itoa(len(p.Body))} },
		),
		unsignedForgery(kind, "OtherCoding", 501, framed("Transfer-Encoding: xchunked")),
		unsignedForgery(kind, "CodingTwice", 501, framed("Transfer-Encoding: chunked", "Transfer-Encoding: chunked")),
		unsignedForgery(kind, "CodingList", 501, framed("Transfer-Encoding: gzip, chunked")),
		unsignedForgery(kind, "CodingIdentity", 501, framed("Transfer-Encoding: identity")),
		unsignedForgery(kind, "TwoHosts", 400, func(p *RawRequest) { p.Add("Host", "evil.example") }),
		unsignedForgery(kind, "NoHost", 400, func(p *RawRequest) { p.Host = "a b" }),
		unsignedForgery(
			kind,
			"LineWithoutColon",
			400,
			func(p *RawRequest) { p.HeaderLines = append(p.HeaderLines, "nonsense") },
		),
		unsignedForgery(kind, "LengthAndChunksUnproven", 403, unproven(func(p *RawRequest) {
			p.UseChunks(50)
			p.Framing = append(p.Framing, length(p, 0))
		})),
	}
	if kind == "telegram" { // the secret proves who calls, whatever the body is
		return all
	}
	return append(all, unsignedForgery(kind, "LengthSaysSignedChunksSayOther", 403, func(p *RawRequest) {
		p.Framing, p.WireBody = []string{length(p, 0), "Transfer-Encoding: chunked"}, chunkedBody("Body=other&"+p.Body, 50)
	}), unsignedForgery(kind, "ChunkOfNoSize", 403, func(p *RawRequest) {
		p.Framing, p.WireBody = []string{"Transfer-Encoding: chunked"}, "zz\r\n"+p.Body+"\r\n0\r\n\r\n"
	}), unsignedForgery(kind, "ChunkTooLarge", 403, func(p *RawRequest) {
		p.Framing, p.WireBody = []string{"Transfer-Encoding: chunked"}, "ffffffffffffffff1\r\n"+p.Body+"\r\n0\r\n\r\n"
	}))
}
