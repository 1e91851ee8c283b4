// Package webhook receives the webhooks of channel providers, authenticates them with the adapter
// of the channel, and stores their messages. It does not process messages. Its responses have the
// format that the provider expects.
package webhook

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"hydragate/adapters"
	"hydragate/gateway"
	"hydragate/httpapi/operation"
)

// A Handler handles the webhooks of all channels. It looks up the endpoint, lets the adapter
// authenticate and decode the request, stores its messages, and acknowledges it.
type Handler struct {
	Adapters  map[adapters.Channel]adapters.Adapter
	Endpoints EndpointSource
	Inbox     Acceptor
	Notices   Notifier // optional
	Log       *slog.Logger
	Metrics   *Metrics // optional

	// Proxies are believed about the address of the client.
	Proxies operation.Proxies

	failures operation.FailureLimiter
}

// An EndpointSource looks up endpoints. Its methods return gateway.ErrNoEndpoint if there is none.
type EndpointSource interface {
	// Endpoint returns the endpoint of a channel, which may come from a cache.
	Endpoint(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
	// Refresh bypasses the cache, unless it is called too often.
	Refresh(ctx context.Context, instance string, channel adapters.Channel) (adapters.Endpoint, error)
}

// An Acceptor stores the messages of webhooks.
type Acceptor interface {
	// Accept returns nil when the messages are stored durably.
	Accept(ctx context.Context, ep adapters.Endpoint, in adapters.Inbound) error
}

// A Notifier records what staff should know about endpoints.
type Notifier interface {
	Notify(ctx context.Context, ep adapters.Endpoint, n gateway.Notice)
}

// handleTimeout is the maximum duration of a request. It is below the shortest timeout of a
// provider, and above that of the inbox.
const handleTimeout = 4500 * time.Millisecond

// Mount registers the handler for all webhook paths.
func (h *Handler) Mount(mux *http.ServeMux) {
	mux.Handle("/hooks/{channel}/{instance_id}", h)
	mux.Handle("/hooks/{channel}/{instance_id}/{hook}", h)
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Request-Id", rand.Text())
	w.Header().Set("X-Content-Type-Options", "nosniff")
	// After a panic the provider must retry; the middleware of the API recovers it.
	operation.RequestInfoOf(r.Context()).PanicStatus = http.StatusServiceUnavailable
	h.handle(w, r)
}

func (h *Handler) handle(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), handleTimeout)
	defer cancel()
	r = r.WithContext(ctx)
	channel, instance, hook := adapters.Channel(r.PathValue("channel")), r.PathValue("instance_id"), r.PathValue("hook")
	ref := refusal{channel: channel, instance: instance}
	a := h.Adapters[channel]
	switch {
	case a == nil:
		h.reject(w, r, ref.with(http.StatusNotFound, "unknown_channel"))
		return
	case uuid.Validate(instance) != nil:
		h.reject(w, r, ref.with(http.StatusNotFound, "unknown_instance"))
		return
	case isProbe(a, r):
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		h.reject(w, r, ref.with(http.StatusMethodNotAllowed, "method"))
		return
	}
	ep, err := h.Endpoints.Endpoint(ctx, instance, channel)
	if err != nil {
		ref.err = err
		h.reject(w, r, ref.with(h.errorStatus(r, err), lookupReason(err)))
		return
	}
	ref.endpoint, ref.url = ep, ep.WebhookURL
	if hook != "" {
		ref.url += "/" + hook
	}
	in, err := h.receive(r, a, ep, hook)
	if err != nil {
		h.reject(w, r, ref.with(h.errorStatus(r, err), adapters.RefusalReason(err)))
		return
	}
	h.notify(ctx, ep, in.Notices)
	err = h.Inbox.Accept(ctx, ep, in)
	if err != nil {
		h.Log.ErrorContext(ctx, "store webhook failed", "channel", channel, "instance", instance, "error", err)
	}
	h.Metrics.recordAccepted(channel, err)
	in.Ack(w, err)
}

// notify passes on what the provider reports about an endpoint itself.
func (h *Handler) notify(ctx context.Context, ep adapters.Endpoint, notices []adapters.ProviderNotice) {
	for _, n := range notices {
		h.Log.WarnContext(ctx, "provider notice", "channel", ep.Channel, "instance", ep.InstanceID,
			"reason", n.Reason, "detail", n.Detail)
		if h.Notices != nil {
			h.Notices.Notify(ctx, ep, gateway.Notice{Kind: gateway.ProviderNotice, Reason: n.Reason, Detail: n.Detail})
		}
	}
}

// lookupReason returns the reason for a request whose endpoint could not be read.
func lookupReason(err error) string {
	switch {
	case errors.Is(err, gateway.ErrNoEndpoint):
		return "unknown_instance"
	case errors.Is(err, gateway.ErrNoMasterKey):
		return "no_key"
	}
	return "unavailable"
}

// receive authenticates and decodes a request. If authentication fails, it tries again with the
// stored endpoint if that differs from the cached one, because another replica may have changed the
// credentials. Adapters restore the body of requests that they reject.
func (h *Handler) receive(
	r *http.Request, a adapters.Adapter, ep adapters.Endpoint, hook string,
) (adapters.Inbound, error) {
	in, err := a.Receive(r, ep, hook)
	if !errors.Is(err, adapters.ErrForged) && !errors.Is(err, adapters.ErrNoKey) {
		return in, err
	}
	stored, lookupErr := h.Endpoints.Refresh(r.Context(), ep.InstanceID, ep.Channel)
	if lookupErr != nil || sameCredentials(ep, stored) {
		return in, err
	}
	return a.Receive(r, stored, hook)
}

func sameCredentials(a, b adapters.Endpoint) bool {
	return a.Address == b.Address && maps.Equal(a.Credentials, b.Credentials) && maps.Equal(a.Settings, b.Settings) &&
		a.Pool.ID == b.Pool.ID && slices.Equal(a.Pool.Excluded, b.Pool.Excluded)
}

// errorStatus returns the status for a rejected request. A status is all that the client learns.
func (h *Handler) errorStatus(r *http.Request, err error) int {
	switch {
	case errors.Is(err, adapters.ErrForged), errors.Is(err, adapters.ErrMalformed):
		if !h.failures.Take(h.Proxies.ClientNetwork(r)) {
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

// A prober is an adapter of a provider that sometimes asks whether a webhook can be reached. The answer
// is an empty response.
type prober interface {
	IsProbe(r *http.Request) bool
}

func isProbe(a adapters.Adapter, r *http.Request) bool {
	p, ok := a.(prober)
	return ok && p.IsProbe(r)
}

// A rejecter is an adapter that writes the response to rejected requests itself.
type rejecter interface {
	Refuse(w http.ResponseWriter, status int)
}

// A refusal is a request that is rejected.
type refusal struct {
	channel  adapters.Channel
	instance string
	endpoint adapters.Endpoint // zero if there is none
	url      string            // of the webhook as it is configured, which signatures cover
	status   int
	reason   string
	err      error // that an operator must correct, or nil
}

func (f refusal) with(status int, reason string) refusal {
	f.status, f.reason = status, reason
	return f
}

// reject rejects a request without a body, or as the adapter requires. Twilio would send a
// text/plain body to the person as an SMS. Requests that anyone can make never change an endpoint, but
// staff see the cause.
func (h *Handler) reject(w http.ResponseWriter, r *http.Request, f refusal) {
	channel, instance := h.channelLabel(f.channel), f.endpoint.InstanceID
	h.Metrics.recordRejected(channel, instance, f.status, f.reason)
	level, attrs := slog.LevelInfo, []any{
		"channel", channel, "instance", f.instance, "status", f.status, "reason", f.reason, "url", f.url,
		"request_id", w.Header().Get("X-Request-Id"),
	}
	if errors.Is(f.err, gateway.ErrNoMasterKey) {
		level, attrs = slog.LevelError, append(attrs, "error", f.err)
	}
	h.Log.Log(r.Context(), level, "webhook rejected", attrs...)
	if f.endpoint.ID != "" && f.status/100 == 4 && h.Notices != nil {
		h.Notices.Notify(r.Context(), f.endpoint, gateway.Notice{
			Kind: gateway.WebhookRefused, Reason: f.reason,
			Detail: "checked against " + f.url + ", request " + w.Header().Get("X-Request-Id"),
		})
	}
	if f.status == http.StatusServiceUnavailable || f.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Set("Connection", "close") // the rest of the body is not read
	if a, ok := h.Adapters[f.channel].(rejecter); ok {
		a.Refuse(w, f.status)
		return
	}
	w.WriteHeader(f.status)
}

// channelLabel returns the channel, or "none" if it does not exist, so that the label values are a
// closed set.
func (h *Handler) channelLabel(channel adapters.Channel) string {
	if h.Adapters[channel] == nil {
		return "none"
	}
	return string(channel)
}
