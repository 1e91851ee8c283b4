package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

const runnerAdminKey = "an-admin-key-for-the-proofs-0123456789"

// A gatewayRunner is the gateway as it is reached from outside, whichever process answers
// behind it. The log is of all of them.
type gatewayRunner struct {
	Front  *Proxy
	URL    string
	Fault  Fault // of the process behind it
	env    []string
	Client *http.Client
	log    LockedBuffer
}

func newGatewayRunner(t *testing.T, fault Fault) *gatewayRunner {
	t.Helper()
	front, err := NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	d := &gatewayRunner{Front: front, URL: "http://" + front.Addr(), Fault: fault, Client: &http.Client{Timeout: 2 * time.Second}}
	d.env = []string{"HYDRAGATE_LISTEN=127.0.0.1:0", "HYDRAGATE_DATA_DIR=" + t.TempDir(), "HYDRAGATE_PUBLIC_URL=" + d.URL, "HYDRAGATE_ADMIN_KEY=" + runnerAdminKey, "HYDRAGATE_AGENT_ALLOW_PRIVATE=true"}
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

// callAPI calls the API once; a status of 0 says that there was no answer.
func (d *gatewayRunner) callAPI(ctx context.Context, method, path string, body any) (status int, answer []byte) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, method, d.URL+path, bytes.NewReader(b))
	if err != nil {
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+runnerAdminKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := d.Client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = res.Body.Close() }()
	answer, err = io.ReadAll(res.Body)
	if err != nil {
		return 0, nil
	}
	return res.StatusCode, answer
}
