package slack

import (
	"encoding/json"
	"net/url"
	"strings"

	"hydragate/adapters"
)

// An interaction is what Slack sends when a person uses a button, a menu or a shortcut.
type interaction struct {
	Type       string   `json:"type"`
	APIAppID   string   `json:"api_app_id"`
	TriggerID  string   `json:"trigger_id"`
	Team       objectID `json:"team"`
	Enterprise objectID `json:"enterprise"`
	Channel    objectID `json:"channel"`
	User       struct {
		ID       string `json:"id"`
		TeamID   string `json:"team_id"`
		Username string `json:"username"`
	} `json:"user"`
	IsEnterpriseInstall bool `json:"is_enterprise_install"`
	Container           struct {
		ChannelID   string `json:"channel_id"`
		MessageTS   string `json:"message_ts"`
		ThreadTS    string `json:"thread_ts"`
		IsEphemeral bool   `json:"is_ephemeral"`
	} `json:"container"`
	Actions []action `json:"actions"`
}

type objectID struct {
	ID string `json:"id"`
}

type action struct {
	ID             string `json:"action_id"`
	TS             string `json:"action_ts"`
	Value          string `json:"value"`
	SelectedOption struct {
		Value string `json:"value"`
	} `json:"selected_option"`
}

const maxAction = 2000

// parseInteractionForm parses an interaction from the body of a webhook, which is JSON in a form.
func parseInteractionForm(body []byte, ep adapters.Endpoint) (adapters.Inbound, error) {
	if form, err := url.ParseQuery(string(body)); err == nil && len(form["payload"]) == 1 {
		return parseInteraction([]byte(form.Get("payload")), body, ep)
	}
	return inboundMessage(undecodableMessage(body)), nil
}

// parseInteraction parses an interaction that was received in body.
func parseInteraction(payload, body []byte, ep adapters.Endpoint) (adapters.Inbound, error) {
	var in interaction
	valid := json.Unmarshal(payload, &in) == nil
	if isOtherApp(ep, in.APIAppID) {
		return adapters.Inbound{}, adapters.ErrForged
	}
	if !valid || in.Type == "" {
		return inboundMessage(undecodableMessage(body)), nil
	}
	if m, ok := in.message(ep); ok {
		return inboundMessage(m), nil
	}
	return inboundMessage(unsupportedMessage(in.key(digestKey(body)))), nil
}

// message returns a pressed button or a chosen option as a message. It returns false for other
// interactions, and for one without a person or a channel.
func (in interaction) message(ep adapters.Endpoint) (adapters.Message, bool) {
	channel := in.Channel.ID
	if channel == "" {
		channel = in.Container.ChannelID
	}
	team := in.User.TeamID
	if team == "" {
		team = in.Team.ID
	}
	sender := externalID(team, in.User.ID)
	if in.Type != "block_actions" || len(in.Actions) == 0 || !isID(channel) || sender == "" {
		return adapters.Message{}, false
	}
	direct := isDirect(channel, "")
	m := adapters.Message{
		Key:    in.key(""),
		Kind:   adapters.Callback,
		Sender: adapters.Sender{ID: sender, Username: adapters.Sanitize(in.User.Username, maxName)},
		Chat:   adapters.Chat{ID: channel, Group: !direct, Thread: in.threadTS(direct)},
		Action: adapters.Sanitize(in.Actions[0].value(), maxAction),
		SentAt: parseTimestamp(in.Actions[0].TS),
	}
	if isTimestamp(in.Container.MessageTS) {
		m.ReplyTo = in.Container.MessageTS
	}
	if !in.isFromInstallation(ep, team) {
		m.UnprovenReason = adapters.UnprovenExternal
	}
	return m, m.Key != ""
}

// key returns the key of the interaction, or fallback if it has no ID.
func (in interaction) key(fallback string) string {
	if isKeyPart(in.TriggerID) {
		return "i:" + in.TriggerID
	}
	if len(in.Actions) > 0 && isTimestamp(in.Actions[0].TS) && isID(in.User.ID) {
		return "i:" + in.User.ID + ":" + in.Actions[0].TS
	}
	return fallback
}

// threadTS returns the thread for replies. A message that only one person sees does not start a
// thread.
func (in interaction) threadTS(direct bool) string {
	c := in.Container
	switch {
	case isTimestamp(c.ThreadTS):
		return c.ThreadTS
	case direct, c.IsEphemeral, !isTimestamp(c.MessageTS):
		return ""
	}
	return c.MessageTS
}

func (in interaction) isFromInstallation(ep adapters.Endpoint, team string) bool {
	return equalsAny(ep.Address, team) || in.IsEnterpriseInstall && equalsAny(ep.Address, in.Enterprise.ID)
}

func (a action) value() string {
	for _, v := range []string{a.Value, a.SelectedOption.Value, a.ID} {
		if strings.TrimSpace(v) != "" {
			return v
		}
	}
	return ""
}
