package slack

import (
	"encoding/json"
	"strings"

	"hydragate/adapters"
)

// maxChallenge is the maximum length of a challenge that is answered.
const maxChallenge = 256

// An envelope contains an event of the Events API. The event stays raw, so that its content never
// makes the envelope undecodable.
type envelope struct {
	Type                string          `json:"type"`
	Challenge           string          `json:"challenge"`
	TeamID              string          `json:"team_id"`
	EnterpriseID        string          `json:"enterprise_id"`
	ContextTeamID       string          `json:"context_team_id"`
	ContextEnterpriseID string          `json:"context_enterprise_id"`
	APIAppID            string          `json:"api_app_id"`
	EventID             string          `json:"event_id"`
	IsExtSharedChannel  bool            `json:"is_ext_shared_channel"`
	MinuteRateLimited   int64           `json:"minute_rate_limited"`
	Authorizations      []authorization `json:"authorizations"`
	Event               json.RawMessage `json:"event"`
}

// An authorization is one installation that may see the event.
type authorization struct {
	TeamID       string `json:"team_id"`
	EnterpriseID string `json:"enterprise_id"`
	UserID       string `json:"user_id"`
	IsBot        bool   `json:"is_bot"`
}

func parseEvent(body []byte, ep adapters.Endpoint) (adapters.Inbound, error) {
	var env envelope
	valid := json.Unmarshal(body, &env) == nil
	if valid && env.Type == "url_verification" {
		return challengeResponse(env.Challenge)
	}
	if env.isForeign(ep) {
		return adapters.Inbound{}, adapters.ErrOtherEndpoint
	}
	if !valid || env.Type == "" || env.namesNoInstallation() {
		return inboundMessage(undecodableMessage(body)), nil
	}
	if env.Type != "event_callback" {
		in := inboundMessage(unsupportedMessage(digestKey(body)))
		in.Notices = env.notices()
		return in, nil
	}
	in := inboundMessage(env.decode(body, ep))
	in.Notices = env.notices()
	return in, nil
}

// challengeResponse answers Slack's verification of the URL. The challenge is repeated only if
// browsers cannot interpret it as anything but text.
func challengeResponse(challenge string) (adapters.Inbound, error) {
	safe := allBytes(challenge, func(c byte) bool {
		return isUpper(c) || isLower(c) || isDigit(c) || strings.IndexByte("+/=_.-", c) >= 0
	})
	if challenge == "" || len(challenge) > maxChallenge || !safe {
		return adapters.Inbound{}, adapters.ErrMalformed
	}
	return plainResponse(challenge), nil
}

func (e envelope) decode(body []byte, ep adapters.Endpoint) adapters.Message {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(e.Event, &head); err != nil || head.Type == "" {
		return undecodableMessage(body)
	}
	if head.Type != "message" && head.Type != "app_mention" {
		return unsupportedMessage(e.eventKey(body))
	}
	var ev event
	if err := json.Unmarshal(e.Event, &ev); err != nil || !isID(ev.Channel) || !isTimestamp(ev.TS) {
		return undecodableMessage(body)
	}
	m, ok := e.message(ev, ep)
	if !ok {
		return unsupportedMessage(e.eventKey(body))
	}
	if len(m.Content) > 0 { // of a kind that is not known
		m.Raw = body
	}
	return m
}

// eventKey returns the key of the event itself.
func (e envelope) eventKey(body []byte) string {
	if isKeyPart(e.EventID) {
		return "ev:" + e.EventID
	}
	return digestKey(body)
}

// botUserID returns the bot's user ID.
func (e envelope) botUserID(ep adapters.Endpoint) string {
	if id := ep.Settings[adapters.BotUserID]; id != "" {
		return id
	}
	if len(e.Authorizations) > 0 && e.Authorizations[0].IsBot {
		return e.Authorizations[0].UserID
	}
	return ""
}
