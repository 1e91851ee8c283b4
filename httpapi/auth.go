package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// AuthStore looks up API keys.
type AuthStore interface {
	// APIKeys returns the keys whose tokens have the given hashes, by hash. The keys may be expired
	// or revoked.
	APIKeys(ctx context.Context, hashes []string) (map[string]identity.APIKey, error)
	// TouchAPIKey records that a key was used.
	TouchAPIKey(ctx context.Context, tenant, id string, at time.Time) error
	// SaveActorName stores the name of a member of staff for the audit log.
	SaveActorName(ctx context.Context, tenant string, actor identity.Actor, name string) error
}

// keyCacheTTL is how long a revoked key may still be accepted.
const keyCacheTTL = 2 * time.Second

// authenticate returns the API key of a request, or a key that stands for the member of staff. The
// response does not depend on what is wrong with the token.
func (a *API) authenticate(r *http.Request) (identity.APIKey, error) {
	token, ok := requestToken(r.Header)
	if !ok {
		return identity.APIKey{}, fastapi.NotAuthenticated()
	}
	rejected := error(fastapi.NotAuthenticated())
	if a.isStaffToken(r.Header, token) {
		key, err := a.authenticateStaff(r.Context(), token)
		if err == nil {
			return key, nil
		}
		rejected = err // an API key may look like a staff token
	}
	if len(token) > operation.MaxTokenBytes {
		return identity.APIKey{}, rejected
	}
	key, err := a.keys.Get(r, identity.HashToken(token))
	if errors.Is(err, identity.ErrNotFound) || err == nil && !key.IsLive(a.Now()) {
		return identity.APIKey{}, rejected
	}
	return key, err
}

// requestToken returns the token of the header "Authorization: Bearer" or "X-Api-Key". If there are
// several, they must be equal. Tokens in the query are ignored.
func requestToken(h http.Header) (string, bool) {
	var tokens []string
	for _, v := range h.Values("Authorization") {
		scheme, token, _ := strings.Cut(v, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", false
		}
		tokens = append(tokens, strings.TrimSpace(token))
	}
	for _, v := range h.Values("X-Api-Key") {
		tokens = append(tokens, strings.TrimSpace(v))
	}
	if len(tokens) == 0 || tokens[0] == "" {
		return "", false
	}
	for _, t := range tokens[1:] {
		if t != tokens[0] {
			return "", false
		}
	}
	return tokens[0], true
}

// touchKey records the use of a key at most once a minute. If that fails, the request proceeds.
func (a *API) touchKey(ctx context.Context, key identity.APIKey) {
	now := a.Now()
	if !key.IsLive(now) || now.Sub(key.LastUsedAt) < time.Minute {
		return
	}
	if err := a.Stores.Auth.TouchAPIKey(ctx, key.TenantID, key.ID, now.UTC()); err != nil {
		a.Log.WarnContext(ctx, "record use of API key failed", "key", key.ID, "error", err)
	}
}

// A StaffVerifier verifies the tokens that an identity provider issues to members of staff.
type StaffVerifier interface {
	// Verify returns the member of staff that a token identifies. It returns
	// operation.ErrInvalidStaffToken if the token is not valid, and operation.ErrIssuerUnavailable
	// if it cannot be verified now.
	Verify(ctx context.Context, token string) (operation.StaffMember, error)
}

// maxJWTBytes is the maximum length of a staff token. The headers of a request are limited to 16
// KiB.
const maxJWTBytes = 8 << 10

// jwtPattern matches a signed JWT: three parts, the first of which is an encoded object.
var jwtPattern = regexp.MustCompile(`^eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$`)

// isStaffToken reports whether the token may be a staff token. The header X-Api-Key is for API keys
// only.
func (a *API) isStaffToken(h http.Header, token string) bool {
	return a.Staff != nil && h.Get("Authorization") != "" && len(token) <= maxJWTBytes && jwtPattern.MatchString(token)
}

// authenticateStaff returns a key with the scopes of the member of staff, for all instances of the
// default tenant. The key does not expire with the token, so that API keys created with it may
// outlive the token.
func (a *API) authenticateStaff(ctx context.Context, token string) (identity.APIKey, error) {
	m, err := a.Staff.Verify(ctx, token)
	switch {
	case errors.Is(err, operation.ErrIssuerUnavailable):
		p := fastapi.StatusProblem(http.StatusServiceUnavailable)
		p.Header = http.Header{"Retry-After": {"5"}}
		return identity.APIKey{}, p
	case errors.Is(err, operation.ErrInvalidStaffToken) || err == nil && m.Subject == "":
		return identity.APIKey{}, fastapi.NotAuthenticated()
	case err != nil:
		return identity.APIKey{}, err
	}
	subject := sanitizeSubject(m.Subject)
	key := identity.APIKey{
		ID: "user:" + subject, User: subject, TenantID: identity.DefaultTenant, Name: "staff", Scopes: m.Scopes,
	}
	return key, a.saveStaffName(ctx, key, m.Name)
}

// maxNameRunes limits the name of a member of staff that is stored.
const maxNameRunes = 255

// saveStaffName stores the name of a member of staff unless this process has stored it already.
func (a *API) saveStaffName(ctx context.Context, key identity.APIKey, name string) error {
	name = strings.TrimSpace(strings.ToValidUTF8(strings.ReplaceAll(name, "\x00", ""), ""))
	if runes := []rune(name); len(runes) > maxNameRunes {
		name = string(runes[:maxNameRunes])
	}
	if stored, _ := a.staffNames.Load(key.User); name == "" || stored == name {
		return nil
	}
	if err := a.Stores.Auth.SaveActorName(ctx, key.TenantID, key.Actor(), name); err != nil {
		return err
	}
	a.staffNames.Store(key.User, name)
	return nil
}

var subjectPattern = regexp.MustCompile(`^[A-Za-z0-9@|:/+=._-]{1,128}$`)

// sanitizeSubject returns the name of a subject for logs and the audit log. A subject that is too
// long or contains other characters than subjectPattern allows is replaced by its hash. Different
// subjects have different names.
func sanitizeSubject(subject string) string {
	if subjectPattern.MatchString(subject) {
		return subject
	}
	h := sha256.Sum256([]byte(subject))
	return "~" + hex.EncodeToString(h[:16])
}

// nativeMiddleware authorizes and checks requests to operations of the native API, and replays the
// responses of repeated idempotent requests.
func (a *API) nativeMiddleware(ctx huma.Context, next func(huma.Context)) {
	to := a.routesByID[ctx.Operation().OperationID]
	r, w := humago.Unwrap(ctx)
	if err := a.authorize(to, r); err != nil {
		a.responder.ProblemFor(r.Context(), err).Write(w)
		return
	}
	in := &operation.RequestContext{BaseContext: ctx, Values: map[string]string{}}
	if err := a.reader.Read(to, r, ctx.Operation(), in); err != nil {
		a.responder.ProblemFor(r.Context(), err).Write(w)
		return
	}
	if err := operation.CheckInstance(operation.CallerOf(r.Context()), in); err != nil {
		a.responder.ProblemFor(r.Context(), err).Write(w)
		return
	}
	a.runIdempotent(to, r, in, next)
}

// authorize authenticates a request, applies the rate limit, and checks the scope of the route.
func (a *API) authorize(to *operation.Route, r *http.Request) error {
	key, err := a.authenticate(r)
	if err != nil {
		return err
	}
	operation.RequestInfoOf(r.Context()).Key = key
	if err := a.Limiter.Take(key.ID, key.RateLimit); err != nil {
		return err
	}
	if !key.HasScope(to.Scope) {
		return operation.MissingScope(to.Scope)
	}
	return nil
}
