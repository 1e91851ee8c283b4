package process

import (
	"testing"
	"time"
)

func TestRetryPolicy(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		-1: time.Second, 0: time.Second, 1: 2 * time.Second, 2: 4 * time.Second, 3: 8 * time.Second, 4: 16 * time.Second,
		5: 30 * time.Second, 99: 30 * time.Second,
	} {
		if got := retryPolicy().Delay(failures, 0); got != want {
			t.Errorf("Delay(%d, 0) = %v, want %v", failures, got, want)
		}
	}
}
