package operation

import (
	"context"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/identity"
)

// formatRegion is the format of a country as two letters.
const formatRegion = "region"

// formatSenderNumber is the format of a number from which the gateway sends.
const formatSenderNumber = "sender-number"

// NewChecker returns a checker for the formats of the native API. allowPrivate allows agent URLs
// over http and on private addresses, but never on link-local and metadata addresses.
func NewChecker(allowPrivate bool) *fastapi.Checker {
	return &fastapi.Checker{Formats: map[string]func(string) (string, *fastapi.Violation){
		fastapi.FormatUUID:     fastapi.CleanUUID,
		fastapi.FormatTime:     fastapi.CleanTime,
		fastapi.FormatEmail:    fastapi.CleanEmail,
		fastapi.FormatPhone:    cleanPhone,
		formatRegion:           cleanRegion,
		formatSenderNumber:     cleanSenderNumber,
		fastapi.FormatLocale:   fastapi.CleanLocale,
		fastapi.FormatTimezone: fastapi.CleanTimezone,
		fastapi.FormatAgentURL: func(s string) (string, *fastapi.Violation) { return cleanAgentURL(s, allowPrivate) },
	}}
}

func cleanPhone(s string) (string, *fastapi.Violation) {
	number, err := identity.NormalizePhone(s, "")
	return number, fastapi.ValueViolation(err)
}

// cleanSenderNumber cleans a number of the deployment itself. It stays as the provider writes it: a
// provider does not know a number in the form that NormalizePhone returns.
func cleanSenderNumber(s string) (string, *fastapi.Violation) {
	number := identity.CleanPhone(strings.TrimPrefix(s, "whatsapp:"))
	if _, err := identity.NormalizePhone(number, ""); err != nil {
		return "", fastapi.ValueViolation(err)
	}
	return number, nil
}

func cleanRegion(s string) (string, *fastapi.Violation) {
	region, err := identity.NormalizeRegion(s)
	return region, fastapi.ValueViolation(err)
}

func cleanAgentURL(s string, allowPrivate bool) (string, *fastapi.Violation) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "":
		return "", fastapi.InvalidValue("an agent URL must be an absolute https URL")
	case u.User != nil:
		return "", fastapi.InvalidValue("an agent URL must not contain a user name or password")
	case !allowPrivate && u.Scheme != "https":
		return "", fastapi.InvalidValue("an agent URL must be an https URL")
	case !allowPrivate && isPrivateHost(u.Hostname()):
		return "", fastapi.InvalidValue("an agent URL must be on a public address")
	case isForbiddenAddr(u.Hostname()):
		return "", fastapi.InvalidValue("an agent URL must not be on a link-local, metadata or reserved address")
	case !isAllowedPort(u.Port()):
		return "", fastapi.InvalidValue("an agent URL must have the port 80 or 443, or one from 1024")
	}
	return s, nil
}

// isForbiddenAddr reports whether a host is an address at which applications are never called.
func isForbiddenAddr(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && !gateway.IsAgentAddr(ip, true)
}

// isAllowedPort reports whether applications may be called at a port. The port of the scheme, "", is
// allowed.
func isAllowedPort(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && gateway.IsAgentPort(uint16(n))
}

// isPrivateHost reports whether a host is a local name or a private address. Other names are
// checked when the delivery client resolves them.
func isPrivateHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return looksLikeNumber(host)
	}
	return !gateway.IsPublicAddr(ip)
}

// looksLikeNumber reports whether the last label of a host is a number, as in 127.1 and 0x7f000001.
// Some resolvers interpret such names as addresses.
func looksLikeNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	_, err := strconv.ParseUint(last, 0, 64)
	return err == nil || strings.Trim(last, "0123456789") == ""
}

// CleanExternalID normalizes the value external_id for the channel in the value channel, if both
// are present. A phone number without a country code is completed for the instance, as by NormalizePhone.
func CleanExternalID(
	ctx context.Context, values map[string]any, in, instance string, violations *[]fastapi.Violation,
) {
	channel, _ := values["channel"].(string)
	id, ok := values["external_id"].(string)
	if !ok || channel == "" {
		return
	}
	normalized, err := NormalizeExternalID(ctx, channel, plusForSpace(in, id), instance)
	if err != nil && plusForSpace(in, id) != id {
		normalized, err = NormalizeExternalID(ctx, channel, id, instance)
	}
	if err != nil {
		*violations = append(*violations, fastapi.ValueError(err.Error(), in, "external_id"))
		return
	}
	values["external_id"] = normalized
}

// completePhone returns value with its country code if it is a number of a schema for phone numbers.
func completePhone(ctx context.Context, s *huma.Schema, value any, instance string) any {
	number, ok := value.(string)
	if !ok || s.Format != fastapi.FormatPhone {
		return value
	}
	if complete, err := NormalizePhone(ctx, number, instance); err == nil {
		return complete
	}
	return value // the checker says what is wrong
}

// plusForSpace returns a value of a query that begins with a space with a plus sign in its place: a plus
// sign that is not escaped is decoded as a space.
func plusForSpace(in, value string) string {
	if rest, found := strings.CutPrefix(value, " "); found && in == "query" {
		return "+" + rest
	}
	return value
}
