//go:build unix

package harness

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
)

// replicas are the gateways that Start, AddReplica and RollingRestart started and that still run.
type replicas struct {
	mu   sync.Mutex
	all  []*Process
	next int
}

// acquire returns the next gateway, or nil if there is none. It is not stopped before InFlight.Done is
// called.
func (r *replicas) acquire() *Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) == 0 {
		return nil
	}
	r.next++
	p := r.all[r.next%len(r.all)]
	p.InFlight.Add(1)
	return p
}

// AddReplica starts another gateway.
func (h *Harness) AddReplica() *Process {
	h.T.Helper()
	var settings []string
	if h.options.Engine != SQLite {
		settings = []string{"HYDRAGATE_DATA_DIR=" + h.T.TempDir()}
	}
	p := h.Restart(settings...)
	h.changeReplicas(func(all []*Process) []*Process { return append(all, p) })
	return p
}

// StopOldestReplica stops the gateway that was started first, after its requests have ended. With
// Options.Replicas it gets no more requests before that.
func (h *Harness) StopOldestReplica() {
	h.T.Helper()
	var p *Process
	h.changeReplicas(func(all []*Process) []*Process {
		p = all[0]
		return all[1:]
	})
	p.InFlight.Wait()
	if err := p.Stop(); err != nil {
		h.T.Error(err)
	}
}

// RollingRestart replaces the gateways one after the other with gateways that have the current
// h.Settings.
func (h *Harness) RollingRestart() {
	h.T.Helper()
	for range len(h.Replicas()) {
		h.StopOldestReplica()
		h.AddReplica()
	}
}

// Replicas returns the gateways, the oldest first, except those that were started by Restart or
// StartReplica.
func (h *Harness) Replicas() []*Process {
	h.replicas.mu.Lock()
	defer h.replicas.mu.Unlock()
	return slices.Clone(h.replicas.all)
}

// changeReplicas changes the list of gateways, and routes the requests to them.
func (h *Harness) changeReplicas(change func([]*Process) []*Process) {
	h.replicas.mu.Lock()
	defer h.replicas.mu.Unlock()
	h.replicas.all = change(slices.Clone(h.replicas.all))
	var addrs []string
	for _, p := range h.replicas.all {
		addrs = append(addrs, p.Addr)
	}
	h.Front.SetTargets(addrs...)
}

// A balancer sends requests for Front to the gateways in turn.
type balancer struct {
	*Harness
	http.RoundTripper
}

// RoundTrip sends a request to the next gateway. The request ends when the body of the response is
// closed.
func (b balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != b.Front.Addr() {
		return b.RoundTripper.RoundTrip(r)
	}
	p := b.replicas.acquire()
	if p == nil {
		return nil, errors.New("no gateway is running")
	}
	r = r.Clone(r.Context())
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	r.URL.Host = p.Addr
	res, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		p.InFlight.Done()
		return nil, err
	}
	res.Body = trackedBody{res.Body, sync.OnceFunc(p.InFlight.Done)}
	return res, nil
}

type trackedBody struct {
	io.ReadCloser
	closed func()
}

func (b trackedBody) Close() error {
	defer b.closed()
	return b.ReadCloser.Close()
}
