package slack

import (
	"net/url"
	"strings"

	"hydragate/adapters"
)

// parseCommandForm parses a slash command from the body of a webhook, which is a form.
func (a *Adapter) parseCommandForm(body []byte, ep adapters.Endpoint) (adapters.Inbound, error) {
	form, err := url.ParseQuery(string(body))
	return a.parseCommand(form, err == nil, body, ep)
}

// parseCommand parses a slash command. Only the person who typed it sees it and the replies, so
// its chat is that person, wherever it was typed. complete reports whether form contains
// everything in body.
func (a *Adapter) parseCommand(
	form url.Values,
	complete bool,
	body []byte,
	ep adapters.Endpoint,
) (adapters.Inbound, error) {
	if form.Get("ssl_check") == "1" && form.Get("command") == "" {
		return plainResponse(""), nil
	}
	if isOtherApp(ep, form.Get("api_app_id")) {
		return adapters.Inbound{}, adapters.ErrForged
	}
	name, called := strings.CutPrefix(form.Get("command"), "/")
	user, sender := form.Get("user_id"), externalID(form.Get("team_id"), form.Get("user_id"))
	if !complete || hasRepeatedField(form) || !called || !isKeyPart(name) || sender == "" {
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
		m.UnprovenReason = adapters.UnprovenExternal
	}
	return inboundCommand(m), nil
}

// isFromInstallation reports whether the person belongs to the workspace in which the app is
// installed, or to its organization. A command names the person's own workspace, which may be
// another one in a shared channel.
func isFromInstallation(form url.Values, ep adapters.Endpoint) bool {
	if form.Get("is_enterprise_install") == "true" && equalsAny(ep.Address, form.Get("enterprise_id")) {
		return true
	}
	return equalsAny(ep.Address, form.Get("team_id"))
}

// hasRepeatedField reports whether a field is repeated, so that two parsers could read different
// values.
func hasRepeatedField(form url.Values) bool {
	for _, vs := range form {
		if len(vs) > 1 {
			return true
		}
	}
	return false
}
