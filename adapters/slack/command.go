package slack

import (
	"net/url"
	"strings"

	"hydragate/adapters"
)

// parseCommandForm reads a slash command as the hook gets it: a form.
func (a *Adapter) parseCommandForm(body []byte, ep adapters.Endpoint) (adapters.Inbound, error) {
	form, err := url.ParseQuery(string(body))
	return a.parseCommand(form, err == nil, body, ep)
}

// parseCommand reads a slash command. Wherever it was typed, only the person who typed it
// sees it and its answers, so its place is the person. whole says that the form holds
// all that body does.
func (a *Adapter) parseCommand(form url.Values, whole bool, body []byte, ep adapters.Endpoint) (adapters.Inbound, error) {
	if form.Get("ssl_check") == "1" && form.Get("command") == "" {
		return plainResponse(""), nil
	}
	if isOtherApp(ep, form.Get("api_app_id")) {
		return adapters.Inbound{}, adapters.ErrForged
	}
	name, called := strings.CutPrefix(form.Get("command"), "/")
	user, sender := form.Get("user_id"), externalID(form.Get("team_id"), form.Get("user_id"))
	if !whole || hasRepeatedField(form) || !called || !isKeyPart(name) || sender == "" {
		return inboundCommand(undecodableMessage(body)), nil
	}
	args := plainText(form.Get("text"))
	m := adapters.Message{
		Key:    digestKey(body),
		Kind:   adapters.Text,
		Sender: adapters.Sender{ID: sender, Username: adapters.Sanitize(form.Get("user_name"), maxName)},
		Chat:   adapters.Chat{ID: user},
		Text:   adapters.Sanitize(strings.TrimSpace("/"+name+" "+args), adapters.MaxInboundText),
		Command: &adapters.Command{
			Name: strings.ToLower(name),
			Args: adapters.Sanitize(args, adapters.MaxInboundText),
		},
	}
	if id := form.Get("trigger_id"); isKeyPart(id) {
		m.Key = "s:" + id
	}
	if answer := form.Get("response_url"); a.isResponseURL(answer) {
		m.Chat.ReplyToken = answer
	}
	if !isFromInstallation(form, ep) {
		m.UnprovenReason = unprovenExternal
	}
	return inboundCommand(m), nil
}

// isFromInstallation reports whether the person belongs to the workspace the app is
// installed in, or to the organisation when it is installed in all of it. A command
// names the person's own workspace, which in a shared channel may be another.
func isFromInstallation(form url.Values, ep adapters.Endpoint) bool {
	if form.Get("is_enterprise_install") == "true" && equalsAny(ep.Address, form.Get("enterprise_id")) {
		return true
	}
	return equalsAny(ep.Address, form.Get("team_id"))
}

// hasRepeatedField reports whether a field comes twice, so that two readers could read
// two values.
func hasRepeatedField(form url.Values) bool {
	for _, vs := range form {
		if len(vs) > 1 {
			return true
		}
	}
	return false
}
