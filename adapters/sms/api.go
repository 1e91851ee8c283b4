package sms

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	maxResponse   = 1 << 20
	maxRetryAfter = time.Hour
)

// A apiError is an answer of Twilio other than yes.
type apiError struct {
	status, code int
	message      string // may name numbers: for staff at set-up, never for a log
	retryAfter   time.Duration
}

func (r *apiError) Error() string { return fmt.Sprintf("status %d", r.status) }

// A callError call ended without a readable answer.
type callError struct {
	maybeSent bool // the request may have reached Twilio
	status    int  // of a machine in between, if one answered
	err       error
}

func (l *callError) Error() string { return l.err.Error() }

func (l *callError) Unwrap() error { return l.err }

// accountPath gives the base of the paths of ep's account. It is the one place where
// credentials become a path, and lets nothing but a SID through.
func accountPath(ep adapters.Endpoint) (string, error) {
	sid := ep.Credentials[adapters.AccountSID]
	if !isSID(sid, "AC") || len(ep.Current(adapters.AuthToken)) == 0 {
		return "", &apiError{status: http.StatusUnauthorized, message: "no usable credentials"}
	}
	return "/2010-04-01/Accounts/" + sid, nil
}

// get asks Twilio for a document.
func (a Adapter) get(ctx context.Context, ep adapters.Endpoint, u string, into any) error {
	return a.call(ctx, ep, http.MethodGet, u, nil, into)
}

// post hands Twilio a form.
func (a Adapter) post(ctx context.Context, ep adapters.Endpoint, u string, form url.Values, into any) error {
	return a.call(ctx, ep, http.MethodPost, u, form, into)
}

// call makes one request and reads the answer to its end. Its error is a *refusal
// or a *lost.
func (a Adapter) call(ctx context.Context, ep adapters.Endpoint, method, u string, form url.Values, into any) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	var left atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { left.Store(true) }})
	r, err := http.NewRequestWithContext(ctx, method, u, strings.NewReader(form.Encode()))
	if err != nil {
		return &callError{err: errors.New("making the request")}
	}
	r.SetBasicAuth(ep.Credentials[adapters.AccountSID], ep.Current(adapters.AuthToken)[0])
	r.Header.Set("Accept", "application/json")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := a.httpClient().Do(r)
	if err != nil {
		return &callError{maybeSent: left.Load(), err: fmt.Errorf("calling Twilio: %w", stripURL(err))}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if resp.StatusCode/100 != 2 {
		return responseError(resp, body)
	}
	if err != nil {
		return &callError{maybeSent: true, err: fmt.Errorf("reading the answer: %w", err)}
	}
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
		return &callError{err: errors.New("somebody else answers in HTML")}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return &callError{maybeSent: true, err: errors.New("the answer is no JSON")}
	}
	return nil
}

func (a Adapter) httpClient() *http.Client {
	c := http.Client{}
	if a.HTTP != nil {
		c = *a.HTTP
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// stripURL takes the error out of the one that names the URL.
func stripURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// responseError reads an answer that is not 2xx. What says so in other words than Twilio's
// comes from a machine in between, and the request was not taken.
func responseError(resp *http.Response, body []byte) error {
	var said struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	err := json.Unmarshal(body, &said)
	known := resp.StatusCode/100 == 5 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusUnauthorized
	if err != nil && !known {
		return &callError{status: resp.StatusCode, err: fmt.Errorf("status %d without Twilio's words", resp.StatusCode)}
	}
	return &apiError{
		status: resp.StatusCode, code: said.Code,
		message:    adapters.Sanitize(said.Message, maxLabel),
		retryAfter: parseRetryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}
}

func parseRetryAfter(s string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(s); err == nil {
		d = time.Duration(min(n, int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(s); err == nil {
		d = at.Sub(now)
	}
	return max(0, min(d, maxRetryAfter))
}

// reason sorts a refusal. Codes are Twilio's, listed under "Error and Warning
// Dictionary".
func (r *apiError) reason() adapters.Reason {
	switch r.code {
	case 20429, 14107, 21611, 63018:
		return adapters.Throttled
	case 20003, 20005:
		return adapters.BadSecret
	case 21610:
		return adapters.OptedOut
	}
	if e := adapters.ErrorFromStatus(r.status, ""); e != nil {
		return e.Reason
	}
	return adapters.Refused
}
