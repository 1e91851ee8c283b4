//go:build unix

package rawhttp

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"hydragate/e2e/harness"
)

// A ForgedRequest is a genuine request with one change that the gateway must reject with Status.
// BeforeSigning changes the request before it is signed, as the holder of a key of another
// instance could. AfterSigning changes the signed request, as someone without a key could. Either
// may be nil.
type ForgedRequest struct {
	Kind, Name    string
	Status        int
	BeforeSigning func(h *WebhookFixture, d *UnsignedRequest)
	AfterSigning  func(h *WebhookFixture, p *RawRequest)
}

// signedForgery returns a forgery that is changed before it is signed.
func signedForgery(kind, name string, status int, before func(h *WebhookFixture, d *UnsignedRequest)) ForgedRequest {
	return ForgedRequest{Kind: kind, Name: name, Status: status, BeforeSigning: before}
}

// unsignedForgery returns a forgery that is changed after it is signed.
func unsignedForgery(kind, name string, status int, after func(p *RawRequest)) ForgedRequest {
	return ForgedRequest{
		Kind:         kind,
		Name:         name,
		Status:       status,
		AfterSigning: func(_ *WebhookFixture, p *RawRequest) { after(p) },
	}
}

// Build returns the request with message number n.
func (f ForgedRequest) Build(h *WebhookFixture, n int) *RawRequest {
	return buildRequest(h, NewUnsignedRequest(f.Kind, n, h.Acme), f.BeforeSigning, f.AfterSigning)
}

// buildRequest signs a request. It changes it before and after that.
func buildRequest(
	h *WebhookFixture, d *UnsignedRequest,
	before func(h *WebhookFixture, d *UnsignedRequest), after func(h *WebhookFixture, p *RawRequest),
) *RawRequest {
	if before != nil {
		before(h, d)
	}
	p := d.Sign()
	if after != nil {
		after(h, p)
	}
	return p
}

// ForgedRequests returns all forged requests, in a fixed order.
func ForgedRequests() []ForgedRequest {
	return slices.Concat(
		telegramForgeries(),
		smsForgeries(),
		smsAddressForgeries(),
		statusForgeries(),
		whatsAppForgeries(),
		slackForgeries("slack/events"),
		slackForgeries("slack/commands"),
		slackForgeries("slack/interactivity"),
		slackEnvelopes(),
		framingForgeries("telegram"),
		framingForgeries("sms"),
		framingForgeries("slack/events"),
	)
}

// telegramForgeries returns forgeries of Telegram updates.
func telegramForgeries() []ForgedRequest {
	secret := func(change func(s string) string) func(*RawRequest) {
		return func(p *RawRequest) { p.Set(TelegramSecretHeader, change(p.Get(TelegramSecretHeader))) }
	}
	insteadOfSecret := func(line string) func(*RawRequest) {
		return func(p *RawRequest) {
			p.Del(TelegramSecretHeader)
			p.HeaderLines = append(p.HeaderLines, line)
		}
	}
	all := []ForgedRequest{
		unsignedForgery("telegram", "no secret", 403, func(p *RawRequest) { p.Del(TelegramSecretHeader) }),
		unsignedForgery("telegram", "empty secret", 403, secret(func(string) string { return "" })),
		unsignedForgery("telegram", "wrong secret", 403,
			secret(func(s string) string { return strings.Repeat("A", len(s)) })),
		unsignedForgery("telegram", "prefix of the secret", 403, secret(func(s string) string { return s[:len(s)-1] })),
		unsignedForgery("telegram", "first byte of the secret only", 403,
			secret(func(s string) string { return s[:1] })),
		unsignedForgery("telegram", "secret with a suffix", 403, secret(func(s string) string { return s + "A" })),
		unsignedForgery("telegram", "secret repeated in one header", 403,
			secret(func(s string) string { return s + ", " + s })),
		unsignedForgery("telegram", "secret in quotes", 403, secret(strconv.Quote)),
		unsignedForgery("telegram", "NUL after the secret", 400, secret(func(s string) string { return s + "\x00" })),
		unsignedForgery("telegram", "NUL within the secret", 400,
			secret(func(s string) string { return s[:8] + "\x00" + s[9:] })),
		unsignedForgery("telegram", "secret in other case", 403, secret(swapCase)),
		unsignedForgery("telegram", "percent-encoded secret", 403,
			secret(func(s string) string { return fmt.Sprintf("%%%X", s[0]) + s[1:] })),
		unsignedForgery("telegram", "full-width character in the secret", 403,
			secret(func(s string) string { return string(rune(s[0])-'!'+'！') + s[1:] })),
		unsignedForgery("telegram", "repeated secret header", 403,
			func(p *RawRequest) { p.Add(TelegramSecretHeader, p.Get(TelegramSecretHeader)) }),
		unsignedForgery("telegram", "wrong secret before the valid one", 403, func(p *RawRequest) {
			p.HeaderLines = append([]string{TelegramSecretHeader + ": guess"}, p.HeaderLines...)
		}),
		unsignedForgery("telegram", "wrong secret after the valid one", 403,
			func(p *RawRequest) { p.Add(TelegramSecretHeader, "guess") }),
		unsignedForgery("telegram", "secret in the query", 403, func(p *RawRequest) {
			p.Target += "?secret_token=" + p.Get(TelegramSecretHeader)
			p.Del(TelegramSecretHeader)
		}),
		unsignedForgery("telegram", "valid secret with a query", 403,
			func(p *RawRequest) { p.Target += "?update_id=1" }),
		unsignedForgery("telegram", "valid secret with an empty query", 403, func(p *RawRequest) { p.Target += "?" }),
		unsignedForgery("telegram", "secret as bearer token", 403,
			func(p *RawRequest) { insteadOfSecret("Authorization: Bearer " + p.Unsigned.key)(p) }),
		unsignedForgery("telegram", "secret under another header name", 403,
			func(p *RawRequest) { insteadOfSecret("X_Telegram_Bot_Api_Secret_Token: " + p.Unsigned.key)(p) }),
		unsignedForgery("telegram", "secret in a trailer", 403, func(p *RawRequest) {
			insteadOfSecret("Trailer: " + TelegramSecretHeader)(p)
			p.UseChunks(100)
			trailer := TelegramSecretHeader + ": " + p.Unsigned.key
			p.WireBody = strings.TrimSuffix(p.WireBody, "\r\n") + trailer + "\r\n\r\n"
		}),
		signedForgery("telegram", "secret of another instance", 403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.key = h.Neighbor.TelegramSecret }),
		signedForgery("telegram", "path of another instance", 403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.accounts = h.Neighbor }),
		signedForgery("telegram", "empty secret, endpoint with an empty key", 503,
			func(h *WebhookFixture, d *UnsignedRequest) { d.accounts, d.key = h.Keyless, "" }),
		signedForgery("telegram", "any secret, endpoint with an empty key", 503,
			func(h *WebhookFixture, d *UnsignedRequest) { d.accounts = h.Keyless }),
		{
			Kind:   "telegram",
			Name:   "X-Original-URL, path of another instance",
			Status: 403,
			AfterSigning: func(h *WebhookFixture, p *RawRequest) {
				p.Add("X-Original-URL", p.Target)
				p.Add("X-Rewrite-URL", p.Target)
				p.Target = webhookPath("telegram", "", h.Neighbor)
			},
		},
		unsignedForgery("telegram", "unknown instance", 404, func(p *RawRequest) {
			const unknown = "00000000-0000-7000-8000-000000000009"
			p.Target = strings.Replace(p.Target, p.Unsigned.accounts.InstanceID, unknown, 1)
		}),
		unsignedForgery("telegram", "instance ID in upper case", 404,
			func(p *RawRequest) { p.Target = upperInstancePath(p) }),
		unsignedForgery("telegram", "instance ID without dashes", 404, func(p *RawRequest) {
			id := p.Unsigned.accounts.InstanceID
			p.Target = strings.Replace(p.Target, id, strings.ReplaceAll(id, "-", ""), 1)
		}),
		unsignedForgery("telegram", "unknown webhook path", 404, func(p *RawRequest) { p.Target += "/events" }),
		unsignedForgery("telegram", "path traversal", 404, func(p *RawRequest) { p.Target += "%2F..%2Fx" }),
		unsignedForgery("telegram", "empty body", 403, func(p *RawRequest) { p.Body = "" }),
		unsignedForgery("telegram", "truncated body", 403, func(p *RawRequest) {
			p.Framing, p.truncated = []string{"Content-Length: " + strconv.Itoa(len(p.Body)+10)}, true
		}),
	}
	return append(all, methodForgeries("telegram")...)
}

// upperInstancePath returns the target of a request with its instance ID in upper case.
func upperInstancePath(p *RawRequest) string {
	id := p.Unsigned.accounts.InstanceID
	return strings.Replace(p.Target, id, strings.ToUpper(id), 1)
}

// swapCase swaps the case of the ASCII letters in s.
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

// methodForgeries returns requests with a method other than POST.
func methodForgeries(kind string) (all []ForgedRequest) {
	for _, method := range []string{"GET", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "post", "TRACE"} {
		all = append(all, unsignedForgery(kind, "method "+method, 405, func(p *RawRequest) { p.Method = method }))
	}
	return append(all, unsignedForgery(kind, "method override header", 405, func(p *RawRequest) {
		p.Method = "GET"
		p.Add("X-HTTP-Method-Override", "POST")
	}))
}

// signatureForgeries returns forgeries of the signature header, and of the body and query that it
// covers, for any provider that signs its requests.
func signatureForgeries(kind string) []ForgedRequest {
	signature := func(change func(s string) string) func(*RawRequest) {
		return func(p *RawRequest) { p.Set(p.SignatureHeader(), change(p.Get(p.SignatureHeader()))) }
	}
	return []ForgedRequest{
		unsignedForgery(kind, "no signature", 403, func(p *RawRequest) { p.Del(p.SignatureHeader()) }),
		unsignedForgery(kind, "empty signature", 403, signature(func(string) string { return "" })),
		unsignedForgery(kind, "truncated signature", 403, signature(func(s string) string { return s[:len(s)-1] })),
		unsignedForgery(kind, "longer signature", 403, signature(func(s string) string { return s + "0" })),
		unsignedForgery(kind, "NUL within the signature", 400,
			signature(func(s string) string { return s[:10] + "\x00" + s[11:] })),
		unsignedForgery(kind, "signature in other case", 403, signature(swapCase)),
		unsignedForgery(kind, "repeated signature header", 403,
			func(p *RawRequest) { p.Add(p.SignatureHeader(), p.Get(p.SignatureHeader())) }),
		unsignedForgery(kind, "signature in the query", 403, func(p *RawRequest) {
			p.Target += "?" + p.SignatureHeader() + "=" + url.QueryEscape(p.Get(p.SignatureHeader()))
			p.Del(p.SignatureHeader())
		}),
		unsignedForgery(kind, "query", 403, func(p *RawRequest) { p.Target += "?a=1" }),
		unsignedForgery(kind, "empty query", 403, func(p *RawRequest) { p.Target += "?" }),
		unsignedForgery(kind, "other body", 403,
			func(p *RawRequest) { p.Body = strings.ReplaceAll(p.Body, "canary", "kanary") + "&x=1" }),
		unsignedForgery(kind, "trailing bytes", 403, func(p *RawRequest) { p.Body += "\n" }),
		unsignedForgery(kind, "missing last bytes", 403, func(p *RawRequest) { p.Body = p.Body[:len(p.Body)-2] }),
		unsignedForgery(kind, "gzip", 403, func(p *RawRequest) {
			p.Add("Content-Encoding", "gzip")
			p.Body = harness.Gzipped(p.Body)
		}),
		unsignedForgery(kind, "truncated body", 403, func(p *RawRequest) {
			p.Framing, p.truncated = []string{"Content-Length: " + strconv.Itoa(len(p.Body)+10)}, true
		}),
	}
}

// framingForgeries returns requests on whose boundaries two servers might disagree (request
// smuggling). The gateway must reject the framing, or read the request in a way in which its
// signature is invalid.
func framingForgeries(kind string) []ForgedRequest {
	unsigned := func(change func(p *RawRequest)) func(p *RawRequest) {
		return func(p *RawRequest) { p.Del(p.SignatureHeader()); change(p) }
	}
	framed := func(lines ...string) func(p *RawRequest) {
		return func(p *RawRequest) { p.Framing = lines }
	}
	length := func(p *RawRequest, more int) string { return "Content-Length: " + strconv.Itoa(len(p.Body)+more) }
	all := []ForgedRequest{
		unsignedForgery(kind, "two lengths", 400,
			func(p *RawRequest) { p.Framing = []string{length(p, 0), length(p, 1)} }),
		unsignedForgery(kind, "list of lengths", 400,
			func(p *RawRequest) { p.Framing = []string{length(p, 0) + ", 0"} }),
		unsignedForgery(kind, "length with sign", 400,
			func(p *RawRequest) { p.Framing = []string{"Content-Length: +" + strconv.Itoa(len(p.Body))} }),
		unsignedForgery(kind, "negative length", 400, framed("Content-Length: -1")),
		unsignedForgery(kind, "length overflows", 400, framed("Content-Length: 18446744073709551617")),
		unsignedForgery(kind, "space before colon", 400,
			func(p *RawRequest) { p.Framing = []string{"Content-Length : " + strconv.Itoa(len(p.Body))} }),
		unsignedForgery(kind, "unknown transfer coding", 501, framed("Transfer-Encoding: xchunked")),
		unsignedForgery(kind, "repeated transfer coding", 501,
			framed("Transfer-Encoding: chunked", "Transfer-Encoding: chunked")),
		unsignedForgery(kind, "list of transfer codings", 501, framed("Transfer-Encoding: gzip, chunked")),
		unsignedForgery(kind, "identity transfer coding", 501, framed("Transfer-Encoding: identity")),
		unsignedForgery(kind, "two hosts", 400, func(p *RawRequest) { p.Add("Host", "evil.example") }),
		unsignedForgery(kind, "invalid host", 400, func(p *RawRequest) { p.Host = "a b" }),
		unsignedForgery(kind, "header line without colon", 400,
			func(p *RawRequest) { p.HeaderLines = append(p.HeaderLines, "nonsense") }),
		unsignedForgery(kind, "unsigned with length and chunks", 403, unsigned(func(p *RawRequest) {
			p.UseChunks(50)
			p.Framing = append(p.Framing, length(p, 0))
		})),
	}
	if kind == "telegram" { // the secret does not depend on the body
		return all
	}
	return append(all, unsignedForgery(kind, "signed length with other chunks", 403, func(p *RawRequest) {
		p.Framing = []string{length(p, 0), "Transfer-Encoding: chunked"}
		p.WireBody = chunkedBody("Body=other&"+p.Body, 50)
	}), unsignedForgery(kind, "invalid chunk size", 403, func(p *RawRequest) {
		p.Framing, p.WireBody = []string{"Transfer-Encoding: chunked"}, "zz\r\n"+p.Body+"\r\n0\r\n\r\n"
	}), unsignedForgery(kind, "chunk size overflows", 403, func(p *RawRequest) {
		p.Framing, p.WireBody = []string{"Transfer-Encoding: chunked"}, "ffffffffffffffff1\r\n"+p.Body+"\r\n0\r\n\r\n"
	}))
}
