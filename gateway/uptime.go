package gateway

import (
	"errors"
	"os"
	"strings"
	"time"
)

// An uptime is a moment by a clock that nobody can set, and that all processes of a
// machine share: for how long the machine had run, since which of its starts.
type uptime struct {
	Boot string        `json:"boot,omitempty"`
	For  time.Duration `json:"for,omitempty"`
}

// machineUptime reads that clock; zero where the machine does not show one.
func machineUptime() uptime {
	boot, berr := os.ReadFile("/proc/sys/kernel/random/boot_id")
	up, uerr := os.ReadFile("/proc/uptime")
	seconds, _, _ := strings.Cut(string(up), " ")
	ran, perr := time.ParseDuration(seconds + "s")
	if errors.Join(berr, uerr, perr) != nil {
		return uptime{}
	}
	return uptime{Boot: strings.TrimSpace(string(boot)), For: ran}
}

// since gives how long ago then was; zero when nobody can know, because the machine was
// started again or it was another machine.
func (u uptime) since(then uptime) time.Duration {
	if u.Boot == "" || u.Boot != then.Boot {
		return 0
	}
	return max(0, u.For-then.For)
}
