package operation

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/identity"
)

func NewChecker(allowPrivate bool) *fastapi.Checker {
	return &fastapi.Checker{Formats: map[string]func(string) (string, *fastapi.Violation){
		fastapi.FormatUUID:     fastapi.CleanUUID,
		fastapi.FormatTime:     fastapi.CleanTime,
		fastapi.FormatEmail:    fastapi.CleanEmail,
		fastapi.FormatPhone:    cleanPhone,
		fastapi.FormatLocale:   fastapi.CleanLocale,
		fastapi.FormatTimezone: fastapi.CleanTimezone,
		fastapi.FormatAgentURL: func(s string) (string, *fastapi.Violation) { return cleanAgentURL(s, allowPrivate) },
	}}
}

func cleanPhone(s string) (string, *fastapi.Violation) {
	number, err := identity.NormalizePhone(s)
	return number, fastapi.ValueViolation(err)
}

func cleanAgentURL(s string, allowPrivate bool) (string, *fastapi.Violation) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "":
		return "", fastapi.InvalidValue("an agent URL must be an absolute https URL")
	case u.User != nil:
		return "", fastapi.InvalidValue("an agent URL must not contain a user name or password")
	case allowPrivate:
		return s, nil
	case u.Scheme != "https":
		return "", fastapi.InvalidValue("an agent URL must be an https URL")
	case isPrivateHost(u.Hostname()):
		return "", fastapi.InvalidValue("an agent URL must be on a public address")
	}
	return s, nil
}

// isPrivateHost reports whether a host is of this machine or its network by its very name.
// Names are resolved, and judged again, by whoever dials.
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

// looksLikeNumber reports whether a host that is no address ends like one, as 127.1 and
// 0x7f000001 do: some resolvers take it for one.
func looksLikeNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	_, err := strconv.ParseUint(last, 0, 64)
	return err == nil || strings.Trim(last, "0123456789") == ""
}

// CleanExternalID gives the external_id that stands beside a channel its one spelling.
func CleanExternalID(values map[string]any, where string, wrong *[]fastapi.Violation) {
	channel, _ := values["channel"].(string)
	id, ok := values["external_id"].(string)
	if !ok || channel == "" {
		return
	}
	clean, err := gateway.NormalizeExternalID(adapters.Channel(channel), id)
	if err != nil {
		*wrong = append(*wrong, fastapi.ValueError(err.Error(), where, "external_id"))
		return
	}
	values["external_id"] = clean
}
