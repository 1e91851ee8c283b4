package harness

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

const runnerAdminKey = "an-admin-key-for-the-tests-01234567890"

// A gatewayRunner is the gateway as it is reached from outside, whichever process answers
// behind it. The log is of all of them.
type gatewayRunner struct {
	Front *Proxy
	Fault Fault // of the process behind it
	env   []string
	API   *Client
	log   LockedBuffer
}

func newGatewayRunner(t *testing.T, fault Fault) *gatewayRunner {
	t.Helper()
	front, err := NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	d := &gatewayRunner{Front: front, Fault: fault, API: NewClient("http://"+front.Addr(), runnerAdminKey, 2*time.Second)}
	d.env = []string{"HYDRAGATE_LISTEN=127.0.0.1:0", "HYDRAGATE_DATA_DIR=" + t.TempDir(), "HYDRAGATE_PUBLIC_URL=" + d.API.URL, "HYDRAGATE_ADMIN_KEY=" + runnerAdminKey, "HYDRAGATE_AGENT_ALLOW_PRIVATE=true"}
	return d
}

// Start runs a gateway until it listens, and makes the proxy lead to it. Settings given here take
// precedence.
func (d *gatewayRunner) Start(ctx context.Context, settings ...string) (*Process, error) {
	p, err := d.startUnrouted(ctx, settings...)
	if err == nil {
		d.Front.SetTargets(p.Addr)
	}
	return p, err
}

// startUnrouted is Start without a change of the proxy.
func (d *gatewayRunner) startUnrouted(ctx context.Context, settings ...string) (*Process, error) {
	cmd := exec.Command(d.Fault.Program(), "serve")
	cmd.Env = slices.Concat(os.Environ(), d.env, settings)
	return StartProcess(ctx, cmd, &d.log)
}
