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
	maxRetryAfter = 24 * time.Hour // longest Retry-After that is believed
)

// errSlackResponse is wrapped by every error that Slack reported in a response.
var errSlackResponse = errors.New("slack rejected the call")

// A call makes the requests of one method, and records whether Slack may have executed it if it
// fails.
type call struct {
	client     http.Client
	maybeSent  atomic.Bool // a request was written to a connection
	status     int
	scopes     string // of the token, as Slack reports them with each response
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

// apiClient returns a client of the SDK that sends its requests through c. The SDK knows the
// parameters of each method; c decides about timeouts and sizes.
func (c *call) apiClient(a *Adapter, token string) *api.Client {
	return api.New(token, api.OptionAppLevelToken(token), api.OptionAPIURL(a.apiURL()), api.OptionHTTPClient(c))
}

// Do makes one request and limits the size of the response.
func (c *call) Do(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{WroteHeaders: func() { c.maybeSent.Store(true) }}
	resp, err := c.client.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		return nil, err
	}
	c.status, c.scopes = resp.StatusCode, resp.Header.Get("X-Oauth-Scopes")
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		c.retryAfter = time.Duration(min(s, int(maxRetryAfter/time.Second))) * time.Second
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxResponse), resp.Body}
	return resp, nil
}

// sendError returns the error of the call as an *adapters.SendError.
func (c *call) sendError(err error) *adapters.SendError {
	var said api.SlackErrorResponse
	var syntax *json.SyntaxError
	var shape *json.UnmarshalTypeError
	switch {
	case errors.As(err, &said):
		return &adapters.SendError{
			Reason:     reasonForCode(said.Err),
			Code:       sanitizeCode(said.Err),
			Gone:       said.Err == "user_disabled",
			RetryAfter: c.retryAfter,
			Err:        errSlackResponse,
		}
	case c.status != 0 && c.status/100 != 2:
		e := adapters.ErrorFromStatus(c.status, strconv.Itoa(c.status))
		e.RetryAfter = c.retryAfter
		return e
	case errors.As(err, &syntax), errors.As(err, &shape):
		return &adapters.SendError{
			Reason: adapters.Unreachable,
			Code:   "not_json",
			Err:    errors.New("response is not from Slack"),
		}
	case c.maybeSent.Load():
		return &adapters.SendError{Reason: adapters.Ambiguous, Code: networkErrorCode(err), Err: stripURL(err)}
	}
	return &adapters.SendError{Reason: adapters.Unreachable, Code: networkErrorCode(err), Err: stripURL(err)}
}

// stripURL returns err without the URL that the HTTP client adds.
func stripURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
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

// sanitizeCode returns code if it has the form of Slack's error codes.
func sanitizeCode(code string) string {
	if len(code) <= 64 && isKeyPart(code) {
		return code
	}
	return "unknown"
}

// reasonForCode returns the reason for an error code of Slack. A code that is not listed concerns
// only this reply and is permanent.
func reasonForCode(code string) adapters.Reason {
	switch code {
	case "ratelimited", "rate_limited", "message_limit_exceeded":
		return adapters.Throttled
	case "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired",
		"not_allowed_token_type", "missing_scope", "no_permission", "ekm_access_denied", "team_access_not_granted":
		return adapters.BadSecret
	case "internal_error", "fatal_error":
		return adapters.Ambiguous // Slack documents that part of the work may have been done
	case "service_unavailable", "request_timeout", "team_added_to_org", "org_login_required":
		return adapters.Unreachable
	case "msg_too_long", "msg_blocks_too_long":
		return adapters.TooLong
	case "cannot_dm_bot", "messages_tab_disabled", "is_inactive":
		return adapters.Blocked
	}
	if strings.HasPrefix(code, "user_") {
		return adapters.Blocked // user_not_found, user_disabled, user_not_visible, …
	}
	return adapters.Refused
}
