package httpapi

import "testing"

// TestOneCallerHasOneBudget spells the address of one caller in every way and counts
// wrong tries together (OpenClaw GHSA-5847-rm3g-23mw: an IPv4 address written as an
// IPv6 one had a budget of its own).
func TestOneCallerHasOneBudget(t *testing.T) {
	for _, tt := range []struct {
		name string
		all  []string
		one  bool
	}{
		{"IPv4, mapped", []string{"192.0.2.7:1", "[::ffff:192.0.2.7]:2", "[::ffff:c000:207]:3"}, true},
		{"one subscriber's IPv6", []string{"[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff::9]:2", "[2001:db8:1:2::1%eth0]:3"}, true},
		{"control: two IPv4 addresses", []string{"192.0.2.7:1", "192.0.2.8:1"}, false},
		{"control: two subscribers' IPv6", []string{"[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f failures
			passed := 0
			for i := range 2 * failuresPerMinute {
				if f.allow(tt.all[i%len(tt.all)]) {
					passed++
				}
			}
			if tt.one != (passed == failuresPerMinute) {
				t.Errorf("%d of %d passed", passed, 2*failuresPerMinute)
			}
		})
	}
}
