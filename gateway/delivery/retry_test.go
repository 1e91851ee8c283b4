package delivery

import (
	"testing"
	"time"
)

func TestRetryPolicy(t *testing.T) {
	for failures, longest := range map[int]time.Duration{
		0: time.Second, 1: 2 * time.Second, 2: 4 * time.Second, 5: 32 * time.Second, 8: 256 * time.Second,
		9: 512 * time.Second, 10: 600 * time.Second, 99: 600 * time.Second,
	} {
		for range 20 {
			got := retryPolicy().Delay(failures, 0)
			if got < longest/2-time.Millisecond || got > longest+time.Millisecond {
				t.Errorf("Delay(%d, 0) = %v, want %v to %v", failures, got, longest/2, longest)
			}
		}
	}
	if got := retryPolicy().Delay(0, time.Hour); got != time.Hour {
		t.Errorf("Delay(0, 1h) = %v, want 1h", got)
	}
}
