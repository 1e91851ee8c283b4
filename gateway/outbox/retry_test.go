package outbox

import (
	"testing"
	"time"
)

func TestResendDelay(t *testing.T) {
	for attempts, mean := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 9: 256 * time.Second,
		10: 300 * time.Second, 99: 300 * time.Second,
	} {
		for range 20 {
			got := resendDelay(attempts, 0)
			if got < mean*3/4-time.Millisecond || got > mean*5/4+time.Millisecond {
				t.Errorf("resendDelay(%d, 0) = %v, want %v to %v", attempts, got, mean*3/4, mean*5/4)
			}
		}
	}
	if got := resendDelay(1, time.Minute); got != time.Minute {
		t.Errorf("resendDelay(1, 1m) = %v, want 1m", got)
	}
}
