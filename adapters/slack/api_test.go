package slack

import (
	"context"
	"errors"
	"strings"
	"testing"

	api "github.com/slack-go/slack"

	"hydragate/adapters"
)

func TestSendError_Code(t *testing.T) {
	longest := strings.Repeat("a", 64)
	for code, want := range map[string]adapters.SendError{
		"user_disabled":  {Reason: adapters.Blocked, Code: "user_disabled", Gone: true},
		"user_not_found": {Reason: adapters.Blocked, Code: "user_not_found"},
		longest:          {Reason: adapters.Refused, Code: longest},
		longest + "a":    {Reason: adapters.Refused, Code: "unknown"},
		"no such code":   {Reason: adapters.Refused, Code: "unknown"},
		"":               {Reason: adapters.Refused, Code: "unknown"},
	} {
		got := (&call{status: 200}).sendError(api.SlackErrorResponse{Err: code})
		if want.Err = errSlackResponse; *got != want {
			t.Errorf("error of code %q = %+v, want %+v", code, *got, want)
		}
	}
}

func TestUnreachableError_Code(t *testing.T) {
	for want, err := range map[string]error{
		"handshake_timeout": context.DeadlineExceeded, "handshake": errors.New("connection refused"),
	} {
		if got := newUnreachableError("handshake", err).Code; got != want {
			t.Errorf("code of %v = %q, want %q", err, got, want)
		}
	}
}
