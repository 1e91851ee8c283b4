//go:build unix

package rawhttp

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hydragate/e2e/harness"
)

// slackForgeries returns forgeries for any of the webhooks of Slack.
func slackForgeries(kind string) []ForgedRequest {
	// stamp changes the timestamp and signs the request with the new one.
	stamp := func(change func(s string) string) func(*RawRequest) {
		return func(p *RawRequest) {
			p.Set(SlackTimestampHeader, change(p.Get(SlackTimestampHeader)))
			p.Set(SlackSignatureHeader, harness.SlackSignature(p.Unsigned.key, p.Get(SlackTimestampHeader), p.Body))
		}
	}
	shifted := func(by time.Duration) func(*WebhookFixture, *UnsignedRequest) {
		return func(_ *WebhookFixture, d *UnsignedRequest) { d.timestamp = time.Now().Add(by) }
	}
	signature := func(change func(s string) string) func(*RawRequest) {
		return func(p *RawRequest) { p.Set(SlackSignatureHeader, change(p.Get(SlackSignatureHeader))) }
	}
	return slices.Concat(signatureForgeries(kind), []ForgedRequest{
		unsignedForgery(kind, "wrong signature", 403,
			signature(func(string) string { return "v0=" + strings.Repeat("0", 64) })),
		unsignedForgery(kind, "upper-case hex", 403,
			signature(func(s string) string { return "v0=" + strings.ToUpper(s[3:]) })),
		unsignedForgery(kind, "other version", 403, signature(func(s string) string { return "v1=" + s[3:] })),
		unsignedForgery(kind, "no version", 403, signature(func(s string) string { return s[3:] })),
		unsignedForgery(kind, "Base64 signature", 403, signature(func(s string) string {
			raw, _ := hex.DecodeString(s[3:])
			return "v0=" + base64.StdEncoding.EncodeToString(raw)
		})),
		signedForgery(kind, "key of another instance", 403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.key = h.Neighbor.SigningSecret }),
		signedForgery(kind, "path of another instance", 403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.accounts = h.Neighbor }),
		signedForgery(kind, "empty secret", 403, func(_ *WebhookFixture, d *UnsignedRequest) { d.key = "" }),
		signedForgery(kind, "empty secret, endpoint with an empty key", 503,
			func(h *WebhookFixture, d *UnsignedRequest) { d.accounts, d.key = h.Keyless, "" }),
		signedForgery(kind, "timestamp five minutes old", 403, shifted(-302*time.Second)),
		signedForgery(kind, "timestamp five minutes ahead", 403, shifted(302*time.Second)),
		signedForgery(kind, "timestamp one day old", 403, shifted(-24*time.Hour)),
		signedForgery(kind, "timestamp zero", 403,
			func(_ *WebhookFixture, d *UnsignedRequest) { d.timestamp = time.Unix(0, 0) }),
		unsignedForgery(kind, "no timestamp", 403, func(p *RawRequest) { p.Del(SlackTimestampHeader) }),
		unsignedForgery(kind, "repeated timestamp header", 403,
			func(p *RawRequest) { p.Add(SlackTimestampHeader, p.Get(SlackTimestampHeader)) }),
		unsignedForgery(kind, "new timestamp with old signature", 403,
			func(p *RawRequest) { p.Set(SlackTimestampHeader, strconv.FormatInt(p.Unsigned.timestamp.Unix()+1, 10)) }),
		unsignedForgery(kind, "empty timestamp", 403, stamp(func(string) string { return "" })),
		unsignedForgery(kind, "timestamp with fraction", 403, stamp(func(s string) string { return s + ".0" })),
		unsignedForgery(kind, "timestamp with sign", 403, stamp(func(s string) string { return "+" + s })),
		unsignedForgery(kind, "timestamp in hex", 403, stamp(func(s string) string {
			n, _ := strconv.ParseInt(s, 10, 64)
			return fmt.Sprintf("0x%x", n)
		})),
		unsignedForgery(kind, "full-width digits in timestamp", 403,
			stamp(func(s string) string { return strings.ReplaceAll(s, "1", "１") })),
		unsignedForgery(kind, "timestamp overflows", 403,
			stamp(func(s string) string { return "18446744073709551616" + s })),
		unsignedForgery(kind, "timestamp with zeros", 403,
			stamp(func(s string) string { return strings.Repeat("0", 40) + s })),
		unsignedForgery(kind, "signature of an empty body", 403, func(p *RawRequest) {
			p.Set(SlackSignatureHeader, harness.SlackSignature(p.Unsigned.key, p.Get(SlackTimestampHeader), ""))
		}),
		unsignedForgery(kind, "unknown webhook path", 404, func(p *RawRequest) { p.Target += "s" }),
		unsignedForgery(kind, "no webhook path", 404,
			func(p *RawRequest) { p.Target = webhookPath("slack", "", p.Unsigned.accounts) }),
		unsignedForgery(kind, "status webhook path", 404,
			func(p *RawRequest) { p.Target = webhookPath("slack", "status", p.Unsigned.accounts) }),
		unsignedForgery(kind, "instance ID in upper case", 404,
			func(p *RawRequest) { p.Target = upperInstancePath(p) }),
		unsignedForgery(kind, "method GET", 405, func(p *RawRequest) { p.Method = "GET" }),
		unsignedForgery(kind, "method PUT", 405, func(p *RawRequest) { p.Method = "PUT" }),
	})
}

// slackEnvelopes returns forgeries of the content of Slack requests and of its encoding.
func slackEnvelopes() []ForgedRequest {
	replaced := func(change ...string) func(*WebhookFixture, *UnsignedRequest) {
		return func(_ *WebhookFixture, d *UnsignedRequest) { d.body = strings.NewReplacer(change...).Replace(d.body) }
	}
	challenge := func(text string) func(*WebhookFixture, *UnsignedRequest) {
		return func(_ *WebhookFixture, d *UnsignedRequest) {
			d.body = fmt.Sprintf(`{"type":"url_verification","challenge":%q}`, text)
		}
	}
	// moved moves the payload from the body, which is signed, to the query.
	moved := func(p *RawRequest) {
		p.Target += "?" + p.Body
		p.Body = ""
	}
	return []ForgedRequest{
		unsignedForgery("slack/events", "spaces in body", 403,
			func(p *RawRequest) { p.Body = strings.ReplaceAll(p.Body, `":`, `": `) }),
		unsignedForgery("slack/events", "escapes in body", 403,
			func(p *RawRequest) { p.Body = strings.ReplaceAll(p.Body, "canary", `\u0063anary`) }),
		unsignedForgery("slack/events", "byte order mark", 403, func(p *RawRequest) { p.Body = "\ufeff" + p.Body }),
		signedForgery("slack/events", "team ID of another instance", 403, replaced("T0ACME", "T0NEXT")),
		signedForgery("slack/events", "app ID of another instance", 403, replaced("A0ACME", "A0NEXT")),
		signedForgery("slack/events", "authorized team of another instance", 403,
			func(_ *WebhookFixture, d *UnsignedRequest) {
				d.body = strings.Replace(
					d.body,
					`"enterprise_id":null,"team_id":"T0ACME"`,
					`"enterprise_id":null,"team_id":"T0NEXT"`,
					1,
				)
			}),
		signedForgery("slack/commands", "app ID of another instance", 403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.form.Set("api_app_id", h.Neighbor.AppID) }),
		signedForgery("slack/interactivity", "app ID of another instance", 403,
			func(h *WebhookFixture, d *UnsignedRequest) {
				d.form.Set("payload", strings.ReplaceAll(d.form.Get("payload"), h.Acme.AppID, h.Neighbor.AppID))
			}),
		{
			Kind:          "slack/events",
			Name:          "unsigned challenge",
			Status:        403,
			BeforeSigning: challenge("abc"),
			AfterSigning:  func(_ *WebhookFixture, p *RawRequest) { p.Del(SlackSignatureHeader) },
		},
		{
			Kind:          "slack/events",
			Name:          "unsigned challenge without timestamp",
			Status:        403,
			BeforeSigning: challenge("abc"),
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
				p.Del(SlackSignatureHeader)
				p.Del(SlackTimestampHeader)
			},
		},
		{
			Kind:   "slack/events",
			Name:   "challenge signed with the key of another instance",
			Status: 403,
			BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) {
				challenge("abc")(h, d)
				d.key = h.Neighbor.SigningSecret
			},
		},
		{
			Kind:   "slack/events",
			Name:   "challenge of an endpoint without a key",
			Status: 503,
			BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) {
				challenge("abc")(h, d)
				d.key, d.accounts = "", h.Keyless
			},
		},
		signedForgery("slack/events", "long challenge", 403, challenge(strings.Repeat("a", 257))),
		signedForgery("slack/events", "HTML in challenge", 403, challenge("<script>alert(1)</script>")),
		signedForgery("slack/events", "line break in challenge", 403, challenge("a\r\nSet-Cookie: a=b")),
		signedForgery("slack/events", "empty challenge", 403, challenge("")),
		unsignedForgery("slack/interactivity", "payload in the query", 403, moved),
		{
			Kind:   "slack/interactivity",
			Name:   "payload in the query, empty body signed",
			Status: 403,
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
				moved(p)
				p.Set(SlackSignatureHeader, harness.SlackSignature(p.Unsigned.key, p.Get(SlackTimestampHeader), ""))
			},
		},
		unsignedForgery("slack/interactivity", "second payload in the query", 403,
			func(p *RawRequest) { p.Target += "?payload=%7B%7D" }),
		unsignedForgery("slack/commands", "text in the query", 403, func(p *RawRequest) { p.Target += "?text=other" }),
		unsignedForgery("slack/commands", "reordered form", 403, func(p *RawRequest) {
			parts := strings.Split(p.Body, "&")
			slices.Reverse(parts)
			p.Body = strings.Join(parts, "&")
		}),
		unsignedForgery("slack/commands", "lower-case escapes", 403,
			func(p *RawRequest) { p.Body = strings.ReplaceAll(p.Body, "%2F", "%2f") }),
	}
}
