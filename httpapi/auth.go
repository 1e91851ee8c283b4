package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hydragate/httpapi/fastapi"
	"hydragate/httpapi/operation"
	"hydragate/identity"
)

// AuthStore looks up API keys.
type AuthStore interface {
	// APIKey returns the key whose token has the given hash. The key may be expired or revoked.
	// It returns identity.ErrNotFound if there is none.
	APIKey(ctx context.Context, hash string) (identity.APIKey, error)
	// TouchAPIKey records that a key was used.
	TouchAPIKey(ctx context.Context, tenant, id string, at time.Time) error
}

const (
	keyCacheTTL   = 2 * time.Second // how long a revoked key may still be accepted
	maxCachedKeys = 10_000
)

// authenticate finds the API key of a request, or the member of staff. Whatever is
// wrong with the token, the answer is the same.
func (a *API) authenticate(r *http.Request) (identity.APIKey, error) {
	token, ok := requestToken(r.Header)
	if !ok {
		return identity.APIKey{}, fastapi.NotAuthenticated()
	}
	refused := error(fastapi.NotAuthenticated())
	if a.isStaffToken(r.Header, token) {
		key, err := a.authenticateStaff(r.Context(), token)
		if err == nil {
			return key, nil
		}
		refused = err // unless it is a key after all
	}
	if len(token) > operation.MaxTokenBytes {
		return identity.APIKey{}, refused
	}
	key, err := a.lookUpKey(r.Context(), identity.HashToken(token))
	if errors.Is(err, identity.ErrNotFound) || err == nil && !key.IsLive(a.Now()) {
		return identity.APIKey{}, refused
	}
	return key, err
}

// requestToken takes the token from "Authorization: Bearer" or "X-Api-Key". Several are
// good only when they are the same; the query is never looked at.
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

func (a *API) lookUpKey(ctx context.Context, hash string) (identity.APIKey, error) {
	now := a.Now()
	if key, ok := a.keys.get(hash, now); ok {
		return key, nil
	}
	key, err := a.Stores.Auth.APIKey(ctx, hash)
	if err != nil {
		return identity.APIKey{}, err
	}
	a.keys.put(hash, key, now)
	a.touchKey(ctx, key, now)
	return key, nil
}

// touchKey notes that a key is in use, once a minute. A call does not fail for it.
func (a *API) touchKey(ctx context.Context, key identity.APIKey, now time.Time) {
	if !key.IsLive(now) || now.Sub(key.LastUsedAt) < time.Minute {
		return
	}
	if err := a.Stores.Auth.TouchAPIKey(ctx, key.TenantID, key.ID, now.UTC()); err != nil {
		a.Log.WarnContext(ctx, "note use of API key", "key", key.ID, "err", err)
	}
}

// keyCache remembers for a moment which keys are good, so that a busy caller costs
// one look-up in two seconds. It holds hashes, never tokens.
type keyCache struct {
	mu sync.Mutex
	m  map[string]cachedKey
}

type cachedKey struct {
	key       identity.APIKey
	fetchedAt time.Time
}

func (c *keyCache) get(hash string, now time.Time) (identity.APIKey, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.m[hash]
	return k.key, ok && now.Sub(k.fetchedAt) < keyCacheTTL
}

func (c *keyCache) put(hash string, key identity.APIKey, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxCachedKeys {
		c.m = map[string]cachedKey{}
	}
	c.m[hash] = cachedKey{key, now}
}

// reset drops everything, after a key changed.
func (c *keyCache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m = nil
}

// StaffVerifier recognises members of staff by the tokens of an identity provider, so that
// people need no API key.
type StaffVerifier interface {
	// Recognise gives whose token it is. ErrNotStaff: it is not a valid one, whatever
	// is wrong with it. ErrNoIssuer: that cannot be known now.
	Verify(ctx context.Context, token string) (operation.StaffMember, error)
}

// maxJWTBytes is the longest token of staff. Everything of a header must fit in 16 KiB.
const maxJWTBytes = 8 << 10

// jwtPattern is the shape of a signed token: three parts, the first of which is an object.
var jwtPattern = regexp.MustCompile(`^eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$`)

// isStaffToken reports whether a request comes with what may be a token of staff. It is
// a bearer token; X-Api-Key holds keys alone.
func (a *API) isStaffToken(h http.Header, token string) bool {
	return a.Staff != nil && h.Get("Authorization") != "" && len(token) <= maxJWTBytes && jwtPattern.MatchString(token)
}

// authenticateStaff gives the rights of the person a token names, in the form of a key: the
// default tenant, every instance. The token's end is the issuer's to enforce on the
// token, not on what its holder makes.
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
	return identity.APIKey{ID: "user:" + subject, User: subject, TenantID: identity.DefaultTenant, Name: "staff", Scopes: m.Scopes}, nil
}

var subjectPattern = regexp.MustCompile(`^[A-Za-z0-9@|:/+=._-]{1,128}$`)

// sanitizeSubject gives the name under which a person stands in logs. What could be read
// as something else there, or is too long, is shown as its hash; two people are never
// the same.
func sanitizeSubject(subject string) string {
	if subjectPattern.MatchString(subject) {
		return subject
	}
	h := sha256.Sum256([]byte(subject))
	return "~" + hex.EncodeToString(h[:16])
}

// nativeMiddleware is the way into every operation: who are you, may you, is this right, and
// was this asked before?
func (a *API) nativeMiddleware(ctx huma.Context, next func(huma.Context)) {
	called := a.routesByID[ctx.Operation().OperationID]
	r, w := humago.Unwrap(ctx)
	if err := a.authorize(called, r); err != nil {
		a.responder.ProblemFor(r.Context(), err).Write(w)
		return
	}
	in := &operation.RequestContext{BaseContext: ctx, Values: map[string]string{}}
	if err := a.reader.Read(called, r, ctx.Operation(), in); err != nil {
		a.responder.ProblemFor(r.Context(), err).Write(w)
		return
	}
	if err := operation.CheckInstance(operation.CallerOf(r.Context()), in); err != nil {
		a.responder.ProblemFor(r.Context(), err).Write(w)
		return
	}
	a.runIdempotent(called, r, in, next)
}

func (a *API) authorize(to *operation.Route, r *http.Request) error {
	key, err := a.authenticate(r)
	if err != nil {
		return err
	}
	operation.RequestInfoOf(r.Context()).Key = key
	if err := a.Limiter.Take(key.ID); err != nil {
		return err
	}
	if !key.HasScope(to.Scope) {
		return operation.MissingScope(to.Scope)
	}
	return nil
}
