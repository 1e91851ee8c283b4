package webhook

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"hydragate/adapters"
	"hydragate/gateway"
)

// Handler is where providers deliver: it finds the endpoint, lets the adapter check and
// read the request, has it stored, and answers in the provider's words. Nothing else
// happens inside the request.
type Handler struct {
	Adapters  map[adapters.Channel]adapters.Adapter
	Endpoints EndpointSource
	Inbox     Acceptor
	Log       *slog.Logger

	failures failureLimiter
}

// EndpointSource finds the endpoint a hook belongs to. Fresh looks past any cache, and
// gives the cached endpoint again when it was asked too often.
type EndpointSource interface {
	Endpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
	Refresh(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
}

// An Acceptor stores what was delivered, durably before it returns nil.
type Acceptor interface {
	Accept(ctx context.Context, ep adapters.Endpoint, in adapters.Inbound) error
}

// handleTimeout is how long a hook may take in all: below the shortest patience of a
// provider, and above what the inbox allows itself.
const handleTimeout = 4500 * time.Millisecond

// Mount adds the hooks to mux.
func (h *Handler) Mount(mux *http.ServeMux) {
	mux.Handle("/hooks/{channel}/{instance_id}", h)
	mux.Handle("/hooks/{channel}/{instance_id}/{hook}", h)
}

// ServeHTTP takes one delivery.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Request-Id", rand.Text())
	w.Header().Set("X-Content-Type-Options", "nosniff")
	defer h.recoverPanic(w, r)
	h.handle(w, r)
}

// recoverPanic answers for an adapter that panicked, so that the provider tries again.
func (h *Handler) recoverPanic(w http.ResponseWriter, r *http.Request) {
	if reason := recover(); reason != nil {
		h.Log.ErrorContext(r.Context(), "panic in a hook", "channel", r.PathValue("channel"), "instance", r.PathValue("instance_id"), "stack", string(debug.Stack()))
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (h *Handler) handle(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), handleTimeout)
	defer cancel()
	r = r.WithContext(ctx)
	channel, instance, hook := adapters.Channel(r.PathValue("channel")), r.PathValue("instance_id"), r.PathValue("hook")
	a := h.Adapters[channel]
	switch {
	case a == nil || uuid.Validate(instance) != nil:
		h.reject(w, r, channel, http.StatusNotFound)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		h.reject(w, r, channel, http.StatusMethodNotAllowed)
		return
	}
	ep, err := h.Endpoints.Endpoint(ctx, instance, channel)
	if err != nil {
		if errors.Is(err, gateway.ErrNoMasterKey) {
			h.Log.ErrorContext(ctx, "hook not taken", "channel", channel, "instance", instance, "error", err)
		}
		h.reject(w, r, channel, h.errorStatus(r, err))
		return
	}
	in, err := h.receive(r, a, ep, hook)
	if err != nil {
		h.reject(w, r, channel, h.errorStatus(r, err))
		return
	}
	err = h.Inbox.Accept(ctx, ep, in)
	if err != nil {
		requestsTotal.WithLabelValues(string(channel), "unstored").Inc()
		h.Log.ErrorContext(ctx, "hook not stored", "channel", channel, "instance", instance, "error", err)
	} else {
		requestsTotal.WithLabelValues(string(channel), "stored").Inc()
	}
	in.Ack(w, err)
}

// receive reads a request, and reads it again against the endpoint as stored when it
// does not fit the one in memory: another replica may just have changed the keys. An
// adapter leaves the body of what it found forged to be read again.
func (h *Handler) receive(r *http.Request, a adapters.Adapter, ep adapters.Endpoint, hook string) (adapters.Inbound, error) {
	in, err := a.Receive(r, ep, hook)
	if !errors.Is(err, adapters.ErrForged) && !errors.Is(err, adapters.ErrNoKey) {
		return in, err
	}
	fresh, ferr := h.Endpoints.Refresh(r.Context(), ep.InstanceID, ep.Channel)
	if ferr != nil || sameCredentials(ep, fresh) {
		return in, err
	}
	return a.Receive(r, fresh, hook)
}

func sameCredentials(a, b adapters.Endpoint) bool {
	return a.Address == b.Address && maps.Equal(a.Credentials, b.Credentials) && maps.Equal(a.Settings, b.Settings)
}

// errorStatus decides what a caller whose request is not taken is told: next to nothing.
func (h *Handler) errorStatus(r *http.Request, err error) int {
	switch {
	case errors.Is(err, adapters.ErrForged), errors.Is(err, adapters.ErrMalformed):
		if !h.failures.allow(r.RemoteAddr) {
			return http.StatusTooManyRequests
		}
		return http.StatusForbidden
	case errors.Is(err, gateway.ErrNoEndpoint), errors.Is(err, adapters.ErrUnknownWebhook):
		return http.StatusNotFound
	case errors.Is(err, adapters.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusServiceUnavailable
}

// A rejecter is an adapter whose provider must be refused in words of its own.
type rejecter interface {
	Refuse(w http.ResponseWriter, status int)
}

// reject answers without a body, or as the adapter wishes: Twilio would send a
// text/plain body to the person as an SMS.
func (h *Handler) reject(w http.ResponseWriter, r *http.Request, channel adapters.Channel, status int) {
	requestsTotal.WithLabelValues(h.channelLabel(channel), strconv.Itoa(status)).Inc()
	h.Log.InfoContext(r.Context(), "hook refused", "channel", h.channelLabel(channel), "status", status)
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Set("Connection", "close") // what is left of the body is not read
	if a, ok := h.Adapters[channel].(rejecter); ok {
		a.Refuse(w, status)
		return
	}
	w.WriteHeader(status)
}

func (h *Handler) channelLabel(channel adapters.Channel) string {
	if h.Adapters[channel] == nil {
		return "none"
	}
	return string(channel)
}

// failureLimiter limits how often one address may fail to prove itself. It only ever
// changes the answer of a request that failed: whoever signs rightly is never kept
// out by somebody else behind the same address.
type failureLimiter struct {
	mu       sync.Mutex
	limiters map[netip.Prefix]*rate.Limiter
}

const (
	failuresPerMinute  = 20
	maxTrackedNetworks = 10_000 // addresses remembered
)

func (f *failureLimiter) allow(remote string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.limiters == nil || len(f.limiters) > maxTrackedNetworks {
		f.limiters = map[netip.Prefix]*rate.Limiter{}
	}
	key := callerNetwork(remote)
	l := f.limiters[key]
	if l == nil {
		l = rate.NewLimiter(rate.Every(time.Minute/failuresPerMinute), failuresPerMinute)
		f.limiters[key] = l
	}
	return l.Allow()
}

// callerNetwork is what counts as one caller: an IPv4 address however written, or a /64 of
// IPv6, which one subscriber holds whole.
func callerNetwork(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits)
	return p
}
