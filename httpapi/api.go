package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"hydragate/adapters"
	"hydragate/claim"
	"hydragate/gateway"
	"hydragate/httpapi/fastapi"
	"hydragate/identity"
)

// A ClaimService issues claim codes and invites. It answers identity.ErrNotFound,
// identity.ErrVerified, a *claim.TooMany or claim.ErrNoProofs when it does not; for
// invites also identity.ErrNoInstance, claim.ErrNotInvited or claim.ErrInvitesFull.
type ClaimService interface {
	IssueCode(ctx context.Context, tenant, customer, identityID string, by identity.Actor) (claim.IssuedCode, error)
	IssueInvite(ctx context.Context, i claim.Invite, by identity.Actor) (issued claim.Invite, code string, err error)
}

// EndpointManager sets up the endpoints of instances with their providers. What a provider
// refuses is a *adapters.SetupError; what it does not answer is a Seat in error.
type EndpointManager interface {
	Configure(ctx context.Context, cfg gateway.EndpointConfig) (gateway.EndpointState, error)
	EndpointState(ctx context.Context, tenant, instance string, channel adapters.Channel) (gateway.EndpointState, error)
	EndpointStates(ctx context.Context, tenant, instance string) ([]gateway.EndpointState, error)
	Remove(ctx context.Context, tenant, instance string, channel adapters.Channel, by identity.Actor) error
}

// An API answers HTTP. Store, Channels and Desk must be set; everything else has a
// zero value that works. It must not be copied, and its fields must not change once
// Handler was called.
type API struct {
	Store     Store
	Endpoints EndpointManager
	Claims    ClaimService

	// Staff recognises people by tokens of the issuer named; nil: API keys alone.
	Staff       StaffVerifier
	StaffIssuer string

	Users    Users    // nil: conversation users are not offered
	Contacts Contacts // nil: contact identities are not offered

	CodeDropper CodeDropper // nil: proofs of deleted identities are left to expire

	// Instructions says in one sentence what staff tells the customer. ok is false
	// when the code has no working endpoint of its own; nil: a plain sentence.
	Instructions func(issued claim.IssuedCode, seat gateway.EndpointState, ok bool) string

	Log     *slog.Logger         // nil: silent
	Now     func() time.Time     // nil: time.Now
	Metrics *prometheus.Registry // nil: one of its own

	Version   string
	PublicURL string      // origin shown in the OpenAPI document; may be empty
	Events    []EventType // that agent runtimes are posted, for the same

	// AllowPrivateAgents allows agent URLs over http and on private addresses.
	AllowPrivateAgentURLs bool

	// Ready checks what else must work before calls are taken, such as Redis.
	Ready func(ctx context.Context) error
	// Busy reports whether providers are asked to wait; nil: never.
	Overloaded func() bool

	// Mounts add other surfaces to the mux, such as Hooks.Mount. They answer in their
	// own shapes; request id, log line, metrics and panics are covered here. The
	// pattern "/" is taken, for what nobody takes.
	Mounts []func(mux *http.ServeMux)

	// Rate and Burst limit the calls of one API key, in calls a second; zero: 100
	// and 200.
	Rate  float64
	Burst int

	replayWait time.Duration // how long a repeated call waits for the first
	draining   atomic.Bool
	keys       keyCache
	limiters   rateLimiters
	requests   *requestMetrics
	checker    *fastapi.Checker
	routesByID map[string]*route
}

// Drain makes /readyz answer 503 from now on, so that no new work is sent here.
func (a *API) Drain() { a.draining.Store(true) }

// Handler puts the surface together. Call it once.
func (a *API) Handler() http.Handler {
	a.setDefaults()
	mux := http.NewServeMux()
	doc := a.register(humago.NewAdapter(mux, ""))
	a.mountDocs(mux, doc)
	a.mountHealth(mux)
	a.mountSurfaces(mux)
	for _, mount := range a.Mounts {
		mount(mux)
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
	if a.Instructions == nil {
		a.Instructions = defaultInstructions
	}
	if a.Rate == 0 {
		a.Rate = 100
	}
	if a.Burst == 0 {
		a.Burst = 200
	}
	if a.replayWait == 0 {
		a.replayWait = maxReplayWait
	}
	a.requests = newRequestMetrics(a.Metrics)
}

// handleNoRoute answers what no route takes: 405 when another method would be taken,
// else 404.
func handleNoRoute(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	noRouteProblem(mux, r).Write(w)
}

func noRouteProblem(mux *http.ServeMux, r *http.Request) *fastapi.Problem {
	var allow []string
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); strings.HasPrefix(pattern, method+" ") {
			allow = append(allow, method)
		}
	}
	if len(allow) == 0 {
		return fastapi.StatusProblem(http.StatusNotFound)
	}
	p := fastapi.StatusProblem(http.StatusMethodNotAllowed)
	p.Header = http.Header{"Allow": {strings.Join(allow, ", ")}}
	return p
}

func defaultInstructions(issued claim.IssuedCode, _ gateway.EndpointState, _ bool) string {
	return "Ask the customer to send the bot this message: /claim " + issued.Code[:3] + "-" + issued.Code[3:]
}
