package ingest

import (
	"errors"
	"os"
	"strings"
	"time"
)

// A bootClock is a point in time by a clock that cannot be set and that all processes of a machine
// share: the time since boot, with the ID of that boot.
type bootClock struct {
	BootID  string        `json:"boot,omitempty"`
	Elapsed time.Duration `json:"for,omitempty"`
}

// readBootClock reads the clock. It returns the zero bootClock if the system does not provide it.
func readBootClock() bootClock {
	boot, berr := os.ReadFile("/proc/sys/kernel/random/boot_id")
	up, uerr := os.ReadFile("/proc/uptime")
	seconds, _, _ := strings.Cut(string(up), " ")
	ran, perr := time.ParseDuration(seconds + "s")
	if errors.Join(berr, uerr, perr) != nil {
		return bootClock{}
	}
	return bootClock{BootID: strings.TrimSpace(string(boot)), Elapsed: ran}
}

// since returns the time elapsed since then, or zero if it is unknown because then is of another
// boot.
func (u bootClock) since(then bootClock) time.Duration {
	if u.BootID == "" || u.BootID != then.BootID {
		return 0
	}
	return max(0, u.Elapsed-then.Elapsed)
}
