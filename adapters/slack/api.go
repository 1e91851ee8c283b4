package slack

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	api "github.com/slack-go/slack"

	"hydragate/adapters"
)

const (
	callTimeout   = 10 * time.Second
	maxResponse   = 4 << 20
	maxRetryAfter = time.Hour // longest Retry-After that is believed
)

// errSlackResponse is under every error that is Slack's own word.
var errSlackResponse = errors.New("slack said no")

// A call makes the requests of one method and remembers what is needed to say, when
// it fails, whether Slack may have acted on it.
type call struct {
	client     http.Client
	maybeSent  atomic.Bool // a request was written to a connection
	status     int
	retryAfter time.Duration
}

func (a *Adapter) newCall() *call {
	c := &call{}
	if a.HTTP != nil {
		c.client = *a.HTTP
	}
	if c.client.Timeout == 0 {
		c.client.Timeout = callTimeout
	}
	c.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// apiClient gives Slack's client over c. The SDK knows the wire of each method; what it
// does with time and size is decided here.
func (c *call) apiClient(a *Adapter, token string) *api.Client {
	return api.New(token, api.OptionAppLevelToken(token), api.OptionAPIURL(a.apiURL()), api.OptionHTTPClient(c))
}

// Do makes one request; a long answer is cut.
func (c *call) Do(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{WroteHeaders: func() { c.maybeSent.Store(true) }}
	resp, err := c.client.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		return nil, err
	}
	c.status = resp.StatusCode
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		c.retryAfter = time.Duration(min(s, int(maxRetryAfter/time.Second))) * time.Second
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxResponse), resp.Body}
	return resp, nil
}

// sendError says what an error of the call means for the reply.
func (c *call) sendError(err error) *adapters.SendError {
	var said api.SlackErrorResponse
	var syntax *json.SyntaxError
	var shape *json.UnmarshalTypeError
	switch {
	case errors.As(err, &said):
		return &adapters.SendError{Reason: reasonForCode(said.Err), Code: sanitizeCode(said.Err), Gone: said.Err == "user_disabled", RetryAfter: c.retryAfter, Err: errSlackResponse}
	case c.status != 0 && c.status/100 != 2:
		e := adapters.ErrorFromStatus(c.status, strconv.Itoa(c.status))
		e.RetryAfter = c.retryAfter
		return e
	case errors.As(err, &syntax), errors.As(err, &shape):
		return &adapters.SendError{Reason: adapters.Unreachable, Code: "not_json", Err: errors.New("the answer is not Slack's")}
	case c.maybeSent.Load():
		return &adapters.SendError{Reason: adapters.Ambiguous, Code: networkErrorCode(err), Err: stripURL(err)}
	}
	return &adapters.SendError{Reason: adapters.Unreachable, Code: networkErrorCode(err), Err: stripURL(err)}
}

// stripURL gives err without the URL the HTTP client puts around it.
func stripURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func networkErrorCode(err error) string {
	var slow interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &slow) && slow.Timeout() {
		return "timeout"
	}
	return "connection"
}

// sanitizeCode lets through what looks like one of Slack's error codes.
func sanitizeCode(said string) string {
	if len(said) <= 64 && isKeyPart(said) {
		return said
	}
	return "unknown"
}

// reasonForCode sorts Slack's error codes. Codes that are not listed are the answer to
// this one reply, and will be the same tomorrow.
func reasonForCode(said string) adapters.Reason {
	switch said {
	case "ratelimited", "rate_limited", "message_limit_exceeded":
		return adapters.Throttled
	case "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired",
		"not_allowed_token_type", "missing_scope", "no_permission", "ekm_access_denied", "team_access_not_granted":
		return adapters.BadSecret
	case "internal_error", "fatal_error":
		return adapters.Ambiguous // Slack documents that part of the work may have been done
	case "service_unavailable", "request_timeout", "team_added_to_org", "org_login_required":
		return adapters.Unreachable
	case "cannot_dm_bot", "messages_tab_disabled", "is_inactive":
		return adapters.Blocked
	}
	if strings.HasPrefix(said, "user_") {
		return adapters.Blocked // user_not_found, user_disabled, user_not_visible, …
	}
	return adapters.Refused
}
