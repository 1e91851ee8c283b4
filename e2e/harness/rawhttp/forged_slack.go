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

// slackForgeries are about any hook of Slack's.
func slackForgeries(kind string) []ForgedRequest {
	stamp := func(change func(s string) string) func(*RawRequest) { // signed again for what it says then
		return func(p *RawRequest) {
			p.Set(SlackTimestampHeader, change(p.Get(SlackTimestampHeader)))
			p.Set(SlackSignatureHeader, harness.SlackSignature(p.Unsigned.key, p.Get(SlackTimestampHeader), p.Body))
		}
	}
	off := func(by time.Duration) func(*WebhookFixture, *UnsignedRequest) {
		return func(_ *WebhookFixture, d *UnsignedRequest) { d.timestamp = time.Now().Add(by) }
	}
	signature := func(change func(s string) string) func(*RawRequest) {
		return func(p *RawRequest) { p.Set(SlackSignatureHeader, change(p.Get(SlackSignatureHeader))) }
	}
	return slices.Concat(signatureForgeries(kind), []ForgedRequest{
		unsignedForgery(
			kind,
			"WrongSignature",
			403,
			signature(func(string) string { return "v0=" + strings.Repeat("0", 64) }),
		),
		unsignedForgery(
			kind,
			"UpperCaseHex",
			403,
			signature(func(s string) string { return "v0=" + strings.ToUpper(s[3:]) }),
		),
		unsignedForgery(kind, "OtherVersion", 403, signature(func(s string) string { return "v1=" + s[3:] })),
		unsignedForgery(kind, "NoVersion", 403, signature(func(s string) string { return s[3:] })),
		unsignedForgery(kind, "Base64Signature", 403, signature(func(s string) string {
			raw, _ := hex.DecodeString(s[3:])
			return "v0=" + base64.StdEncoding.EncodeToString(raw)
		})),
		signedForgery(
			kind,
			"NeighboursApp",
			403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.key = h.Neighbor.SigningSecret },
		),
		signedForgery(
			kind,
			"OnTheNeighboursPath",
			403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.accounts = h.Neighbor },
		),
		signedForgery(kind, "EmptySecret", 403, func(_ *WebhookFixture, d *UnsignedRequest) { d.key = "" }),
		signedForgery(
			kind,
			"EmptySecretWhereItIsSo",
			503,
			func(h *WebhookFixture, d *UnsignedRequest) { d.accounts, d.key = h.Keyless, "" },
		),
		signedForgery(kind, "StaleByFiveMinutes", 403, off(-302*time.Second)),
		signedForgery(kind, "EarlyByFiveMinutes", 403, off(302*time.Second)),
		signedForgery(kind, "StaleByADay", 403, off(-24*time.Hour)),
		signedForgery(kind, "OfTheEpoch", 403, func(_ *WebhookFixture, d *UnsignedRequest) { d.timestamp = time.Unix(0, 0) }),
		unsignedForgery(kind, "NoTimestamp", 403, func(p *RawRequest) { p.Del(SlackTimestampHeader) }),
		unsignedForgery(
			kind,
			"TimestampTwice",
			403,
			func(p *RawRequest) { p.Add(SlackTimestampHeader, p.Get(SlackTimestampHeader)) },
		),
		unsignedForgery(
			kind,
			"FreshTimestampOldSignature",
			403,
			func(p *RawRequest) { p.Set(SlackTimestampHeader, strconv.FormatInt(p.Unsigned.timestamp.Unix()+1, 10)) },
		),
		unsignedForgery(kind, "EmptyTimestamp", 403, stamp(func(string) string { return "" })),
		unsignedForgery(kind, "TimestampWithFraction", 403, stamp(func(s string) string { return s + ".0" })),
		unsignedForgery(kind, "TimestampWithSign", 403, stamp(func(s string) string { return "+" + s })),
		unsignedForgery(kind, "TimestampInHex", 403, stamp(func(s string) string {
			n, _ := strconv.ParseInt(s, 10, 64)
			return fmt.Sprintf("0x%x", n)
		})),
		unsignedForgery(
			kind,
			"TimestampOfOtherDigits",
			403,
			stamp(func(s string) string { return strings.ReplaceAll(s, "1", "１") }),
		),
		unsignedForgery(kind, "TimestampOverflows", 403, stamp(func(s string) string { return "18446744073709551616" + s })),
		unsignedForgery(kind, "TimestampWithZeros", 403, stamp(func(s string) string { return strings.Repeat("0", 40) + s })),
		unsignedForgery(kind, "BodyWithoutSignature", 403, func(p *RawRequest) {
			p.Set(SlackSignatureHeader, harness.SlackSignature(p.Unsigned.key, p.Get(SlackTimestampHeader), ""))
		}),
		unsignedForgery(kind, "HookItDoesNotHave", 404, func(p *RawRequest) { p.Target += "s" }),
		unsignedForgery(
			kind,
			"NoHook",
			404,
			func(p *RawRequest) { p.Target = webhookPath("slack", "", p.Unsigned.accounts) },
		),
		unsignedForgery(
			kind,
			"StatusHook",
			404,
			func(p *RawRequest) { p.Target = webhookPath("slack", "status", p.Unsigned.accounts) },
		),
		unsignedForgery(kind, "InstanceInUpperCase", 404, func(p *RawRequest) { p.Target = upperInstancePath(p) }),
		unsignedForgery(kind, "MethodGET", 405, func(p *RawRequest) { p.Method = "GET" }),
		unsignedForgery(kind, "MethodPUT", 405, func(p *RawRequest) { p.Method = "PUT" }),
	})
}

// slackEnvelopes are about what Slack's requests say, and how it is written.
func slackEnvelopes() []ForgedRequest {
	said := func(change ...string) func(*WebhookFixture, *UnsignedRequest) {
		return func(_ *WebhookFixture, d *UnsignedRequest) { d.body = strings.NewReplacer(change...).Replace(d.body) }
	}
	challenge := func(text string) func(*WebhookFixture, *UnsignedRequest) {
		return func(_ *WebhookFixture, d *UnsignedRequest) {
			d.body = fmt.Sprintf(`{"type":"url_verification","challenge":%q}`, text)
		}
	}
	moved := func(p *RawRequest) { // the payload leaves the body that is signed
		p.Target += "?" + p.Body
		p.Body = ""
	}
	return []ForgedRequest{
		unsignedForgery(
			"slack/events",
			"SpacesInBody",
			403,
			func(p *RawRequest) { p.Body = strings.ReplaceAll(p.Body, `":`, `": `) },
		),
		unsignedForgery(
			"slack/events",
			"EscapesInBody",
			403,
			func(p *RawRequest) { p.Body = strings.ReplaceAll(p.Body, "canary", `\u0063anary`) },
		),
		unsignedForgery("slack/events", "ByteOrderMark", 403, func(p *RawRequest) { p.Body = "\ufeff" + p.Body }),
		signedForgery("slack/events", "TeamOfAnother", 403, said("T0ACME", "T0NEXT")),
		signedForgery("slack/events", "AppOfAnother", 403, said("A0ACME", "A0NEXT")),
		signedForgery("slack/events", "AuthorizedTeamOfAnother", 403, func(_ *WebhookFixture, d *UnsignedRequest) {
			d.body = strings.Replace(
				d.body,
				`"enterprise_id":null,"team_id":"T0ACME"`,
				`"enterprise_id":null,"team_id":"T0NEXT"`,
				1,
			)
		}),
		signedForgery(
			"slack/commands",
			"AppOfAnother",
			403,
			func(h *WebhookFixture, d *UnsignedRequest) { d.form.Set("api_app_id", h.Neighbor.AppID) },
		),
		signedForgery("slack/interactivity", "AppOfAnother", 403, func(h *WebhookFixture, d *UnsignedRequest) {
			d.form.Set("payload", strings.ReplaceAll(d.form.Get("payload"), h.Acme.AppID, h.Neighbor.AppID))
		}),
		{
			Kind:          "slack/events",
			Name:          "ChallengeUnsigned",
			Status:        403,
			BeforeSigning: challenge("abc"),
			AfterSigning:  func(_ *WebhookFixture, p *RawRequest) { p.Del(SlackSignatureHeader) },
		},
		{
			Kind:          "slack/events",
			Name:          "ChallengeUnsignedWithoutTime",
			Status:        403,
			BeforeSigning: challenge("abc"),
			AfterSigning:  func(_ *WebhookFixture, p *RawRequest) { p.Del(SlackSignatureHeader); p.Del(SlackTimestampHeader) },
		},
		{
			Kind:          "slack/events",
			Name:          "ChallengeOfTheNeighbour",
			Status:        403,
			BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) { challenge("abc")(h, d); d.key = h.Neighbor.SigningSecret },
		},
		{
			Kind:          "slack/events",
			Name:          "ChallengeOfTheKeyless",
			Status:        503,
			BeforeSigning: func(h *WebhookFixture, d *UnsignedRequest) { challenge("abc")(h, d); d.key, d.accounts = "", h.Keyless },
		},
		signedForgery("slack/events", "ChallengeLong", 403, challenge(strings.Repeat("a", 257))),
		signedForgery("slack/events", "ChallengeHTML", 403, challenge("<script>alert(1)</script>")),
		signedForgery("slack/events", "ChallengeOfLines", 403, challenge("a\r\nSet-Cookie: a=b")),
		signedForgery("slack/events", "ChallengeEmpty", 403, challenge("")),
		unsignedForgery("slack/interactivity", "PayloadInTheQuery", 403, moved),
		{
			Kind:   "slack/interactivity",
			Name:   "PayloadInTheQueryNothingSigned",
			Status: 403,
			AfterSigning: func(_ *WebhookFixture, p *RawRequest) {
				moved(p)
				p.Set(SlackSignatureHeader, harness.SlackSignature(p.Unsigned.key, p.Get(SlackTimestampHeader), ""))
			},
		},
		unsignedForgery(
			"slack/interactivity",
			"PayloadAlsoInTheQuery",
			403,
			func(p *RawRequest) { p.Target += "?payload=%7B%7D" },
		),
		unsignedForgery("slack/commands", "TextInTheQuery", 403, func(p *RawRequest) { p.Target += "?text=other" }),
		unsignedForgery("slack/commands", "FormReordered", 403, func(p *RawRequest) {
			parts := strings.Split(p.Body, "&")
			slices.Reverse(parts)
			p.Body = strings.Join(parts, "&")
		}),
		unsignedForgery(
			"slack/commands",
			"PercentForPlus",
			403,
			func(p *RawRequest) { p.Body = strings.ReplaceAll(p.Body, "%2F", "%2f") },
		),
	}
}
