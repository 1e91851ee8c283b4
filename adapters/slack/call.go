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
	callTimeout = 10 * time.Second
	maxAnswer   = 4 << 20
	maxWait     = time.Hour // longest Retry-After that is believed
)

// errSaidNo is under every error that is Slack's own word.
var errSaidNo = errors.New("slack said no")

// A call makes the requests of one method and remembers what is needed to say, when
// it fails, whether Slack may have acted on it.
type call struct {
	client     http.Client
	left       atomic.Bool // a request was written to a connection
	status     int
	retryAfter time.Duration
}

func (a *Adapter) call() *call {
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

// slack gives Slack's client over c. The SDK knows the wire of each method; what it
// does with time and size is decided here.
func (c *call) slack(a *Adapter, token string) *api.Client {
	return api.New(token, api.OptionAppLevelToken(token), api.OptionAPIURL(a.apiURL()), api.OptionHTTPClient(c))
}

// Do makes one request; a long answer is cut.
func (c *call) Do(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{WroteHeaders: func() { c.left.Store(true) }}
	resp, err := c.client.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		return nil, err
	}
	c.status = resp.StatusCode
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		c.retryAfter = time.Duration(min(s, int(maxWait/time.Second))) * time.Second
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

// sort says what an error of the call means for the reply.
func (c *call) sort(err error) *adapters.SendError {
	var said api.SlackErrorResponse
	var syntax *json.SyntaxError
	var shape *json.UnmarshalTypeError
	switch {
	case errors.As(err, &said):
		return &adapters.SendError{Reason: reason(said.Err), Code: code(said.Err), Gone: said.Err == "user_disabled", RetryAfter: c.retryAfter, Err: errSaidNo}
	case c.status != 0 && c.status/100 != 2:
		e := adapters.FromStatus(c.status, strconv.Itoa(c.status))
		e.RetryAfter = c.retryAfter
		return e
	case errors.As(err, &syntax), errors.As(err, &shape):
		return &adapters.SendError{Reason: adapters.Unreachable, Code: "not_json", Err: errors.New("the answer is not Slack's")}
	case c.left.Load():
		return &adapters.SendError{Reason: adapters.Ambiguous, Code: failure(err), Err: bare(err)}
	}
	return &adapters.SendError{Reason: adapters.Unreachable, Code: failure(err), Err: bare(err)}
}

// bare gives err without the URL the HTTP client puts around it.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func failure(err error) string {
	var slow interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &slow) && slow.Timeout() {
		return "timeout"
	}
	return "connection"
}

// code lets through what looks like one of Slack's error codes.
func code(said string) string {
	if len(said) <= 64 && isName(said) {
		return said
	}
	return "unknown"
}

// reason sorts Slack's error codes. Codes that are not listed are the answer to
// this one reply, and will be the same tomorrow.
func reason(said string) adapters.Reason {
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
