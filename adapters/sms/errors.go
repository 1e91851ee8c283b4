package sms

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"hydragate/adapters"
)

const maxRetryAfter = 24 * time.Hour

// An apiError is an error response of Twilio.
type apiError struct {
	status, code int
	message      string // may contain phone numbers: shown to staff at set-up, never logged
	retryAfter   time.Duration
}

func (e *apiError) Error() string { return fmt.Sprintf("status %d", e.status) }

// A callError is a call that ended without a usable response of Twilio.
type callError struct {
	maybeSent bool // the request may have reached Twilio
	status    int  // of an intermediary, if one responded
	err       error
}

func (e *callError) Error() string { return e.err.Error() }

func (e *callError) Unwrap() error { return e.err }

// newResponseError returns the error of a response whose status is not 2xx. If its body is not
// Twilio's JSON, an intermediary responded and the request was not accepted.
func newResponseError(resp *http.Response, body []byte) error {
	var doc struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	err := json.Unmarshal(body, &doc)
	isClear := resp.StatusCode/100 == 5 || resp.StatusCode == http.StatusTooManyRequests ||
		resp.StatusCode == http.StatusUnauthorized
	if err != nil && !isClear {
		return &callError{
			status: resp.StatusCode,
			err:    fmt.Errorf("status %d in a response that is not from Twilio", resp.StatusCode),
		}
	}
	return &apiError{
		status: resp.StatusCode, code: doc.Code,
		message:    adapters.Sanitize(doc.Message, maxLabel),
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

// reason returns the reason for an error response. The codes are in Twilio's
// "Error and Warning Dictionary".
func (e *apiError) reason() adapters.Reason {
	switch e.code {
	case 20429, 14107, 21611, 63018:
		return adapters.Throttled
	case 20003, 20005:
		return adapters.BadSecret
	case 21610:
		return adapters.OptedOut
	case 21617, 21658, 30019: // more characters than Twilio or the carrier accepts
		return adapters.TooLong
	}
	if err := adapters.ErrorFromStatus(e.status, ""); err != nil {
		return err.Reason
	}
	return adapters.Refused
}

// isNotFound reports whether err is Twilio's response that something does not exist, or is not
// available to this account.
func isNotFound(err error) bool {
	var response *apiError
	var call *callError
	return errors.As(err, &response) && response.reason() == adapters.Refused ||
		errors.As(err, &call) && call.status/100 == 4
}

// callErrorOf returns err if restClient made it. Any other error of twilio-go is about decoding a
// response of Twilio. Its text may quote the response and is dropped.
func callErrorOf(err error) error {
	var response *apiError
	var call *callError
	if errors.As(err, &response) || errors.As(err, &call) {
		return err
	}
	return &callError{maybeSent: true, err: errors.New("response is not the expected JSON")}
}

// newSendError returns err, an error of twilio-go, as a *SendError.
func newSendError(err error) *adapters.SendError {
	err = callErrorOf(err)
	if response, ok := errors.AsType[*apiError](err); ok {
		code := response.code
		if code == 0 {
			code = response.status
		}
		return &adapters.SendError{
			Reason: response.reason(), Code: strconv.Itoa(code), RetryAfter: response.retryAfter, Err: response,
		}
	}
	var call *callError
	if errors.As(err, &call) && call.maybeSent {
		return &adapters.SendError{Reason: adapters.Ambiguous, Err: err}
	}
	return &adapters.SendError{Reason: adapters.Unreachable, Err: err}
}

// newLookupError returns the *SendError of a failed look-up. It is still unknown whether the reply
// was sent, so the next attempt must look it up again.
func newLookupError(err error) *adapters.SendError {
	e := newSendError(err)
	if e.Retryable() {
		e.Reason = adapters.Ambiguous
	}
	return e
}

// newInputError returns the error of an invalid set-up input, in words for staff.
func newInputError(field, message string) *adapters.SetupError {
	return &adapters.SetupError{Reason: adapters.Refused, Field: field, Message: message}
}

// newSetupError returns err, an error of twilio-go, as a *SetupError. field is the input to which
// a rejection refers.
func newSetupError(err error, field string) *adapters.SetupError {
	err = callErrorOf(err)
	e := &adapters.SetupError{Reason: adapters.Unreachable, Message: "Twilio did not respond", Err: err}
	var response *apiError
	if !errors.As(err, &response) {
		return e
	}
	e.Reason, e.Field, e.Message, e.RetryAfter = response.reason(), field, response.message, response.retryAfter
	switch e.Reason {
	case adapters.BadSecret:
		e.Field = adapters.AuthToken
	case adapters.Unreachable, adapters.Throttled:
		e.Field = ""
	default: // the rejection refers to the input
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("Twilio responded with status %d", response.status)
	}
	if e.Reason == adapters.BadSecret {
		e.Message = "Twilio does not accept the auth token of this account (" + e.Message +
			"). Connect the channel with the primary token that Twilio's console shows"
	}
	return e
}
