//go:build unix

package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// telegramSays is an update with the secret that Telegram has now.
func (r *rotation) telegramSays(person int64, text string) (path string, header http.Header, body []byte) {
	_, secret := r.p.telegram.Webhook(demoBot)
	n := r.lines.Add(1)
	return "/hooks/telegram/" + r.instance, http.Header{"X-Telegram-Bot-Api-Secret-Token": {secret}, "Content-Type": {"application/json"}}, telegramUpdate(n, person, text)
}

func telegramUpdate(n, person int64, text string) []byte {
	body, _ := json.Marshal(map[string]any{"update_id": n, "message": map[string]any{
		"message_id": n, "date": time.Now().Unix(), "text": text,
		"chat": map[string]any{"id": person, "type": "private", "first_name": "Steve"}, "from": map[string]any{"id": person, "is_bot": false, "first_name": "Steve"},
	}})
	return body
}

// post posts once; 0 is no answer.
func post(url string, header http.Header, body []byte) (status int, answer []byte) {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil
	}
	req.Header = header
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = res.Body.Close() }()
	answer, _ = io.ReadAll(res.Body)
	return res.StatusCode, answer
}

// smsSays is a message signed as Twilio describes it, with a token.
func (r *rotation) smsSays(token, text string) (path string, header http.Header, body []byte) {
	form := url.Values{
		"AccountSid": {r.p.twilioSID}, "MessageSid": {"SM" + strings.ReplaceAll(uuid.NewString(), "-", "")}, "From": {fmt.Sprintf("+614001%05d", rand.N(20))},
		"To": {demoSMSNumber}, "Body": {text}, "NumMedia": {"0"}, "NumSegments": {"1"}, "ApiVersion": {"2010-04-01"},
	}
	path = "/hooks/sms/" + r.instance
	signed := "http://" + r.front.addr() + path
	for _, k := range slices.Sorted(maps.Keys(form)) {
		signed += k + form.Get(k)
	}
	m := hmac.New(sha1.New, []byte(token))
	m.Write([]byte(signed))
	return path, http.Header{"X-Twilio-Signature": {base64.StdEncoding.EncodeToString(m.Sum(nil))}, "Content-Type": {"application/x-www-form-urlencoded"}}, []byte(form.Encode())
}

// slackSays is an event signed as Slack describes it, with a secret.
func (r *rotation) slackSays(secret, text string) (path string, header http.Header, body []byte) {
	n := r.lines.Add(1)
	now := fmt.Sprint(time.Now().Unix())
	body, _ = json.Marshal(map[string]any{
		"token": "deprecated", "team_id": demoTeam, "context_team_id": demoTeam, "api_app_id": demoApp, "type": "event_callback", "event_id": fmt.Sprintf("Ev%09d", n), "event_time": time.Now().Unix(),
		"authorizations": []map[string]any{{"team_id": demoTeam, "user_id": demoBotUser, "is_bot": true, "is_enterprise_install": false}},
		"event":          map[string]any{"type": "message", "channel_type": "im", "channel": fmt.Sprintf("D%02d", n%20), "user": fmt.Sprintf("U%02d", n%20), "team": demoTeam, "text": text, "ts": fmt.Sprintf("%s.%06d", now, n%1e6)},
	})
	m := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(m, "v0:%s:%s", now, body)
	return "/hooks/slack/" + r.instance + "/events", http.Header{"X-Slack-Signature": {"v0=" + hex.EncodeToString(m.Sum(nil))}, "X-Slack-Request-Timestamp": {now}, "Content-Type": {"application/json"}}, body
}

// delivers posts what a provider says; anything but 200 is a failure.
func (r *rotation) delivers(path string, header http.Header, body []byte) (status int) {
	status, answer, _ := r.ask("POST", path, header, body)
	if status != http.StatusOK {
		r.fails(path, status, answer)
	}
	return status
}
