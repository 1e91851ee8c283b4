package operation

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// clientOf returns the network of a request from an address, with the given X-Forwarded-For headers.
func clientOf(remote string, forwarded ...string) netip.Prefix {
	return testProxies.ClientNetwork(&http.Request{
		RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": forwarded},
	})
}

var testProxies = Proxies{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::/48"),
}

// TestClientNetwork_Forwarded checks that X-Forwarded-For is believed only where a trusted proxy wrote
// it.
func TestClientNetwork_Forwarded(t *testing.T) {
	for name, c := range map[string]struct {
		remote    string
		forwarded []string
		want      string
	}{
		"no proxy":                      {"192.0.2.1:1", nil, "192.0.2.1/32"},
		"header of the client itself":   {"192.0.2.1:1", []string{"198.51.100.1"}, "192.0.2.1/32"},
		"proxy":                         {"10.0.0.1:1", []string{"192.0.2.1"}, "192.0.2.1/32"},
		"mapped proxy":                  {"[::ffff:10.0.0.1]:1", []string{"192.0.2.1"}, "192.0.2.1/32"},
		"IPv6 proxy":                    {"[2001:db8:ffff::1]:1", []string{"2001:db8:1:2::3"}, "2001:db8:1:2::/64"},
		"forged entry before the true":  {"10.0.0.1:1", []string{"203.0.113.9, 192.0.2.1"}, "192.0.2.1/32"},
		"forged header before the true": {"10.0.0.1:1", []string{"203.0.113.9", "192.0.2.1"}, "192.0.2.1/32"},
		"forged proxy":                  {"10.0.0.1:1", []string{"10.0.0.9, 192.0.2.1"}, "192.0.2.1/32"},
		"two proxies":                   {"10.0.0.1:1", []string{"192.0.2.1, 10.0.0.2"}, "192.0.2.1/32"},
		"with port":                     {"10.0.0.1:1", []string{"192.0.2.1:4711"}, "192.0.2.1/32"},
		"IPv6 with port":                {"10.0.0.1:1", []string{"[2001:db8:1:2::3]:4711"}, "2001:db8:1:2::/64"},
		"IPv6 in brackets":              {"10.0.0.1:1", []string{"[2001:db8:1:2::3]"}, "2001:db8:1:2::/64"},
		"proxies only":                  {"10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3/32"},
		"garbage":                       {"10.0.0.1:1", []string{"192.0.2.1, unknown"}, "10.0.0.1/32"},
		"garbage before a proxy":        {"10.0.0.1:1", []string{"unknown, 10.0.0.2"}, "10.0.0.2/32"},
		"no header":                     {"10.0.0.1:1", nil, "10.0.0.1/32"},
		"empty header":                  {"10.0.0.1:1", []string{""}, "10.0.0.1/32"},
	} {
		if got := clientOf(c.remote, c.forwarded...); got.String() != c.want {
			t.Errorf("%s: ClientNetwork(%s, %q) = %s, want %s", name, c.remote, c.forwarded, got, c.want)
		}
	}
}

// TestFailureLimiter_Refill checks that the budget of a network refills and can be returned.
func TestFailureLimiter_Refill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f FailureLimiter
		network := clientOf("192.0.2.1:1")
		for range FailuresPerMinute {
			f.Take(network)
		}
		if got := f.Wait(network); f.Take(network) || got != 3*time.Second {
			t.Errorf("Wait = %s beyond the limit, want 3s", got)
		}
		<-time.After(3 * time.Second)
		if got := f.Wait(network); got != 0 || !f.Take(network) || f.Take(network) {
			t.Errorf("Wait = %s after 3 seconds, want 0 and one more failure", got)
		}
		if f.Return(network); !f.Take(network) || f.Take(network) {
			t.Error("a returned failure is not available once")
		}
	})
}

// TestFailureLimiter_ByNetwork checks that failures are counted per IPv4 address and per IPv6 /64
// network.
func TestFailureLimiter_ByNetwork(t *testing.T) {
	for name, c := range map[string]struct {
		first, second string
		same          bool
	}{
		"other port": {"192.0.2.1:1000", "192.0.2.1:2000", true},
		"mapped address (OpenClaw GHSA-5847-rm3g-23mw)": {"192.0.2.1:1000", "[::ffff:192.0.2.1]:2000", true},
		"mapped address in hex":                         {"192.0.2.1:1000", "[::ffff:c000:201]:2000", true},
		"other address":                                 {"192.0.2.1:1000", "192.0.2.2:1000", false},
		"other mapped address":                          {"192.0.2.1:1000", "[::ffff:192.0.2.2]:1000", false},
		"same IPv6 network": {
			"[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff:ffff:ffff:ffff]:1", true,
		},
		"other IPv6 network":        {"[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1", false},
		"zone":                      {"[fe80::1%eth0]:1", "[fe80::2%eth1]:1", true},
		"no port":                   {"192.0.2.1", "192.0.2.1:1", true},
		"no addresses":              {"", "@", true}, // as for Unix sockets
		"no address and an address": {"", "192.0.2.1:1", false},
	} {
		synctest.Test(t, func(t *testing.T) { // time stands still
			var f FailureLimiter
			for n := range FailuresPerMinute {
				if !f.Take(clientOf(c.first)) {
					t.Fatalf("%s: failure %d is over the limit", name, n+1)
				}
			}
			if f.Take(clientOf(c.first)) {
				t.Errorf("%s: failure %d is within the limit", name, FailuresPerMinute+1)
			}
			if same := !f.Take(clientOf(c.second)); same != c.same {
				t.Errorf("%s: %q and %q share a limit: %v, want %v", name, c.first, c.second, same, c.same)
			}
		})
	}
}

// TestFailureLimiter_Bounded checks that the number of tracked networks is limited.
func TestFailureLimiter_Bounded(t *testing.T) {
	var f FailureLimiter
	for n := range 3 * maxTrackedNetworks {
		f.Take(clientOf(fmt.Sprintf("[2001:db8:%x:%x::1]:1", n>>16, n&0xffff)))
		if len(f.networks) > maxTrackedNetworks {
			t.Fatalf("%d networks are tracked", len(f.networks))
		}
	}
}
