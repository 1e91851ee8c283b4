package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/httpapi/operation"
)

// acceptAll is an EndpointSource that finds every endpoint, and an Acceptor that accepts
// everything.
type acceptAll struct{}

func (acceptAll) Endpoint(context.Context, string, adapters.Channel) (adapters.Endpoint, error) {
	return adapters.Endpoint{}, nil
}

func (acceptAll) Refresh(context.Context, string, adapters.Channel) (adapters.Endpoint, error) {
	return adapters.Endpoint{}, gateway.ErrNoEndpoint
}

func (acceptAll) Accept(context.Context, adapters.Endpoint, adapters.Inbound) error { return nil }

// TestHandler_PanicStatus checks that the handler asks for the status that makes the provider
// retry.
func TestHandler_PanicStatus(t *testing.T) {
	h := &Handler{Endpoints: acceptAll{}, Inbox: acceptAll{}, Log: slog.New(slog.DiscardHandler)}
	info := &operation.RequestInfo{}
	r := httptest.NewRequest(http.MethodPost, "/hooks/telegram/01a2012b-02ef-71ed-ade5-af96a0001aeb", http.NoBody)
	h.ServeHTTP(httptest.NewRecorder(), r.WithContext(operation.WithRequestInfo(t.Context(), info)))
	if info.PanicStatus != http.StatusServiceUnavailable {
		t.Errorf("PanicStatus = %d, want %d", info.PanicStatus, http.StatusServiceUnavailable)
	}
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
			var f failureLimiter
			for n := range failuresPerMinute {
				if !f.allow(c.first) {
					t.Fatalf("%s: failure %d is over the limit", name, n+1)
				}
			}
			if f.allow(c.first) {
				t.Errorf("%s: failure %d is within the limit", name, failuresPerMinute+1)
			}
			if same := !f.allow(c.second); same != c.same {
				t.Errorf("%s: %q and %q share a limit: %v, want %v", name, c.first, c.second, same, c.same)
			}
		})
	}
}

// TestFailureLimiter_Bounded checks that the number of tracked networks is limited.
func TestFailureLimiter_Bounded(t *testing.T) {
	var f failureLimiter
	for n := range 3 * maxTrackedNetworks {
		f.allow(fmt.Sprintf("[2001:db8:%x:%x::1]:1", n>>16, n&0xffff))
		if len(f.limiters) > maxTrackedNetworks+1 {
			t.Fatalf("%d networks are tracked", len(f.limiters))
		}
	}
}
