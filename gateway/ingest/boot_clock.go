package ingest

import (
	"errors"
	"os"
	"strings"
	"time"
)

// An bootClock is a moment by a clock that nobody can set, and that all processes of a
// machine share: for how long the machine had run, since which of its starts.
type bootClock struct {
	BootID  string        `json:"boot,omitempty"`
	Elapsed time.Duration `json:"for,omitempty"`
}

// readBootClock reads that clock; zero where the machine does not show one.
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

// since gives how long ago then was; zero when nobody can know, because the machine was
// started again or it was another machine.
func (u bootClock) since(then bootClock) time.Duration {
	if u.BootID == "" || u.BootID != then.BootID {
		return 0
	}
	return max(0, u.Elapsed-then.Elapsed)
}
