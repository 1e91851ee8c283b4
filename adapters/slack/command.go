package slack

import (
	"net/url"
	"strings"

	"hydragate/adapters"
)

// readCommand reads a slash command as the hook gets it: a form.
func (a *Adapter) readCommand(body []byte, ep adapters.Endpoint) (adapters.Inbound, error) {
	form, err := url.ParseQuery(string(body))
	return a.command(form, err == nil, body, ep)
}

// command reads a slash command. Wherever it was typed, only the person who typed it
// sees it and its answers, so its place is the person. whole says that the form holds
// all that body does.
func (a *Adapter) command(form url.Values, whole bool, body []byte, ep adapters.Endpoint) (adapters.Inbound, error) {
	if form.Get("ssl_check") == "1" && form.Get("command") == "" {
		return answering(""), nil
	}
	if otherApp(ep, form.Get("api_app_id")) {
		return adapters.Inbound{}, adapters.ErrForged
	}
	name, called := strings.CutPrefix(form.Get("command"), "/")
	user, sender := form.Get("user_id"), externalID(form.Get("team_id"), form.Get("user_id"))
	if !whole || ambiguous(form) || !called || !isName(name) || sender == "" {
		return commanding(undecodable(body)), nil
	}
	args := plain(form.Get("text"))
	m := adapters.Message{
		Key:    digest(body),
		Kind:   adapters.Text,
		Sender: adapters.Sender{ID: sender, Username: adapters.Clean(form.Get("user_name"), maxName)},
		Place:  adapters.Place{ID: user},
		Text:   adapters.Clean(strings.TrimSpace("/"+name+" "+args), adapters.MaxInboundText),
		Command: &adapters.Command{
			Name: strings.ToLower(name),
			Args: adapters.Clean(args, adapters.MaxInboundText),
		},
	}
	if id := form.Get("trigger_id"); isName(id) {
		m.Key = "s:" + id
	}
	if answer := form.Get("response_url"); a.mayAnswer(answer) {
		m.Place.Answer = answer
	}
	if !ofInstallation(form, ep) {
		m.Unproven = unprovenExternal
	}
	return commanding(m), nil
}

// ofInstallation reports whether the person belongs to the workspace the app is
// installed in, or to the organisation when it is installed in all of it. A command
// names the person's own workspace, which in a shared channel may be another.
func ofInstallation(form url.Values, ep adapters.Endpoint) bool {
	if form.Get("is_enterprise_install") == "true" && is(ep.Address, form.Get("enterprise_id")) {
		return true
	}
	return is(ep.Address, form.Get("team_id"))
}

// ambiguous reports whether a field comes twice, so that two readers could read
// two values.
func ambiguous(form url.Values) bool {
	for _, vs := range form {
		if len(vs) > 1 {
			return true
		}
	}
	return false
}
