package gateway

import (
	"testing"
	"time"
)

func TestSetupBackoff(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		0: 10 * time.Second, 1: 20 * time.Second, 2: 40 * time.Second, 3: 80 * time.Second, 4: 160 * time.Second,
		5: 320 * time.Second, 6: 480 * time.Second, 99: 480 * time.Second,
	} {
		for range 20 {
			got := SetupBackoff().Delay(failures, 0)
			if got < want-time.Millisecond || got > want*5/4+time.Millisecond {
				t.Errorf("Delay(%d) = %v, want %v to %v", failures, got, want, want*5/4)
			}
		}
	}
}
