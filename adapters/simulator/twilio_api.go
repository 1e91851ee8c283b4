package simulator

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// A twilioResponse is a response of the API. doc is encoded as JSON.
type twilioResponse struct {
	status int
	doc    any
}

// A twilioCall is an API request, identified by its method and path.
type twilioCall struct {
	name    string // for Arm
	account string // in the path; empty for Messaging Services
	sid     string // of the resource
	member  string // SID of a number in a Messaging Service
	run     func(t *Twilio, c twilioCall, form url.Values) twilioResponse
}

// ServeHTTP handles an API request.
func (t *Twilio) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, token, _ := r.BasicAuth()
	if err := parseTwilioForm(r); err != nil {
		twilioError(http.StatusBadRequest, 20001, "Bad request").write(w)
		return
	}
	c, ok := routeTwilio(r)
	if !ok {
		twilioError(http.StatusNotFound, 20404, "The requested resource "+r.URL.Path+" was not found").write(w)
		return
	}
	fault, hit := t.take(r, user, c.name)
	if hit && !fault.afterProcessing() {
		fault.respond(w, r)
		return
	}
	response := twilioError(http.StatusUnauthorized, 20003, "Authenticate")
	if c.account == "" {
		c.account = user
	}
	if t.isAuthorized(user, token) && user == c.account {
		response = c.run(t, c, r.Form)
	}
	if hit {
		fault.respond(w, r)
		return
	}
	response.write(w)
}

// isAuthorized reports whether token is the current auth token of the account.
func (t *Twilio) isAuthorized(account, token string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	current, ok := t.tokens[account]
	return ok && token != "" && (token == current || token == t.secondary[account])
}

// routeTwilio returns the call of a request. ok is false if the simulator does not have it.
func routeTwilio(r *http.Request) (twilioCall, bool) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch parts[0] {
	case "v1":
		return routeTwilioService(r.Method, parts[1:])
	case "v2":
		return routeTwilioSender(r.Method, parts[1:])
	}
	if len(parts) < 3 || parts[0] != "2010-04-01" || parts[1] != "Accounts" {
		return twilioCall{}, false
	}
	c := twilioCall{account: strings.TrimSuffix(parts[2], ".json")}
	rest := parts[3:]
	if len(rest) > 0 {
		rest[len(rest)-1] = strings.TrimSuffix(rest[len(rest)-1], ".json")
	}
	get, post := r.Method == http.MethodGet, r.Method == http.MethodPost
	switch {
	case len(rest) == 0 && get:
		c.name, c.run = "Accounts.fetch", (*Twilio).fetchAccount
	case len(rest) == 1 && rest[0] == "IncomingPhoneNumbers" && get:
		c.name, c.run = "IncomingPhoneNumbers.list", (*Twilio).listNumbers
	case len(rest) == 2 && rest[0] == "IncomingPhoneNumbers" && get:
		c.name, c.run, c.sid = "IncomingPhoneNumbers.fetch", (*Twilio).updateNumber, rest[1]
	case len(rest) == 2 && rest[0] == "IncomingPhoneNumbers" && post:
		c.name, c.run, c.sid = "IncomingPhoneNumbers.update", (*Twilio).updateNumber, rest[1]
	case len(rest) == 1 && rest[0] == "Messages" && post:
		c.name, c.run = "Messages.create", (*Twilio).createMessage
	case len(rest) == 1 && rest[0] == "Messages" && get:
		c.name, c.run = "Messages.list", (*Twilio).listMessages
	case len(rest) == 3 && rest[0] == "Messages" && rest[2] == "Media" && get:
		c.name, c.run, c.sid = "Media.list", (*Twilio).listMedia, rest[1]
	}
	return c, c.run != nil
}

func routeTwilioService(method string, parts []string) (twilioCall, bool) {
	var c twilioCall
	switch {
	case method != http.MethodGet || len(parts) == 0 || parts[0] != "Services":
	case len(parts) == 1:
		c.name, c.run = "Services.list", (*Twilio).listServices
	case len(parts) == 4 && (parts[2] == "PhoneNumbers" || parts[2] == "ChannelSenders"):
		c.name, c.run, c.sid, c.member = "Services."+parts[2]+".fetch", (*Twilio).fetchMember, parts[1], parts[3]
	}
	return c, c.run != nil
}

func (t *Twilio) fetchAccount(c twilioCall, _ url.Values) twilioResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	return twilioResponse{http.StatusOK, map[string]any{
		"sid": c.account, "owner_account_sid": c.account, "auth_token": t.tokens[c.account],
		"status":        cmp.Or(t.statuses[c.account], "active"),
		"type":          "Full",
		"friendly_name": "Simulator", "uri": accountURI(c) + ".json",
	}}
}

func (t *Twilio) listNumbers(c twilioCall, form url.Values) twilioResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := []any{}
	for _, n := range t.numbers {
		if n.account == c.account && !isWhatsApp(n.address) && strings.Contains(n.address, form.Get("PhoneNumber")) {
			found = append(found, n.doc())
		}
	}
	return twilioResponse{http.StatusOK, map[string]any{
		"incoming_phone_numbers": found, "page": 0, "page_size": 50, "next_page_uri": nil,
		"uri": accountURI(c) + "/IncomingPhoneNumbers.json",
	}}
}

// updateNumber sets the fields of a number that form contains and returns the number. A fetch is an
// update with an empty form.
func (t *Twilio) updateNumber(c twilioCall, form url.Values) twilioResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.numbers {
		if n.sid != c.sid || n.account != c.account {
			continue
		}
		for _, name := range []string{"SmsUrl", "SmsFallbackUrl"} {
			if !isWebhookURL(form.Get(name)) {
				return twilioError(http.StatusBadRequest, 21502, name+" is not a valid URL")
			}
		}
		for name, field := range map[string]*string{
			"SmsUrl": &n.smsURL, "SmsMethod": &n.smsMethod, "SmsFallbackUrl": &n.fallbackURL,
			"SmsFallbackMethod": &n.fallbackMethod, "SmsApplicationSid": &n.application,
		} {
			if form.Has(name) {
				*field = form.Get(name)
			}
		}
		return twilioResponse{http.StatusOK, n.doc()}
	}
	uri := accountURI(c) + "/IncomingPhoneNumbers/" + c.sid + ".json"
	return twilioError(http.StatusNotFound, 20404, "The requested resource "+uri+" was not found")
}

func (t *Twilio) listServices(c twilioCall, _ url.Values) twilioResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := []any{}
	for _, s := range t.services {
		if s.account == c.account {
			found = append(found, map[string]any{
				"sid": s.sid, "account_sid": s.account, "friendly_name": "Pool",
				"inbound_request_url": s.url, "use_inbound_webhook_on_number": s.useNumber,
			})
		}
	}
	return twilioResponse{http.StatusOK, map[string]any{
		"services": found,
		"meta":     map[string]any{"page": 0, "page_size": 50, "next_page_url": nil, "key": "services"},
	}}
}

func (t *Twilio) fetchMember(c twilioCall, _ url.Values) twilioResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.services {
		for _, address := range s.addresses {
			n := t.findNumber(address)
			if s.sid == c.sid && s.account == c.account && n != nil && n.sid == c.member {
				return twilioResponse{http.StatusOK, map[string]any{
					"sid": n.sid, "service_sid": s.sid, "phone_number": n.address,
				}}
			}
		}
	}
	return twilioError(http.StatusNotFound, 20404, "The requested resource was not found")
}

func (n *twilioNumber) doc() map[string]any {
	return map[string]any{
		"sid": n.sid, "account_sid": n.account, "phone_number": n.address, "friendly_name": n.address,
		"capabilities": map[string]any{"sms": true, "mms": true, "voice": true, "fax": false},
		"sms_url":      n.smsURL, "sms_method": n.smsMethod, "sms_fallback_url": n.fallbackURL,
		"sms_fallback_method": n.fallbackMethod, "sms_application_sid": n.application, "status": "in-use",
	}
}

func accountURI(c twilioCall) string { return "/2010-04-01/Accounts/" + c.account }

func isWebhookURL(s string) bool {
	u, err := url.Parse(s)
	return s == "" || err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

func twilioError(status, code int, message string) twilioResponse {
	return twilioResponse{status, map[string]any{
		"code": code, "message": message, "status": status,
		"more_info": fmt.Sprintf("https://www.twilio.com/docs/errors/%d", code),
	}}
}

func (r twilioResponse) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	writeJSON(w, r.status, r.doc)
}
