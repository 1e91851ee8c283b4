package telegram

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-telegram/bot"

	"hydragate/adapters"
)

const (
	defaultAPI  = "https://api.telegram.org"
	callTimeout = 30 * time.Second
	maxResponse = 8 << 20 // getUpdates returns at most 4 MiB
)

// errMalformedURL replaces the error of the URL parser, which would quote the URL.
var errMalformedURL = errors.New("malformed URL of the Bot API server")

// A response is the envelope of all responses of the Bot API.
type response struct {
	OK          bool            `json:"ok"`
	Result      json.RawMessage `json:"result"`
	Code        int             `json:"error_code"`
	Description string          `json:"description"`
	Parameters  struct {
		RetryAfter int64 `json:"retry_after"`
		MigrateTo  int64 `json:"migrate_to_chat_id"`
	} `json:"parameters"`
}

// A status is the HTTP status of a response, with its Retry-After header.
type status struct {
	code       int
	retryAfter string
}

func (s status) ok() bool { return s.code/100 == 2 }

// An exchange is one call of the Bot API. It is the HTTP client of the SDK for that call, and records
// the response itself: the SDK's errors quote what the server sent, do not distinguish a request
// that was never sent from one whose response was lost, and do not limit the response.
type exchange struct {
	client *http.Client

	sent   atomic.Bool // the request may have reached the server
	done   bool        // Do was called
	err    error       // error of the transport
	status status
	body   []byte
}

// Do implements bot.HttpClient.
func (x *exchange) Do(r *http.Request) (*http.Response, error) {
	x.done = true
	trace := &httptrace.ClientTrace{WroteHeaders: func() { x.sent.Store(true) }}
	response, err := x.client.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		x.err = err
		return nil, err
	}
	defer response.Body.Close()
	x.status = status{response.StatusCode, response.Header.Get("Retry-After")}
	if x.body, x.err = io.ReadAll(io.LimitReader(response.Body, maxResponse)); x.err != nil {
		return nil, x.err
	}
	response.Body = io.NopCloser(bytes.NewReader(x.body))
	return response, nil
}

// sendError returns the error of an exchange without a complete response, or nil.
func (x *exchange) sendError() error {
	switch {
	case !x.done:
		return newSendError(adapters.Refused, "", errors.New("encode request"))
	case x.err == nil:
		return nil
	case x.status.code != 0:
		return newSendError(adapters.Ambiguous, strconv.Itoa(x.status.code), redactCause(x.err))
	}
	return newSendError(noResponseReason(x.sent.Load()), "", redactCause(x.err))
}

// call calls a method of the Bot API through the SDK and decodes the result of the response. Every
// error is an *adapters.SendError that contains neither the token nor the parameters.
//
// The result is decoded from the recorded response, so that a field which the SDK cannot decode
// does not make a call fail that has succeeded.
func (a *Adapter) call(
	ctx context.Context,
	ep adapters.Endpoint,
	timeout time.Duration,
	result any,
	method func(context.Context, *bot.Bot) error,
) error {
	tokens := ep.Current(adapters.BotToken)
	if len(tokens) == 0 {
		return newSendError(adapters.BadSecret, "", errors.New("no bot token"))
	}
	if _, err := url.Parse(a.baseURL()); err != nil {
		return newSendError(adapters.Unreachable, "", errMalformedURL)
	}
	x := &exchange{client: a.httpClient()}
	b, err := bot.New(url.PathEscape(tokens[0]), bot.WithSkipGetMe(), bot.WithServerURL(a.baseURL()),
		bot.WithHTTPClient(timeout, x), bot.WithErrorsHandler(func(error) {}), bot.WithUpdatesChannelCap(0))
	if err != nil {
		return newSendError(adapters.BadSecret, "", errors.New("no bot token"))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_ = method(ctx, b) // x has the response, or the error
	if err := x.sendError(); err != nil {
		return err
	}
	return decodeResponse(x.status, x.body, result)
}

// post calls a method that the SDK does not export, with params as JSON, and returns the response.
func (a *Adapter) post(
	ctx context.Context, ep adapters.Endpoint, timeout time.Duration, method string, params any,
) (status, []byte, error) {
	tokens := ep.Current(adapters.BotToken)
	if len(tokens) == 0 {
		return status{}, nil, newSendError(adapters.BadSecret, "", errors.New("no bot token"))
	}
	body, err := json.Marshal(params)
	if err != nil {
		return status{}, nil, newSendError(adapters.Refused, "", fmt.Errorf("encode %s", method))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	address := a.baseURL() + "/bot" + url.PathEscape(tokens[0]) + "/" + method
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return status{}, nil, newSendError(adapters.Unreachable, "", errMalformedURL)
	}
	r.Header.Set("Content-Type", "application/json")
	x := &exchange{client: a.httpClient()}
	_, _ = x.Do(r) //nolint:bodyclose // Do has closed the body; x has the response, or the error
	return x.status, x.body, x.sendError()
}

// decodeResponse decodes a complete response into result, which may be nil.
func decodeResponse(s status, raw []byte, result any) error {
	var r response
	if json.Unmarshal(raw, &r) != nil || !r.OK && r.Code == 0 {
		return s.sendError()
	}
	if !r.OK {
		return r.sendError()
	}
	if result != nil && json.Unmarshal(r.Result, result) != nil {
		return newSendError(adapters.Ambiguous, strconv.Itoa(s.code), errors.New("decode result"))
	}
	return nil
}

// sendError returns the error for a response that is not from the Bot API, such as that of a
// proxy, or that is incomplete.
func (s status) sendError() *adapters.SendError {
	e := newSendError(adapters.Unreachable, strconv.Itoa(s.code), errors.New("response is not from the Bot API"))
	switch {
	case s.ok():
		e.Reason = adapters.Ambiguous
	case s.code == http.StatusTooManyRequests:
		seconds, _ := strconv.ParseInt(s.retryAfter, 10, 64)
		e.Reason, e.RetryAfter = adapters.Throttled, clampSeconds(seconds)
	}
	return e
}

// sendError returns the error for a response in which the Bot API reports one.
func (s response) sendError() *adapters.SendError {
	e := adapters.ErrorFromStatus(s.Code, strconv.Itoa(s.Code))
	if e == nil {
		e = newSendError(adapters.Refused, strconv.Itoa(s.Code), nil)
	}
	e.Err = &apiError{s.Description}
	switch {
	case s.Code == http.StatusTooManyRequests:
		e.RetryAfter = clampSeconds(s.Parameters.RetryAfter)
	case s.Code == http.StatusForbidden:
		e.Reason, e.Gone = adapters.Blocked, strings.Contains(s.Description, "user is deactivated")
	case s.Code == http.StatusNotFound: // the response to a malformed token
		e.Reason = adapters.BadSecret
	case s.Code == http.StatusConflict: // another program sets webhooks or polls
		e.Reason = adapters.Conflict
	case s.Parameters.MigrateTo != 0:
		e.Reason, e.NewChatID = adapters.Moved, formatInt(s.Parameters.MigrateTo)
	case s.isTooLong():
		e.Reason = adapters.TooLong
	}
	return e
}

// isTooLong reports whether Telegram refused a text because of its length, which it counts after it has found
// the entities: "message is too long", "MESSAGE_TOO_LONG", "MEDIA_CAPTION_TOO_LONG" and others.
func (s response) isTooLong() bool {
	description := strings.ToLower(strings.ReplaceAll(s.Description, "_", " "))
	return s.Code == http.StatusRequestEntityTooLarge || strings.Contains(description, "too long")
}

// An apiError is Telegram's description of an error. It prints only phrases that are known to
// contain nothing of the message or the chat.
type apiError struct{ description string }

func (e *apiError) Error() string {
	for _, phrase := range [...]string{
		"bot was blocked by the user", "user is deactivated", "bot was kicked", "bot is not a member",
		"bot can't initiate conversation", "bot can't send messages to bots", "chat not found",
		"message thread not found", "TOPIC_CLOSED", "message is too long", "MESSAGE_TOO_LONG",
		"CAPTION_TOO_LONG", "caption is too long", "ENTITIES_TOO_LONG", "message text is empty", "not enough rights",
		"have no rights", "group chat was upgraded", "message to be replied not found", "Too Many Requests",
		"Unauthorized", "can't use getUpdates method while webhook is active",
		"terminated by other getUpdates request; make sure that only one bot instance is running",
		"terminated by setWebhook request", "terminated by other long poll or webhook", "another webhook is active",
	} {
		if strings.Contains(e.description, phrase) {
			return phrase
		}
	}
	return "refused by Telegram"
}

func newSendError(reason adapters.Reason, code string, err error) *adapters.SendError {
	return &adapters.SendError{Reason: reason, Code: code, Err: err}
}

// noResponseReason returns the reason for a call without a response.
func noResponseReason(sent bool) adapters.Reason {
	if sent {
		return adapters.Ambiguous
	}
	return adapters.Unreachable
}

// redactCause returns the cause of a transport error without the URL, which contains the token,
// and without anything a server may have sent.
func redactCause(err error) error {
	var timeout interface{ Timeout() bool }
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("timed out")
	case errors.As(err, &op):
		return op
	case errors.As(err, &cert):
		return cert
	}
	return errors.New("connection broken")
}

const maxRetryAfter = 24 * time.Hour

// clampSeconds returns n seconds, between zero and maxRetryAfter.
func clampSeconds(n int64) time.Duration {
	return time.Duration(min(max(n, 0), int64(maxRetryAfter/time.Second))) * time.Second
}

func (a *Adapter) baseURL() string {
	if a.APIURL == "" {
		return defaultAPI
	}
	return strings.TrimRight(a.APIURL, "/")
}

// httpClient returns the client of the adapter, or one that keeps enough idle connections for many
// concurrent chats. It follows no redirects.
func (a *Adapter) httpClient() *http.Client {
	a.clientOnce.Do(func() {
		var c http.Client
		if a.HTTP != nil {
			c = *a.HTTP
		} else {
			c.Transport = &http.Transport{
				Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64,
				IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
				DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			}
		}
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		a.client = &c
	})
	return a.client
}
