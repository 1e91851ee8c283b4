// Package httpapi serves the native HTTP API of the gateway: authentication, rate limits,
// idempotency, the OpenAPI document, health checks, and one file per resource of /v1. It maps
// requests and responses; decisions are made by the packages behind the interfaces of API. Other
// surfaces, such as package userapi, are passed in as API.Surfaces and API.Mounts.
package httpapi

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// A ClaimService issues claim codes and invites.
type ClaimService interface {
	// IssueCode issues a claim code for an identity. It returns identity.ErrNotFound,
	// identity.ErrAlreadyVerified, a *claim.TooManyCodesError, or claim.ErrCodeStoreUnavailable.
	IssueCode(ctx context.Context, k identity.Key, by identity.Actor) (claim.IssuedCode, error)
	// IssueInvite issues an invite. In addition to the errors of IssueCode it returns
	// identity.ErrNoInstance, claim.ErrInvitesDisabled, claim.ErrTooManyInvites,
	// claim.ErrOwnerExcluded, or claim.ErrOwnerConfirmation.
	IssueInvite(ctx context.Context, i claim.Invite, by identity.Actor) (issued claim.Invite, code string, err error)
}

// An EndpointManager sets up the endpoints of instances with their providers. If a provider rejects
// the set-up, the error is a *adapters.SetupError; if it does not respond, the returned state has
// status error.
type EndpointManager interface {
	Configure(ctx context.Context, cfg gateway.EndpointConfig) (gateway.EndpointState, error)
	EndpointState(ctx context.Context, tenant, instance string, channel adapters.Channel) (gateway.EndpointState, error)
	EndpointStates(ctx context.Context, tenant, instance string) ([]gateway.EndpointState, error)
	Remove(ctx context.Context, tenant, instance string, channel adapters.Channel, by identity.Actor) error
}

// Stores hold the resources of the API. All rows belong to a tenant: a row of another tenant is not
// found. Lists are ordered by ID, which is the order of creation, start after the given ID (from
// the beginning if it is empty), and have at most limit rows. Every change writes its audit event,
// with its actor, in the same transaction.
//
// A created resource gets a new ID unless it comes with one. If a resource with that ID exists, the
// request is a repetition whose first response was lost: the resource stays as it is, and secrets
// that were never disclosed are replaced by the given ones.
type Stores struct {
	Health      HealthStore
	Auth        AuthStore
	Keys        KeyStore
	Customers   CustomerStore
	Merges      MergeStore
	Exports     ExportStore
	Identities  IdentityStore
	Senders     SenderStore
	Invites     InviteStore
	Codes       CodeStore
	Instances   InstanceStore
	Tenants     TenantStore
	Secrets     SecretStore
	Audit       AuditStore
	Idempotency IdempotencyStore
}

// A Mux registers handlers by pattern, as http.ServeMux does.
type Mux interface {
	Handle(pattern string, handler http.Handler)
}

// A Mount adds handlers that are not operations of the API, such as those of a web UI. They write
// their own error responses. Request IDs, the request log, metrics and panic recovery apply to them
// as to the API.
type Mount struct {
	// Name identifies the mount in the request log.
	Name string
	// Register adds the handlers. The pattern "/" is reserved.
	Register func(mux Mux)
	// Header is set on every response before the handler runs. It replaces headers that the API
	// sets by default, such as its Content-Security-Policy, which allows nothing.
	Header http.Header
}

func (m Mount) register(mux *http.ServeMux) { m.Register(mountMux{m, mux}) }

// mountMux sets the header of a mount on the responses of its handlers.
type mountMux struct {
	mount Mount
	mux   *http.ServeMux
}

// Handle implements Mux.
func (m mountMux) Handle(pattern string, handler http.Handler) {
	m.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		operation.RequestInfoOf(r.Context()).Mount = m.mount.Name
		maps.Copy(w.Header(), m.mount.Header)
		handler.ServeHTTP(w, r)
	})
}

// An API is the HTTP API. Stores, Endpoints, Claims and Confirmer must be set; the zero values of the other
// fields are usable. An API must not be copied, and its fields must not change after the call of
// Handler.
type API struct {
	Stores    Stores
	Endpoints EndpointManager
	Claims    ClaimService
	Confirmer InviteConfirmer

	// Staff verifies the tokens that StaffIssuer issues to members of staff. If nil, only API keys
	// authenticate.
	Staff       StaffVerifier
	StaffIssuer string

	// Surfaces are APIs in other formats, such as those of packages userapi and contactapi.
	Surfaces []*operation.Surface

	// CodeDropper drops the claim codes of deleted identities. If nil, the codes expire by
	// themselves.
	CodeDropper CodeDropper

	Log     *slog.Logger         // default: discard
	Now     func() time.Time     // default: time.Now
	Metrics *prometheus.Registry // default: a new registry

	Version   string
	PublicURL string      // server URL in the OpenAPI document; optional
	Events    []EventType // webhooks in the OpenAPI document

	// AllowPrivateAgentURLs allows agent URLs over http and on private addresses.
	AllowPrivateAgentURLs bool

	// Ready reports an error if another dependency, such as Redis, is unavailable. Optional.
	Ready func(ctx context.Context) error
	// Overloaded reports whether backpressure is applied to providers. Optional.
	Overloaded func() bool

	// ReplicaConflict reports whether another gateway uses the same database with other claim codes.
	// Optional.
	ReplicaConflict func() bool
	// HideMetrics leaves /metrics to AdminHandler.
	HideMetrics bool

	// Mounts add handlers that are not operations of the API.
	Mounts []Mount

	// Limiter limits the request rate of each API key. Surfaces that authenticate callers
	// themselves should share it. The default is a limiter with its default rate.
	Limiter *operation.RateLimiter
	// Failures limits failed authentications of each client network, and Proxies are believed about
	// the address of the client. Surfaces that authenticate callers themselves should share Failures.
	Failures *operation.FailureLimiter
	Proxies  operation.Proxies

	replayWait time.Duration // how long a repeated request waits for the response of the first
	draining   atomic.Bool
	keys       *operation.KeyLookup[identity.APIKey]
	staffNames sync.Map // names stored by this process: map[string]string, by subject
	metrics    *metrics
	responder  *operation.Responder
	reader     *operation.Reader
	routesByID map[string]*operation.Route
}

// Drain makes /readyz respond with 503, so that load balancers send no new requests.
func (a *API) Drain() { a.draining.Store(true) }

// Handler returns the handler of the API. It must be called once.
func (a *API) Handler() http.Handler {
	a.setDefaults()
	mux := http.NewServeMux()
	doc := a.register(humago.NewAdapter(mux, ""))
	a.mountDocs(mux, doc)
	a.mountHealth(mux)
	a.mountSurfaces(mux)
	for _, mount := range a.Mounts {
		mount.register(mux)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { handleNoRoute(mux, w, r) })
	return a.middleware(mux)
}

func (a *API) setDefaults() {
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	if a.Now == nil {
		a.Now = time.Now
	}
	if a.Metrics == nil {
		a.Metrics = prometheus.NewRegistry()
	}
	if a.Limiter == nil {
		a.Limiter = &operation.RateLimiter{Now: a.Now}
	}
	if a.Failures == nil {
		a.Failures = &operation.FailureLimiter{Now: a.Now}
	}
	a.keys = &operation.KeyLookup[identity.APIKey]{
		Fetch: a.Stores.Auth.APIKeys, Fetched: a.touchKey, TTL: keyCacheTTL, Failures: a.Failures, Proxies: a.Proxies,
		Now: a.Now,
	}
	if a.replayWait == 0 {
		a.replayWait = maxReplayWait
	}
	a.metrics = newMetrics(a.Metrics)
	a.responder = &operation.Responder{Log: a.Log}
	a.reader = &operation.Reader{Checker: operation.NewChecker(a.AllowPrivateAgentURLs)}
}

// handleNoRoute responds to requests that match no route: with 405 if another method would match,
// else with 404.
func handleNoRoute(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	noRouteProblem(mux, r).Write(w)
}

func noRouteProblem(mux *http.ServeMux, r *http.Request) *fastapi.Problem {
	var allowed []string
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); strings.HasPrefix(pattern, method+" ") {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		return fastapi.StatusProblem(http.StatusNotFound)
	}
	p := fastapi.StatusProblem(http.StatusMethodNotAllowed)
	p.Header = http.Header{"Allow": {strings.Join(allowed, ", ")}}
	return p
}

// operationMiddleware calls the middleware of the surface of the operation.
func (a *API) operationMiddleware(ctx huma.Context, next func(huma.Context)) {
	if to := a.routesByID[ctx.Operation().OperationID]; to.Surface != nil {
		a.surfaceMiddleware(to, ctx, next)
		return
	}
	a.nativeMiddleware(ctx, next)
}

// surfaceMiddleware authorizes and checks requests to operations of a surface.
func (a *API) surfaceMiddleware(to *operation.Route, ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	w.Header().Set("Cache-Control", "no-store")
	ctx = huma.WithContext(ctx, operation.WithSurface(ctx.Context(), to.Surface))
	authorize := to.Surface.Authorize
	if authorize == nil {
		authorize = a.authorize
	}
	if err := authorize(to, r); err != nil {
		a.responder.ProblemFor(ctx.Context(), err).Write(w)
		return
	}
	in := &operation.RequestContext{BaseContext: ctx, Values: map[string]string{}}
	if err := a.reader.Read(to, r, ctx.Operation(), in); err != nil {
		a.responder.ProblemFor(ctx.Context(), err).Write(w)
		return
	}
	next(in)
}

// surfaceRoutes returns the routes of all surfaces.
func (a *API) surfaceRoutes() []*operation.Route {
	var all []*operation.Route
	for _, s := range a.Surfaces {
		for _, to := range s.Routes {
			to.Surface = s
		}
		all = append(all, s.Routes...)
	}
	return all
}

// mountSurfaces responds to requests below the prefixes of a surface that match no route, in the
// format of the surface.
func (a *API) mountSurfaces(mux *http.ServeMux) {
	for _, s := range a.Surfaces {
		for _, prefix := range s.Prefixes {
			mux.HandleFunc(prefix, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "no-store")
				s.AdaptProblem(noRouteProblem(mux, r)).Write(w)
			})
		}
	}
}

// surfaceForPath returns the surface that determines the format of responses for a path, or nil for
// the native API.
func (a *API) surfaceForPath(path string) *operation.Surface {
	for _, s := range a.Surfaces {
		if slices.ContainsFunc(s.Prefixes, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
			return s
		}
	}
	return nil
}

// describeSurfaces adds the error schemas, tags and security schemes of the surfaces to the
// document.
func (a *API) describeSurfaces(doc *huma.OpenAPI) {
	for _, s := range a.Surfaces {
		doc.Components.Schemas.Map()[s.ErrorSchema] = s.Schema
		s.Descriptions.Describe(doc.Components.Schemas.Map())
		maps.Copy(doc.Components.SecuritySchemes, s.SecuritySchemes)
		doc.Tags = append(doc.Tags, s.Tag)
	}
}
