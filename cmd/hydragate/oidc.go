package main

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

	"hydragate/httpapi"
)

// clockSkew is how far the issuer's clock may be from ours.
const clockSkew = time.Minute

// staffAlgorithms sign with a key that only the issuer has. A list of the issuer's own
// could hold others.
var staffAlgorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// staffTypes are the types of token that say who somebody is. Issuers sign others with
// the same keys, such as logout tokens.
var staffTypes = map[string]bool{"": true, "jwt": true, "at+jwt": true}

// A staffTokens recognises people by tokens of one issuer for one audience.
type staffTokens struct {
	issuer, audience string
	keys             *issuerKeys
	log              *slog.Logger
	now              func() time.Time
}

// newStaff asks the issuer nothing before the first token comes.
func newStaff(issuer, audience string, log *slog.Logger) *staffTokens {
	s := &staffTokens{issuer: issuer, audience: audience, log: log, now: time.Now}
	s.keys = &issuerKeys{issuer: issuer, client: issuerClient(), log: log, now: time.Now}
	return s
}

// Recognise implements httpapi.Staff.
func (s *staffTokens) Recognise(ctx context.Context, token string) (httpapi.Member, error) {
	if !staffTypes[typeOf(token)] {
		return s.refuse(ctx, "not a type that says who somebody is")
	}
	// Who may use a token when is decided below, with a skew that the library lacks.
	checked := &checkedKeys{keys: s.keys}
	t, err := oidc.NewVerifier(s.issuer, checked, &oidc.Config{
		ClientID: s.audience, SupportedSigningAlgs: staffAlgorithms, SkipExpiryCheck: true,
	}).Verify(ctx, token)
	switch {
	case checked.unknown != nil:
		return httpapi.Member{}, fmt.Errorf("%w: %w", httpapi.ErrNoIssuer, checked.unknown)
	case err != nil:
		return s.refuse(ctx, "not signed by the issuer, or for another audience")
	}
	return s.member(ctx, t)
}

func (s *staffTokens) member(ctx context.Context, t *oidc.IDToken) (httpapi.Member, error) {
	var times struct {
		NotBefore float64         `json:"nbf"`
		Events    json.RawMessage `json:"events"` // only in tokens that announce something
	}
	var claims httpapi.StaffClaims
	if t.Claims(&times) != nil || t.Claims(&claims) != nil {
		return s.refuse(ctx, "claims of another shape")
	}
	now := s.now()
	switch {
	case t.Subject == "":
		return s.refuse(ctx, "no subject")
	case !now.Before(t.Expiry.Add(clockSkew)):
		return s.refuse(ctx, "expired")
	case float64(now.Add(clockSkew).Unix()) < times.NotBefore:
		return s.refuse(ctx, "not valid yet")
	case times.Events != nil:
		return s.refuse(ctx, "not a token that says who somebody is")
	}
	return httpapi.Member{Subject: t.Subject, Scopes: claims.Allowed()}, nil
}

// refuse tells the operator why; who sent the token hears only that it is not good.
func (s *staffTokens) refuse(ctx context.Context, why string) (httpapi.Member, error) {
	s.log.DebugContext(ctx, "staff token refused", "why", why)
	return httpapi.Member{}, httpapi.ErrNotStaff
}

// typeOf gives the type a token says it is of, in lower case and without what may
// stand before it.
func typeOf(token string) string {
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

// checkedKeys tells a signature that is wrong from one that cannot be checked now,
// which the library's error does not.
type checkedKeys struct {
	keys    *issuerKeys
	unknown error
}

// VerifySignature implements oidc.KeySet.
func (c *checkedKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := c.keys.VerifySignature(ctx, token)
	if err != nil && !errors.Is(err, errSignature) {
		c.unknown = err
	}
	return payload, err
}

const issuerMost = 1 << 20 // bytes of an answer of the issuer

// issuerClient calls the issuer: for a short time, for short answers, and never where
// anybody could listen.
func issuerClient() *http.Client {
	return &http.Client{
		Timeout:   issuerTime,
		Transport: shortAnswers{http.DefaultTransport},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 || !safeIssuerURL(r.URL.String()) {
				return errors.New("the issuer leads somewhere else")
			}
			return nil
		},
	}
}

type shortAnswers struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s shortAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := s.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(answer.Body, issuerMost), answer.Body}
	}
	return answer, err
}

// safeIssuerURL reports whether what is read there can be trusted: over TLS, or from
// this machine.
func safeIssuerURL(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	here := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && here
}
