package slack

import (
	"cmp"
	"encoding/json"
	"net/url"
	"strings"

	"hydragate/adapters"
)

// An interaction is what Slack sends when a person uses a button, a menu, a form or a shortcut.
type interaction struct {
	Type                string                     `json:"type"`
	APIAppID            string                     `json:"api_app_id"`
	TriggerID           string                     `json:"trigger_id"`
	CallbackID          string                     `json:"callback_id"`
	ActionTS            string                     `json:"action_ts"`
	MessageTS           string                     `json:"message_ts"`
	ResponseURL         string                     `json:"response_url"`
	ResponseURLs        []responseURL              `json:"response_urls"`
	Team                objectID                   `json:"team"`
	Enterprise          objectID                   `json:"enterprise"`
	IsEnterpriseInstall bool                       `json:"is_enterprise_install"`
	Channel             objectID                   `json:"channel"`
	User                interactionUser            `json:"user"`
	Container           container                  `json:"container"`
	Actions             []json.RawMessage          `json:"actions"`
	State               json.RawMessage            `json:"state"`
	Submission          map[string]json.RawMessage `json:"submission"`
	Message             *event                     `json:"message"`
	View                view                       `json:"view"`
}

type objectID struct {
	ID string `json:"id"`
}

type interactionUser struct {
	ID       string `json:"id"`
	TeamID   string `json:"team_id"`
	Username string `json:"username"`
	Name     string `json:"name"`
}

// A container is the message in which an interaction took place. It has no channel in a form.
type container struct {
	ChannelID   string `json:"channel_id"`
	MessageTS   string `json:"message_ts"`
	ThreadTS    string `json:"thread_ts"`
	IsEphemeral bool   `json:"is_ephemeral"`
}

type responseURL struct {
	URL string `json:"response_url"`
}

// A view is a form, or the home tab of the app.
type view struct {
	CallbackID string          `json:"callback_id"`
	State      json.RawMessage `json:"state"`
}

const maxAction = 2000

// parseInteractionForm parses an interaction from the body of a webhook, which is JSON in a form.
func (a *Adapter) parseInteractionForm(body []byte, ep adapters.Endpoint) (adapters.Inbound, error) {
	if form, err := url.ParseQuery(string(body)); err == nil && len(form["payload"]) == 1 {
		return a.parseInteraction([]byte(form.Get("payload")), body, ep)
	}
	return inboundMessage(undecodableMessage(body)), nil
}

// parseInteraction parses an interaction that was received in body.
func (a *Adapter) parseInteraction(payload, body []byte, ep adapters.Endpoint) (adapters.Inbound, error) {
	var in interaction
	valid := json.Unmarshal(payload, &in) == nil
	if isOtherApp(ep, in.APIAppID) {
		return adapters.Inbound{}, adapters.ErrOtherEndpoint
	}
	if !valid || in.Type == "" {
		return inboundMessage(undecodableMessage(body)), nil
	}
	m, ok := in.message(ep)
	if !ok {
		return inboundMessage(unsupportedMessage(in.key(digestKey(body)))), nil
	}
	for _, u := range append(in.ResponseURLs, responseURL{in.ResponseURL}) {
		if m.Chat.ReplyToken == "" && a.isResponseURL(u.URL) {
			m.Chat.ReplyToken = u.URL
		}
	}
	return inboundMessage(m), nil
}

// message returns what a person pressed, chose or entered. It returns false for interactions that
// choose nothing, such as a form that was closed, and for one without a person.
func (in interaction) message(ep adapters.Endpoint) (adapters.Message, bool) {
	team := in.actorTeam(ep)
	chosen, ok := in.chosen()
	sender := externalID(team, in.User.ID)
	if !ok || sender == "" {
		return adapters.Message{}, false
	}
	channel := cmp.Or(in.Channel.ID, in.Container.ChannelID)
	if channel != "" && !isID(channel) {
		return adapters.Message{}, false
	}
	direct := channel == "" || isDirect(channel, "")
	m := adapters.Message{
		Key:  in.key(""),
		Kind: adapters.Callback,
		Sender: adapters.Sender{
			ID: sender, Username: adapters.Sanitize(cmp.Or(in.User.Username, in.User.Name), maxName),
		},
		Chat:   chat(ep, sender, channel, direct),
		Action: adapters.Sanitize(chosen.action, maxAction),
		SentAt: parseTimestamp(in.timestamp()),
	}
	m.Chat.Thread = in.threadTS(direct)
	m.Content = chosen.content()
	if in.Message != nil && chosen.withMessage {
		m.Text, m.Media = decodeText(in.Message.markup(), ""), attachments(in.Message.Files)
		m.UnprovenReason = adapters.UnprovenForwarded
	}
	if ts := in.messageTS(); isTimestamp(ts) {
		m.ReplyTo = ts
	}
	if team != ep.Address {
		m.UnprovenReason = adapters.UnprovenExternal
	}
	return m, m.Key != ""
}

// actorTeam returns the workspace of the person, which is the address of ep for the members of the
// installation. Slack names the workspace in which a person has their home, or the organization, which
// may be others than that of the installation.
func (in interaction) actorTeam(ep adapters.Endpoint) string {
	team, enterprise := cmp.Or(in.User.TeamID, in.Team.ID), in.Enterprise.ID
	switch {
	case enterprise == "" || team == "":
		return team
	case team == enterprise, isOrganizationID(in.User.ID), in.IsEnterpriseInstall && enterprise == ep.Address:
		return ep.Address
	}
	return team
}

// key returns the key of the interaction, or fallback if it has no ID.
func (in interaction) key(fallback string) string {
	if isKeyPart(in.TriggerID) {
		return "i:" + in.TriggerID
	}
	if ts := in.timestamp(); isTimestamp(ts) && isID(in.User.ID) {
		return "i:" + in.User.ID + ":" + ts
	}
	return fallback
}

// timestamp returns the time of the interaction as Slack writes it.
func (in interaction) timestamp() string {
	if in.ActionTS != "" || len(in.Actions) == 0 {
		return in.ActionTS
	}
	var a struct {
		TS string `json:"action_ts"`
	}
	_ = json.Unmarshal(in.Actions[0], &a)
	return a.TS
}

// messageTS returns the timestamp of the message in which the interaction took place.
func (in interaction) messageTS() string {
	ts := cmp.Or(in.Container.MessageTS, in.MessageTS)
	if ts == "" && in.Message != nil {
		ts = in.Message.TS
	}
	return ts
}

// threadTS returns the thread for replies. A message that only one person sees does not start a
// thread.
func (in interaction) threadTS(direct bool) string {
	threads := []string{in.Container.ThreadTS}
	if in.Message != nil {
		threads = append(threads, in.Message.ThreadTS)
	}
	if !direct && !in.Container.IsEphemeral {
		threads = append(threads, in.messageTS())
	}
	for _, ts := range threads {
		if isTimestamp(ts) {
			return ts
		}
	}
	return ""
}

// A choice is what a person chose or entered in an interaction.
type choice struct {
	action      string                    // the value of a button, or what was chosen in a menu
	form        map[string]map[string]any // by block and action, as in Slack's state
	withMessage bool                      // the person applied the action to a message
}

// content returns what was entered in a form, or nil if there is none.
func (c choice) content() []adapters.Content {
	if len(c.form) == 0 {
		return nil
	}
	data := map[string]any{}
	for block, elements := range c.form {
		values := map[string]any{}
		for name, value := range elements {
			values[adapters.Sanitize(name, maxName)] = value
		}
		data[adapters.Sanitize(block, maxName)] = values
	}
	return []adapters.Content{{Kind: adapters.Form, Data: data}}
}

// chosen returns what the person chose. It returns false if the interaction is not about that.
func (in interaction) chosen() (choice, bool) {
	switch in.Type {
	case "block_actions", "interactive_message":
		return in.chosenActions()
	case "view_submission":
		return choice{action: in.View.CallbackID, form: stateValues(in.View.State)}, true
	case "dialog_submission":
		c := choice{action: in.CallbackID, form: map[string]map[string]any{}}
		for name, raw := range in.Submission {
			var value any
			_ = json.Unmarshal(raw, &value)
			c.form[name] = map[string]any{"value": value}
		}
		return c, true
	case "shortcut", "message_action":
		return choice{action: in.CallbackID, withMessage: true}, true
	}
	return choice{}, false
}

// chosenActions returns what was pressed or chosen, and what else the form in the message contains.
func (in interaction) chosenActions() (choice, bool) {
	c := choice{form: stateValues(in.State)}
	if len(c.form) == 0 {
		c.form = stateValues(in.View.State)
	}
	for i, raw := range in.Actions {
		var fields map[string]any
		if json.Unmarshal(raw, &fields) != nil {
			continue
		}
		block, name := stringField(fields, "block_id"), cmp.Or(stringField(fields, "action_id"), stringField(fields, "name"))
		value, isMenu := chosenValue(fields)
		if i == 0 {
			if c.action = joinValue(value); strings.TrimSpace(c.action) == "" && !isMenu {
				c.action = name
			}
		}
		if isMenu {
			if c.form[block] == nil {
				c.form[block] = map[string]any{}
			}
			c.form[block][name] = value
		}
	}
	return c, len(in.Actions) > 0
}

// stateValues returns the values of all elements of a form, by block and action.
func stateValues(raw json.RawMessage) map[string]map[string]any {
	form := map[string]map[string]any{}
	var state struct {
		Values map[string]map[string]map[string]any `json:"values"`
	}
	if json.Unmarshal(raw, &state) != nil {
		return form
	}
	for block, elements := range state.Values {
		form[block] = map[string]any{}
		for name, fields := range elements {
			form[block][name], _ = chosenValue(fields)
		}
	}
	return form
}

// chosenValue returns the value of an element: a text, a number, a list of them, or nil if nothing is
// chosen. Slack's menus put it in a field whose name starts with "selected_", such as selected_date or
// selected_users; isMenu reports whether there is one.
func chosenValue(fields map[string]any) (value any, isMenu bool) {
	for name, v := range fields {
		if strings.HasPrefix(name, "selected_") {
			isMenu = true
			if v = optionValue(v); v != nil {
				value = v
			}
		}
	}
	for _, name := range []string{"value", "rich_text_value", "files"} {
		if v, ok := fields[name]; ok && value == nil {
			value = optionValue(v)
			isMenu = isMenu || stringField(fields, "type") != "button"
		}
	}
	return value, isMenu
}

// optionValue returns the value of an option, or of each option in a list. Rich text becomes text.
func optionValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if stringField(v, "type") == "rich_text" {
			return decodeText(renderBlock(v, maxBlockDepth), "")
		}
		if value, ok := v["value"].(string); ok {
			return adapters.Sanitize(value, maxAction)
		}
		return adapters.Sanitize(stringField(v, "id"), maxName)
	case []any:
		values := make([]any, 0, len(v))
		for _, option := range v {
			values = append(values, optionValue(option))
		}
		return values
	case string:
		return adapters.Sanitize(v, adapters.MaxInboundText)
	}
	return v
}

// joinValue returns a value as text. The values in a list are separated by commas.
func joinValue(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, joinValue(e))
		}
		return strings.Join(parts, ",")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
