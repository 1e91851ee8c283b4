package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"hydragate/httpapi/operation"
)

// clockSkew is how far the issuer's clock may be from ours.
const clockSkew = time.Minute

// signingAlgorithms sign with a key that only the issuer has. A list of the issuer's own
// could hold others.
var signingAlgorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// tokenTypes are the types of token that say who somebody is. Issuers sign others with
// the same keys, such as logout tokens.
var tokenTypes = map[string]bool{"": true, "jwt": true, "at+jwt": true}

// A Verifier recognises people by tokens of one issuer for one audience.
type Verifier struct {
	issuer, audience string
	keys             *issuerKeys
	log              *slog.Logger
	now              func() time.Time
}

// NewVerifier asks the issuer nothing before the first token comes.
func NewVerifier(issuer, audience string, log *slog.Logger) *Verifier {
	s := &Verifier{issuer: issuer, audience: audience, log: log, now: time.Now}
	s.keys = &issuerKeys{issuer: issuer, client: issuerClient(), log: log, now: time.Now}
	return s
}

// Verify implements httpapi.Staff.
func (s *Verifier) Verify(ctx context.Context, token string) (operation.StaffMember, error) {
	if !tokenTypes[tokenType(token)] {
		return s.reject(ctx, "not a type that says who somebody is")
	}
	// Who may use a token when is decided below, with a skew that the library lacks.
	checked := &trackingKeySet{keys: s.keys}
	t, err := oidc.NewVerifier(s.issuer, checked, &oidc.Config{
		ClientID: s.audience, SupportedSigningAlgs: signingAlgorithms, SkipExpiryCheck: true,
	}).Verify(ctx, token)
	switch {
	case checked.lookupErr != nil:
		return operation.StaffMember{}, fmt.Errorf("%w: %w", operation.ErrIssuerUnavailable, checked.lookupErr)
	case err != nil:
		return s.reject(ctx, "not signed by the issuer, or for another audience")
	}
	return s.member(ctx, t)
}

func (s *Verifier) member(ctx context.Context, t *oidc.IDToken) (operation.StaffMember, error) {
	var times struct {
		NotBefore float64         `json:"nbf"`
		Events    json.RawMessage `json:"events"` // only in tokens that announce something
	}
	var claims Claims
	if t.Claims(&times) != nil || t.Claims(&claims) != nil {
		return s.reject(ctx, "claims of another shape")
	}
	now := s.now()
	switch {
	case t.Subject == "":
		return s.reject(ctx, "no subject")
	case !now.Before(t.Expiry.Add(clockSkew)):
		return s.reject(ctx, "expired")
	case float64(now.Add(clockSkew).Unix()) < times.NotBefore:
		return s.reject(ctx, "not valid yet")
	case times.Events != nil:
		return s.reject(ctx, "not a token that says who somebody is")
	}
	return operation.StaffMember{Subject: t.Subject, Scopes: claims.GrantedScopes()}, nil
}

// reject tells the operator why; who sent the token hears only that it is not good.
func (s *Verifier) reject(ctx context.Context, why string) (operation.StaffMember, error) {
	s.log.DebugContext(ctx, "staff token refused", "why", why)
	return operation.StaffMember{}, operation.ErrInvalidStaffToken
}

// tokenType gives the type a token says it is of, in lower case and without what may
// stand before it.
func tokenType(token string) string {
	head, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(head)
	var header struct {
		Type string `json:"typ"`
	}
	if err != nil || json.Unmarshal(b, &header) != nil {
		return "unreadable"
	}
	return strings.TrimPrefix(strings.ToLower(header.Type), "application/")
}

// trackingKeySet tells a signature that is wrong from one that cannot be checked now,
// which the library's error does not.
type trackingKeySet struct {
	keys      *issuerKeys
	lookupErr error
}

// VerifySignature implements oidc.KeySet.
func (c *trackingKeySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := c.keys.VerifySignature(ctx, token)
	if err != nil && !errors.Is(err, errSignature) {
		c.lookupErr = err
	}
	return payload, err
}

const maxIssuerBytes = 1 << 20 // bytes of an answer of the issuer

// issuerClient calls the issuer: for a short time, for short answers, and never where
// anybody could listen.
func issuerClient() *http.Client {
	return &http.Client{
		Timeout:   issuerTimeout,
		Transport: limitedTransport{http.DefaultTransport},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 || !IsSafeIssuerURL(r.URL.String()) {
				return errors.New("the issuer leads somewhere else")
			}
			return nil
		},
	}
}

type limitedTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := s.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(answer.Body, maxIssuerBytes), answer.Body}
	}
	return answer, err
}

// IsSafeIssuerURL reports whether what is read there can be trusted: over TLS, or from
// this machine.
func IsSafeIssuerURL(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	here := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && here
}
