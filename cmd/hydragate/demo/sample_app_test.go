package demo

import (
	"strings"
	"testing"
)

func TestSampleApp_VerifiesSignatures(t *testing.T) {
	a := NewSampleApp()
	if a.verify([]byte("{}"), nil) || a.rejectedCount() != 1 {
		t.Error("verify without a secret = true, want a rejected request")
	}
}

func TestReplyText(t *testing.T) {
	for role, want := range map[string]string{
		"owner":      "1,250.00",
		"customer":   "only tell the balance to the owner",
		"unverified": "not verified",
		"unknown":    "do not know you",
		"":           "do not know you",
	} {
		got := replyText(appSender{Role: role, DisplayName: "Steve"})
		if !strings.HasPrefix(got, "Hello Steve!") || !strings.Contains(got, want) {
			t.Errorf("replyText(role %q) = %q, want a greeting and %q", role, got, want)
		}
		if role != "owner" && strings.Contains(got, "EUR") {
			t.Errorf("replyText(role %q) = %q, which contains the balance", role, got)
		}
	}
}
