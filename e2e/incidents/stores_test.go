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

// TestIncidents_Stores replays what went wrong at others between two processes, in
// the drivers of databases, and on the way out.
func TestIncidents_Stores(t *testing.T) {
	harness.ParallelUnlessFull(t)
	t.Run("Dovecot CVE-2026-27855: a code is used up for every process at once", func(t *testing.T) {
		harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
			p := h.CreateIdentity("700101")
			code := h.IssueCode(p)
			other := &claim.Service{Store: h.Store, Codes: h.Claims.Codes}
			if h.RedisURL != "" { // a process of its own has connections of its own
				client, err := rediscode.NewClient(h.RedisURL)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = client.Close() }()
				other.Codes = &rediscode.Store{Redis: client, Keys: app.ClaimKeys(h.Keys)}
			}
			first := h.SendText(p.ExternalID, p.ExternalID, "/claim "+code)
			h.ProcessMessages()
			h.Exec(`update identities set verified_at = null, role_override = null where id = $1`, p.IdentityID) // as if nobody remembered
			again := h.SendText(p.ExternalID, p.ExternalID, "/claim "+code)
			h.ProcessAll(h.NewWorker(other, h.Store))
			if h.Outcome(first) != "claimed" || h.Outcome(again) != "declined" || h.GrantCount(p.IdentityID) != 1 {
				t.Errorf("first %q, again %q, %d grants", h.Outcome(first), h.Outcome(again), h.GrantCount(p.IdentityID))
			}
		})
	})
	t.Run("Kratos: of fifty wrong codes at once five are compared", func(t *testing.T) {
		harness.ForEachStore(t, func(t *testing.T, h *harness.ClaimFixture) {
			p := h.CreateIdentity("700102")
			wrong := harness.WrongCode(h.IssueCode(p))
			counted := &harness.CountingCodeStore{CodeStore: h.Claims.Codes}
			if err := harness.GuessConcurrently(t.Context(), &claim.Service{Store: h.Store, Codes: counted}, 50, func() claim.Attempt { return h.NewAttempt(p, wrong) }); err != nil {
				t.Fatal(err)
			}
			if n := counted.Results[claim.Wrong]; n != claim.MaxTries {
				t.Errorf("%d were compared", n)
			}
		})
	})
	t.Run("generalbots #1420: a bot without a secret takes nothing", func(t *testing.T) {
		for name, secrets := range map[string]adapters.Credentials{"none": nil, "empty": {adapters.WebhookSecret: ""}} {
			ep := adapters.Endpoint{Channel: adapters.Telegram, Credentials: secrets}
			for _, header := range []string{"", "x"} {
				r := httptest.NewRequest("POST", "/hooks/telegram/"+uuid.NewString(), strings.NewReader(`{"update_id":1}`))
				r.Header.Set("X-Telegram-Bot-Api-Secret-Token", header)
				if _, err := (&telegram.Adapter{}).Receive(r, ep, ""); !errors.Is(err, adapters.ErrNoKey) {
					t.Errorf("secret %s, header %q: %v", name, header, err)
				}
			}
		}
	})
}

// TestIncidents_GoRedis1113 replays go-redis #1113, CVE-2025-29923: an answer is never somebody
// else's. It breaks off calls at random and looks whether any later answer belongs to an earlier
// question.
func TestIncidents_GoRedis1113(t *testing.T) {
	harness.ParallelUnlessFull(t)
	client, err := rediscode.NewClient(harness.TestRedisURL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	var broken, answered atomic.Int64
	for _, err := range harness.Concurrently(20, func(worker int) error {
		for n := range 500 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n%7)*50*time.Microsecond+20*time.Microsecond)
			if n%3 == 0 {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
			}
			word := fmt.Sprintf("%d-%d", worker, n)
			got, err := client.Echo(ctx, word).Result()
			cancel()
			switch {
			case err != nil:
				broken.Add(1)
			case got != word:
				return fmt.Errorf("asked for %s, answered %s", word, got)
			default:
				answered.Add(1)
			}
		}
		return nil
	}) {
		if err != nil {
			t.Error(err)
		}
	}
	if broken.Load() < 100 || answered.Load() < 1000 {
		t.Errorf("%d calls were broken off and %d answered: the test needs more of both", broken.Load(), answered.Load())
	}
}

// TestIncidents_Ech0GHSAR2x7427fRq69 replays ech0 GHSA-r2x7-427f-rq69, Capgo CVE-2026-56227: no
// private address is called, by whatever name. It counts who knocks at a server of this machine.
func TestIncidents_Ech0GHSAR2x7427fRq69(t *testing.T) {
	harness.ParallelUnlessFull(t)
	var knocks atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inner := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://169.254.169.254/latest/meta-data/")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	inner.Listener = countingListener{l, &knocks}
	inner.Start()
	defer inner.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	call := func(allowPrivate bool, host string) (int, error) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+host+":"+port+"/", strings.NewReader("{}"))
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
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1.2.3", "[::1]", "[::]", "127.0.0.1."} {
		if status, err := call(false, host); err == nil {
			t.Errorf("%s answers %d", host, status)
		}
	}
	if n := knocks.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
	if status, err := call(true, "127.0.0.1"); err != nil || status != http.StatusTemporaryRedirect || knocks.Load() != 1 {
		t.Errorf("where private addresses are allowed: %d %v, %d connections; want the redirect, not followed", status, err, knocks.Load())
	}
}

// A countingListener listener counts connections.
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

// TestIncidents_FixedVersions replays pgx GHSA-j38q-h3ph-jjpq, GHSA-95fj-3fxw-g62g,
// CVE-2026-33816, CVE-2024-27304, go-redis CVE-2025-29923, slack-go 0.35: the versions that
// mended it. It looks into go.mod: the drivers are not older than what mended them.
func TestIncidents_FixedVersions(t *testing.T) {
	harness.ParallelUnlessFull(t)
	b, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for module, least := range map[string][3]int{
		"github.com/jackc/pgx/v5": {5, 12, 0}, "github.com/redis/go-redis/v9": {9, 7, 3}, "github.com/slack-go/slack": {0, 35, 0}, "github.com/go-telegram/bot": {1, 24, 0},
	} {
		m := regexp.MustCompile(`(?m)^\s` + regexp.QuoteMeta(module) + ` v(\d+)\.(\d+)\.(\d+)`).FindStringSubmatch(string(b))
		if m == nil {
			t.Errorf("%s is not required", module)
			continue
		}
		var has [3]int
		for i := range has {
			has[i], _ = strconv.Atoi(m[i+1])
		}
		if fmt.Sprintf("%05d", has) < fmt.Sprintf("%05d", least) {
			t.Errorf("%s is %v, older than %v", module, has, least)
		}
	}
}
