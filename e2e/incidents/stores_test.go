package incidents

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/adapters/telegram"
	"hydragate/claim"
	"hydragate/claim/rediscode"
	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/gateway/delivery"
)

// TestIncidents_Stores replays incidents of other products that involve several processes,
// database drivers or missing credentials.
func TestIncidents_Stores(t *testing.T) {
	harness.ParallelUnlessFull(t)
	t.Run("Dovecot CVE-2026-27855: a redeemed code is invalid in every process", func(t *testing.T) {
		harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
			p := h.CreateIdentity("700101")
			code := h.IssueCode(p)
			other := &claim.Service{Store: h.Store, Codes: h.Claims.Codes}
			if h.RedisURL != "" { // another process has its own connections
				client, err := rediscode.NewClient(h.RedisURL)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = client.Close() }()
				other.Codes = &rediscode.Store{Redis: client, Keys: app.ClaimKeys(h.Keys)}
			}
			first := h.SendText(p.ExternalID, p.ExternalID, "/claim "+code)
			h.ProcessMessages()
			// Undo the verification, so that only the code store knows that the code is used.
			h.Exec(`update identities set verified_at = null, role_override = null where id = $1`, p.IdentityID)
			again := h.SendText(p.ExternalID, p.ExternalID, "/claim "+code)
			h.ProcessAll(h.NewWorker(other, h.Store))
			got := []any{h.Outcome(first), h.Outcome(again), h.GrantCount(p.IdentityID)}
			if want := []any{"claimed", "declined", 1}; !slices.Equal(got, want) {
				t.Errorf("first outcome, second outcome, number of grants = %v, want %v", got, want)
			}
		})
	})
	t.Run("Kratos: five of fifty concurrent wrong codes are compared", func(t *testing.T) {
		harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
			p := h.CreateIdentity("700102")
			wrong := harness.WrongCode(h.IssueCode(p))
			counted := &harness.CountingCodeStore{CodeStore: h.Claims.Codes}
			service := &claim.Service{Store: h.Store, Codes: counted}
			err := harness.GuessConcurrently(t.Context(), service, 50, func() claim.Attempt { return h.NewAttempt(p, wrong) })
			if err != nil {
				t.Fatal(err)
			}
			if got := counted.Results[claim.Wrong]; got != claim.MaxTries {
				t.Errorf("compared codes = %d, want %d", got, claim.MaxTries)
			}
		})
	})
	t.Run("generalbots #1420: a bot without a webhook secret accepts no request", func(t *testing.T) {
		for name, secrets := range map[string]adapters.Credentials{"none": nil, "empty": {adapters.WebhookSecret: ""}} {
			ep := adapters.Endpoint{Channel: adapters.Telegram, Credentials: secrets}
			for _, header := range []string{"", "x"} {
				body := strings.NewReader(`{"update_id":1}`)
				r := httptest.NewRequest(http.MethodPost, "/hooks/telegram/"+uuid.NewString(), body)
				r.Header.Set("X-Telegram-Bot-Api-Secret-Token", header)
				if _, err := (&telegram.Adapter{}).Receive(r, ep, ""); !errors.Is(err, adapters.ErrNoKey) {
					t.Errorf("Receive with secret %s and header %q = %v, want %v", name, header, err, adapters.ErrNoKey)
				}
			}
		}
	})
}

// TestIncidents_GoRedis1113 replays go-redis #1113 and CVE-2025-29923. It cancels calls at random
// and checks that no later call receives the response to an earlier one.
func TestIncidents_GoRedis1113(t *testing.T) {
	harness.ParallelUnlessFull(t)
	client, err := rediscode.NewClient(harness.TestRedisURL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	var failed, succeeded atomic.Int64
	for _, err := range harness.Concurrently(20, func(worker int) error {
		for n := range harness.Scaled(200, 500) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n%7)*50*time.Microsecond+20*time.Microsecond)
			if n%3 == 0 {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
			}
			want := fmt.Sprintf("%d-%d", worker, n)
			got, err := client.Echo(ctx, want).Result()
			cancel()
			switch {
			case err != nil:
				failed.Add(1)
			case got != want:
				return fmt.Errorf("Echo(%q) = %q", want, got)
			default:
				succeeded.Add(1)
			}
		}
		return nil
	}) {
		if err != nil {
			t.Error(err)
		}
	}
	if failed.Load() < 100 || succeeded.Load() < 100 {
		t.Errorf("canceled calls = %d, successful calls = %d, want at least 100 of each", failed.Load(), succeeded.Load())
	}
}

// TestIncidents_Ech0GHSAR2x7427fRq69 replays ech0 GHSA-r2x7-427f-rq69 and Capgo CVE-2026-56227. It
// checks that the client connects to no private address, however the address is written, by
// counting the connections to a local server.
func TestIncidents_Ech0GHSAR2x7427fRq69(t *testing.T) {
	harness.ParallelUnlessFull(t)
	var accepted atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://169.254.169.254/latest/meta-data/")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	server.Listener = countingListener{l, &accepted}
	server.Start()
	defer server.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	call := func(allowPrivate bool, host string) (int, error) {
		url := "http://" + host + ":" + port + "/"
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
		if err != nil {
			return 0, err
		}
		resp, err := delivery.NewClient(allowPrivate).Do(req)
		if err != nil {
			return 0, err
		}
		_ = resp.Body.Close()
		return resp.StatusCode, nil
	}
	hosts := []string{
		"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1.2.3", "[::1]", "[::]", "127.0.0.1.",
	}
	for _, host := range hosts {
		if status, err := call(false, host); err == nil {
			t.Errorf("POST to %s = %d, want an error", host, status)
		}
	}
	if n := accepted.Load(); n != 0 {
		t.Errorf("connections to private addresses = %d, want 0", n)
	}
	status, err := call(true, "127.0.0.1")
	if err != nil || status != http.StatusTemporaryRedirect || accepted.Load() != 1 {
		t.Errorf("POST with private addresses allowed = %d, %v with %d connections, want the redirect, not followed",
			status, err, accepted.Load())
	}
}

// A countingListener counts the accepted connections.
type countingListener struct {
	net.Listener
	accepted *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return c, err
}

// TestIncidents_FixedVersions covers pgx GHSA-j38q-h3ph-jjpq, GHSA-95fj-3fxw-g62g, CVE-2026-33816
// and CVE-2024-27304, go-redis CVE-2025-29923 and slack-go 0.35. It checks that go.mod requires
// versions with the fixes.
func TestIncidents_FixedVersions(t *testing.T) {
	harness.ParallelUnlessFull(t)
	b, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for module, minimum := range map[string][3]int{
		"github.com/jackc/pgx/v5":      {5, 12, 0},
		"github.com/redis/go-redis/v9": {9, 7, 3},
		"github.com/slack-go/slack":    {0, 35, 0},
		"github.com/go-telegram/bot":   {1, 24, 0},
	} {
		pattern := regexp.MustCompile(`(?m)^\s` + regexp.QuoteMeta(module) + ` v(\d+)\.(\d+)\.(\d+)`)
		m := pattern.FindStringSubmatch(string(b))
		if m == nil {
			t.Errorf("go.mod does not require %s", module)
			continue
		}
		var version [3]int
		for i := range version {
			version[i], _ = strconv.Atoi(m[i+1])
		}
		if fmt.Sprintf("%05d", version) < fmt.Sprintf("%05d", minimum) {
			t.Errorf("%s = %v, want at least %v", module, version, minimum)
		}
	}
}
