package httpapi

import (
	"fmt"
	"testing"
)

// One caller is one IPv4 address, however it is written, or one network of IPv6 that a
// subscriber holds whole.
func TestFailuresAreCountedByNetwork(t *testing.T) {
	for name, c := range map[string]struct {
		first, second string
		same          bool
	}{
		"Ports":                                 {"192.0.2.1:1000", "192.0.2.1:2000", true},
		"Mapped (OpenClaw GHSA-5847-rm3g-23mw)": {"192.0.2.1:1000", "[::ffff:192.0.2.1]:2000", true},
		"MappedInHex":                           {"192.0.2.1:1000", "[::ffff:c000:201]:2000", true},
		"OtherAddress":                          {"192.0.2.1:1000", "192.0.2.2:1000", false},
		"OtherMapped":                           {"192.0.2.1:1000", "[::ffff:192.0.2.2]:1000", false},
		"SameNetwork":                           {"[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff:ffff:ffff:ffff]:1", true},
		"OtherNetwork":                          {"[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1", false},
		"Zone":                                  {"[fe80::1%eth0]:1", "[fe80::2%eth1]:1", true},
		"WithoutPort":                           {"192.0.2.1", "192.0.2.1:1", true},
		"NobodyAndNobody":                       {"", "@", true}, // a socket that has no addresses
		"NobodyAndOne":                          {"", "192.0.2.1:1", false},
	} {
		var f failures
		for n := range failuresPerMinute {
			if !f.allow(c.first) {
				t.Fatalf("%s: failure %d is too many", name, n+1)
			}
		}
		if f.allow(c.first) {
			t.Errorf("%s: failure %d is not too many", name, failuresPerMinute+1)
		}
		if same := !f.allow(c.second); same != c.same {
			t.Errorf("%s: %q and %q count as one: %v", name, c.first, c.second, same)
		}
	}
}

// Whoever comes from everywhere fills no memory.
func TestFailuresAreBounded(t *testing.T) {
	var f failures
	for n := range 3 * maxFailing {
		f.allow(fmt.Sprintf("[2001:db8:%x:%x::1]:1", n>>16, n&0xffff))
		if len(f.by) > maxFailing+1 {
			t.Fatalf("%d addresses are remembered", len(f.by))
		}
	}
}
