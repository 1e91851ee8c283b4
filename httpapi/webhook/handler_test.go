package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hydragate/adapters"
	"hydragate/gateway"
)

// A panickingAdapter channel panics where it reads what is cursed.
type panickingAdapter struct{ adapters.Adapter }

func (panickingAdapter) Receive(r *http.Request, _ adapters.Endpoint, _ string) (adapters.Inbound, error) {
	if r.Header.Get("X-Cursed") != "" {
		panic("oops")
	}
	return adapters.Inbound{Ack: func(w http.ResponseWriter, _ error) { w.WriteHeader(http.StatusOK) }}, nil
}

// acceptAll is an endpoint for everybody, and an inbox that takes everything.
type acceptAll struct{}

func (acceptAll) Endpoint(context.Context, string, adapters.Channel) (adapters.Endpoint, error) {
	return adapters.Endpoint{}, nil
}

func (acceptAll) Refresh(context.Context, string, adapters.Channel) (adapters.Endpoint, error) {
	return adapters.Endpoint{}, gateway.ErrNoEndpoint
}

func (acceptAll) Accept(context.Context, adapters.Endpoint, adapters.Inbound) error { return nil }

// TestHandler_Panic has a fault of ours meet a hook: the provider is asked
// to try again, and the next hook is taken. It is logged with where it came from.
func TestHandler_Panic(t *testing.T) {
	var log strings.Builder
	h := &Handler{Adapters: map[adapters.Channel]adapters.Adapter{adapters.Telegram: panickingAdapter{}}, Endpoints: acceptAll{}, Inbox: acceptAll{}, Log: slog.New(slog.NewTextHandler(&log, nil))}
	mux := http.NewServeMux()
	h.Mount(mux)
	for _, c := range []struct {
		cursed string
		want   int
	}{{"yes", http.StatusServiceUnavailable}, {"", http.StatusOK}} {
		r, w := httptest.NewRequest(http.MethodPost, "/hooks/telegram/01a2012b-02ef-71ed-ade5-af96a0001aeb", nil), httptest.NewRecorder()
		r.Header.Set("X-Cursed", c.cursed)
		mux.ServeHTTP(w, r)
		t.Logf("cursed %q: answered %d", c.cursed, w.Code)
		if w.Code != c.want {
			t.Errorf("cursed %q: answered %d; want %d", c.cursed, w.Code, c.want)
		}
	}
	if said := log.String(); !strings.Contains(said, "level=ERROR") || !strings.Contains(said, "handler_test.go") {
		t.Errorf("the log does not tell what happened, and where: %s", said)
	}
}

// One caller is one IPv4 address, however it is written, or one network of IPv6 that a
// subscriber holds whole.
func TestFailureLimiter_ByNetwork(t *testing.T) {
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
		var f failureLimiter
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
func TestFailureLimiter_Bounded(t *testing.T) {
	var f failureLimiter
	for n := range 3 * maxTrackedNetworks {
		f.allow(fmt.Sprintf("[2001:db8:%x:%x::1]:1", n>>16, n&0xffff))
		if len(f.limiters) > maxTrackedNetworks+1 {
			t.Fatalf("%d addresses are remembered", len(f.limiters))
		}
	}
}
