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

	"hydragate/adapters"
)

const (
	defaultAPI  = "https://api.telegram.org"
	callTimeout = 30 * time.Second
	maxResponse = 8 << 20 // getUpdates answers with 4 MiB at most
)

// A response is what the Bot API answers to every call.
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

// A status is what an HTTP answer says besides its body.
type status struct {
	code       int
	retryAfter string
}

func (s status) ok() bool { return s.code/100 == 2 }

// call makes one call of the Bot API with params as JSON and reads its result. Every
// error is a *adapters.SendError that holds neither the token nor the parameters.
//
// The calls are made here and not by the SDK, whose errors quote what the server
// said, and which cannot tell a call that never left from one that may be done.
func (a *Adapter) call(ctx context.Context, ep adapters.Endpoint, timeout time.Duration, method string, params, result any) error {
	status, raw, err := a.post(ctx, ep, timeout, method, params)
	if err != nil {
		return err
	}
	return decodeResponse(status, raw, result)
}

// post makes one call and gives the answer unread.
func (a *Adapter) post(ctx context.Context, ep adapters.Endpoint, timeout time.Duration, method string, params any) (status, []byte, error) {
	tokens := ep.Current(adapters.BotToken)
	if len(tokens) == 0 {
		return status{}, nil, newSendError(adapters.BadSecret, "", errors.New("no bot token"))
	}
	body, err := json.Marshal(params)
	if err != nil {
		return status{}, nil, newSendError(adapters.Refused, "", fmt.Errorf("encode %s", method))
	}
	var left atomic.Bool
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { left.Store(true) }})
	r, err := http.NewRequestWithContext(traced, http.MethodPost, a.baseURL()+"/bot"+url.PathEscape(tokens[0])+"/"+method, bytes.NewReader(body))
	if err != nil {
		return status{}, nil, newSendError(adapters.Unreachable, "", errors.New("the address of the Bot API server is malformed"))
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := a.httpClient().Do(r)
	if err != nil {
		return status{}, nil, newSendError(noResponseReason(left.Load()), "", redactCause(err))
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxResponse))
	if err != nil {
		return status{}, nil, newSendError(adapters.Ambiguous, strconv.Itoa(answer.StatusCode), redactCause(err))
	}
	return status{answer.StatusCode, answer.Header.Get("Retry-After")}, raw, nil
}

// decodeResponse sorts an answer that has arrived.
func decodeResponse(s status, raw []byte, result any) error {
	var said response
	if json.Unmarshal(raw, &said) != nil || !said.OK && said.Code == 0 {
		return s.sendError()
	}
	if !said.OK {
		return said.sendError()
	}
	if result != nil && json.Unmarshal(said.Result, result) != nil {
		return newSendError(adapters.Ambiguous, strconv.Itoa(s.code), errors.New("the result cannot be read"))
	}
	return nil
}

// sendError sorts an answer that is not the Bot API's: one of a proxy, or half of one.
func (s status) sendError() *adapters.SendError {
	e := newSendError(adapters.Unreachable, strconv.Itoa(s.code), errors.New("the answer is not the Bot API's"))
	switch {
	case s.ok():
		e.Reason = adapters.Ambiguous
	case s.code == http.StatusTooManyRequests:
		seconds, _ := strconv.ParseInt(s.retryAfter, 10, 64)
		e.Reason, e.RetryAfter = adapters.Throttled, clampSeconds(seconds)
	}
	return e
}

// sendError sorts what the Bot API refused.
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
	case s.Code == http.StatusNotFound: // how the server answers a token that cannot be one
		e.Reason = adapters.BadSecret
	case s.Parameters.MigrateTo != 0:
		e.Reason, e.NewChatID = adapters.Moved, formatInt(s.Parameters.MigrateTo)
	}
	return e
}

// A apiError is Telegram's own description of an error. It prints only phrases known
// to hold nothing of the message or the chat.
type apiError struct{ description string }

func (r *apiError) Error() string {
	for _, phrase := range [...]string{
		"bot was blocked by the user", "user is deactivated", "bot was kicked", "bot is not a member", "bot can't initiate conversation",
		"bot can't send messages to bots", "chat not found", "message thread not found", "TOPIC_CLOSED", "message is too long",
		"message text is empty", "not enough rights", "have no rights", "group chat was upgraded", "message to be replied not found",
		"Too Many Requests", "Unauthorized", "terminated by other getUpdates", "webhook is active", "terminated by setWebhook",
	} {
		if strings.Contains(r.description, phrase) {
			return phrase
		}
	}
	return "refused by Telegram"
}

func newSendError(reason adapters.Reason, code string, err error) *adapters.SendError {
	return &adapters.SendError{Reason: reason, Code: code, Err: err}
}

// noResponseReason says what to think of a call without an answer.
func noResponseReason(left bool) adapters.Reason {
	if left {
		return adapters.Ambiguous
	}
	return adapters.Unreachable
}

// redactCause gives what went wrong on the way, without the URL, which holds the token,
// and without what a stranger may have answered.
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

const maxRetryAfter = time.Hour

// clampSeconds keeps what a server asks for within reason.
func clampSeconds(n int64) time.Duration {
	return time.Duration(min(max(n, 0), int64(maxRetryAfter/time.Second))) * time.Second
}

func (a *Adapter) baseURL() string {
	if a.APIURL == "" {
		return defaultAPI
	}
	return strings.TrimRight(a.APIURL, "/")
}

// httpClient gives the client: the one it was given, or one that keeps enough connections
// for many chats at once.
func (a *Adapter) httpClient() *http.Client {
	a.clientOnce.Do(func() {
		var c http.Client
		if a.HTTP != nil {
			c = *a.HTTP
		} else {
			c.Transport = &http.Transport{
				Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second,
				TLSHandshakeTimeout: 10 * time.Second, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			}
		}
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		a.client = &c
	})
	return a.client
}
