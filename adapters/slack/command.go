package slack

import (
	"net/http"
	"net/url"
	"strings"

	"hydragate/adapters"
)

// parseCommandForm parses a slash command from the body of a webhook, which is a form.
func (a *Adapter) parseCommandForm(body []byte, ep adapters.Endpoint) (adapters.Inbound, error) {
	form, err := url.ParseQuery(string(body))
	return a.parseCommand(form, err == nil, body, ep)
}

// maxSSLCheck is the maximum length of a request without a signature that is read.
const maxSSLCheck = 1 << 10

// IsProbe reports whether r is Slack's check of the certificate: a request with the parameter ssl_check
// and no signature, for which nothing is done.
func (a *Adapter) IsProbe(r *http.Request) bool {
	if r.Method == http.MethodGet {
		return r.URL.Query().Get("ssl_check") == "1"
	}
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || len(r.Header.Values(signatureHeader)) > 0 ||
		r.ContentLength < 0 || r.ContentLength > maxSSLCheck {
		return false
	}
	body, err := adapters.ReadBody(r, maxSSLCheck)
	if err != nil {
		return false
	}
	form, err := url.ParseQuery(string(body))
	return err == nil && form.Get("ssl_check") == "1" && !form.Has("command") && !form.Has("payload")
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
		return adapters.Inbound{}, adapters.ErrOtherEndpoint
	}
	name, called := strings.CutPrefix(form.Get("command"), "/")
	sender := externalID(commandTeam(form, ep), form.Get("user_id"))
	if !complete || hasRepeatedField(form) || !called || !isKeyPart(name) || sender == "" {
		return inboundCommand(undecodableMessage(body)), nil
	}
	args := plainText(form.Get("text"))
	m := adapters.Message{
		Key:    digestKey(body),
		Kind:   adapters.Text,
		Sender: adapters.Sender{ID: sender, Username: adapters.Sanitize(form.Get("user_name"), maxName)},
		Chat:   chat(ep, sender, "", true),
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
	if commandTeam(form, ep) != ep.Address {
		m.UnprovenReason = adapters.UnprovenExternal
	}
	return inboundCommand(m), nil
}

// commandTeam returns the workspace of the person who typed a command, which in a shared channel may
// be another one than that of the installation. It is the address of ep for people who belong to the
// workspace in which the app is installed, or to its organization.
func commandTeam(form url.Values, ep adapters.Endpoint) string {
	if form.Get("is_enterprise_install") == "true" && equalsAny(ep.Address, form.Get("enterprise_id")) {
		return ep.Address
	}
	return form.Get("team_id")
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
