package simulator

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"

	"hydragate/adapters"
)

const (
	slackJSON = "application/json"
	slackForm = "application/x-www-form-urlencoded"
)

// A SlackDelivery is the delivery of an event with all its attempts.
type SlackDelivery struct {
	EventID  string
	Attempts []SlackAttempt
}

// A SlackAttempt is an attempt to deliver an event: the status of the response, or the error if there
// was none in time.
type SlackAttempt struct {
	Status int
	Err    error
}

// Accepted reports whether the last attempt succeeded.
func (d SlackDelivery) Accepted() bool {
	return len(d.Attempts) > 0 && d.Attempts[len(d.Attempts)-1].accepted()
}

func (a SlackAttempt) accepted() bool { return a.Err == nil && a.Status/100 == 2 }

// retryReason returns the value of X-Slack-Retry-Reason for the next attempt.
func (a SlackAttempt) retryReason() string {
	switch {
	case errors.Is(a.Err, context.DeadlineExceeded):
		return "http_timeout"
	case a.Err != nil:
		return "connection_failed"
	}
	return "http_error"
}

// Verify sends a challenge to the app's events URL, as Slack does when the URL is entered. It returns
// an error if the response is not the challenge.
func (s *Slack) Verify(ctx context.Context, appID string) error {
	app, err := s.findApp(appID)
	if err != nil {
		return err
	}
	s.mu.Lock()
	challenge := s.nextID("challenge-")
	s.mu.Unlock()
	body, err := json.Marshal(slackFields{"type": "url_verification", "token": "deprecated", "challenge": challenge})
	if err != nil {
		return fmt.Errorf("encode challenge: %w", err)
	}
	status, response, err := s.post(ctx, app, app.EventsURL, slackJSON, body, nil)
	switch {
	case err != nil:
		return fmt.Errorf("verify events URL: %w", err)
	case status != http.StatusOK || string(bytes.TrimSpace(response)) != challenge:
		return fmt.Errorf("verify events URL: status %d, the response is not the challenge", status)
	}
	return nil
}

// deliverEvent delivers an event of u until the app accepts it, all attempts have failed or ctx ends.
func (s *Slack) deliverEvent(ctx context.Context, app SlackApp, u SlackUser, inner any) SlackDelivery {
	s.mu.Lock()
	d := SlackDelivery{EventID: s.nextID("Ev")}
	s.mu.Unlock()
	return s.deliverEnvelope(ctx, app, d, slackFields{
		"token": "deprecated", "team_id": u.Team, "context_team_id": app.TeamID, "context_enterprise_id": nil,
		"api_app_id": app.AppID, "type": "event_callback",
		"event_id": d.EventID, "event_time": s.Now().Unix(), "event_context": "4-" + d.EventID,
		"is_ext_shared_channel": u.Team != app.TeamID, "event": inner,
		"authorizations": []slackFields{{
			"enterprise_id": nil, "team_id": app.TeamID, "user_id": app.BotUserID, "is_bot": true,
			"is_enterprise_install": false,
		}},
	})
}

// LimitEvents delivers the event with which Slack reports that it drops events of a workspace from this minute
// on.
func (s *Slack) LimitEvents(ctx context.Context, appID string) (SlackDelivery, error) {
	app, err := s.findApp(appID)
	if err != nil {
		return SlackDelivery{}, err
	}
	return s.deliverEnvelope(ctx, app, SlackDelivery{}, slackFields{
		"token": "deprecated", "type": "app_rate_limited", "team_id": app.TeamID, "api_app_id": app.AppID,
		"minute_rate_limited": s.Now().Truncate(time.Minute).Unix(),
	}), nil
}

// deliverEnvelope delivers a body to the events URL, or over Socket Mode, until the app accepts it, all
// attempts have failed or ctx ends. It returns d with the attempts.
func (s *Slack) deliverEnvelope(
	ctx context.Context, app SlackApp, d SlackDelivery, envelope slackFields,
) SlackDelivery {
	body, err := json.Marshal(envelope)
	if err != nil {
		d.Attempts = append(d.Attempts, SlackAttempt{Err: fmt.Errorf("encode event: %w", err)})
	}
	if err == nil && app.AppToken != "" {
		delivery, _ := s.deliverPayload(ctx, app, SlackEvents, body)
		return SlackDelivery{EventID: d.EventID, Attempts: delivery.Attempts}
	}
	if err != nil || app.EventsURL == "" {
		return d
	}
	header := http.Header{}
	for n, wait := range slackRetryDelays() {
		if adapters.Sleep(ctx, time.Duration(float64(wait)*s.RetryScale)) != nil {
			return d
		}
		status, _, err := s.post(ctx, app, app.EventsURL, slackJSON, body, header)
		attempt := SlackAttempt{Status: status, Err: err}
		d.Attempts = append(d.Attempts, attempt)
		if attempt.accepted() || errors.Is(err, errSlackNoRetry) {
			return d
		}
		header = http.Header{
			"X-Slack-Retry-Num": {strconv.Itoa(n + 1)}, "X-Slack-Retry-Reason": {attempt.retryReason()},
		}
	}
	return d
}

// slackRetryDelays returns the delay before each attempt.
func slackRetryDelays() []time.Duration {
	return []time.Duration{0, 0, time.Minute, 5 * time.Minute}
}

var (
	errSlackNoRetry = errors.New("the app requested no retries")
	errSlackNoURL   = errors.New("the app has no URL for this request")
)

// post signs a body with the current time and posts it to a URL of the app.
func (s *Slack) post(
	ctx context.Context, app SlackApp, url, contentType string, body []byte, header http.Header,
) (status int, response []byte, err error) {
	if url == "" {
		return 0, nil, errSlackNoURL
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("post to app: %w", err)
	}
	maps.Copy(r.Header, header)
	timestamp := strconv.FormatInt(s.Now().Unix(), 10)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", "Slackbot 1.0 (+https://api.slack.com/robots)")
	r.Header.Set("X-Slack-Request-Timestamp", timestamp)
	r.Header.Set("X-Slack-Signature", slackSignature(app.SigningSecret, timestamp, body))
	resp, err := s.Client.Do(r)
	if err != nil {
		return 0, nil, fmt.Errorf("post to app: %w", err)
	}
	defer resp.Body.Close()
	response, err = io.ReadAll(io.LimitReader(resp.Body, slackMaxBody))
	if err != nil {
		return 0, nil, fmt.Errorf("read response of app: %w", err)
	}
	if resp.StatusCode/100 != 2 && resp.Header.Get("X-Slack-No-Retry") == "1" {
		return resp.StatusCode, response, errSlackNoRetry
	}
	return resp.StatusCode, response, nil
}

func slackSignature(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "v0:%s:%s", timestamp, body)
	return "v0=" + hex.EncodeToString(mac.Sum(nil))
}
