package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"regexp"

	"hydragate/identity"
)

// Staff recognises members of staff by the tokens of an identity provider, so that
// people need no API key.
type Staff interface {
	// Recognise gives whose token it is. ErrNotStaff: it is not a valid one, whatever
	// is wrong with it. ErrNoIssuer: that cannot be known now.
	Recognise(ctx context.Context, token string) (Member, error)
}

// Errors of Staff.
var (
	ErrNotStaff = errors.New("httpapi: no valid staff token")
	ErrNoIssuer = errors.New("httpapi: the issuer of staff tokens does not answer")
)

// A Member is one person of staff, known by a token that is good now.
type Member struct {
	Subject string   // as the issuer names the person, for good
	Scopes  []string // none: recognised, and allowed nothing
}

// maxJWT is the longest token of staff. Everything of a header must fit in 16 KiB.
const maxJWT = 8 << 10

// jwt is the shape of a signed token: three parts, the first of which is an object.
var jwt = regexp.MustCompile(`^eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$`)

// mayBeStaff reports whether a request comes with what may be a token of staff. It is
// a bearer token; X-Api-Key holds keys alone.
func (a *API) mayBeStaff(h http.Header, token string) bool {
	return a.Staff != nil && h.Get("Authorization") != "" && len(token) <= maxJWT && jwt.MatchString(token)
}

// member gives the rights of the person a token names, in the form of a key: the
// default tenant, every instance. The token's end is the issuer's to enforce on the
// token, not on what its holder makes.
func (a *API) member(ctx context.Context, token string) (identity.APIKey, error) {
	m, err := a.Staff.Recognise(ctx, token)
	switch {
	case errors.Is(err, ErrNoIssuer):
		p := plain(http.StatusServiceUnavailable)
		p.header = http.Header{"Retry-After": {"5"}}
		return identity.APIKey{}, p
	case errors.Is(err, ErrNotStaff) || err == nil && m.Subject == "":
		return identity.APIKey{}, notAuthenticated()
	case err != nil:
		return identity.APIKey{}, err
	}
	subject := safeSubject(m.Subject)
	return identity.APIKey{ID: "user:" + subject, User: subject, TenantID: identity.DefaultTenant, Name: "staff", Scopes: m.Scopes}, nil
}

var plainSubject = regexp.MustCompile(`^[A-Za-z0-9@|:/+=._-]{1,128}$`)

// safeSubject gives the name under which a person stands in logs. What could be read
// as something else there, or is too long, is shown as its hash; two people are never
// the same.
func safeSubject(subject string) string {
	if plainSubject.MatchString(subject) {
		return subject
	}
	h := sha256.Sum256([]byte(subject))
	return "~" + hex.EncodeToString(h[:16])
}
