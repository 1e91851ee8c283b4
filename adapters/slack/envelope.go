package slack

import (
	"bytes"
	"encoding/json"

	"hydragate/adapters"
)

// maxChallenge is the longest challenge that is answered.
const maxChallenge = 256

// An envelope is what the Events API wraps every event in. The event stays raw, so
// that whatever is in it never makes the envelope unreadable.
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

func readEvent(body []byte, ep adapters.Endpoint) (adapters.Inbound, error) {
	var env envelope
	err := json.Unmarshal(body, &env)
	if err == nil && env.Type == "url_verification" {
		return verify(env.Challenge)
	}
	if env.foreign(ep) {
		return adapters.Inbound{}, adapters.ErrForged
	}
	if err != nil || env.Type == "" || env.unaddressed() {
		return carrying(undecodable(body)), nil
	}
	if env.Type != "event_callback" {
		return carrying(unsupported(digest(body))), nil
	}
	return carrying(env.read(body, ep)), nil
}

// verify answers Slack's question whether the URL is ours. The challenge is
// repeated only when no browser could take it for anything but text.
func verify(challenge string) (adapters.Inbound, error) {
	safe := all(challenge, func(c byte) bool {
		return isUpper(c) || isLower(c) || isDigit(c) || bytes.IndexByte([]byte("+/=_.-"), c) >= 0
	})
	if challenge == "" || len(challenge) > maxChallenge || !safe {
		return adapters.Inbound{}, adapters.ErrMalformed
	}
	return answering(challenge), nil
}

func (e envelope) read(body []byte, ep adapters.Endpoint) adapters.Message {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(e.Event, &head); err != nil || head.Type == "" {
		return undecodable(body)
	}
	if head.Type != "message" && head.Type != "app_mention" {
		return unsupported(e.key(body))
	}
	var ev event
	if err := json.Unmarshal(e.Event, &ev); err != nil || !isID(ev.Channel) || !isStamp(ev.TS) {
		return undecodable(body)
	}
	m, ok := e.message(ev, ep)
	if !ok {
		return unsupported(e.key(body))
	}
	return m
}

// key names the event itself, whatever it is about.
func (e envelope) key(body []byte) string {
	if isName(e.EventID) {
		return "ev:" + e.EventID
	}
	return digest(body)
}

// me is the bot's own user id.
func (e envelope) me(ep adapters.Endpoint) string {
	if id := ep.Settings[adapters.BotUserID]; id != "" {
		return id
	}
	if len(e.Authorizations) > 0 && e.Authorizations[0].IsBot {
		return e.Authorizations[0].UserID
	}
	return ""
}
