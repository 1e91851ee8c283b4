// Package oidc verifies the tokens that an OpenID Connect issuer signs for members of staff, and
// maps their claims to scopes. It does not implement a login flow.
//
// See https://openid.net/specs/openid-connect-core-1_0.html and RFC 9068 for the token formats.
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

// clockSkew is the tolerated difference between the clocks of the issuer and the gateway.
const clockSkew = time.Minute

// signingAlgorithms are the accepted algorithms. All of them are asymmetric; the list that the
// issuer publishes is ignored because it could contain others.
var signingAlgorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// tokenTypes are the accepted values of the typ header. Issuers use the same keys for tokens that
// do not authenticate a person, such as logout tokens.
var tokenTypes = map[string]bool{"": true, "jwt": true, "at+jwt": true}

// A Verifier verifies the tokens of one issuer for one audience.
type Verifier struct {
	issuer, audience string
	keys             *issuerKeys
	log              *slog.Logger
	now              func() time.Time
}

// NewVerifier returns a Verifier. It contacts the issuer when the first token is verified.
func NewVerifier(issuer, audience string, log *slog.Logger) *Verifier {
	v := &Verifier{issuer: issuer, audience: audience, log: log, now: time.Now}
	v.keys = &issuerKeys{issuer: issuer, client: issuerClient(), log: log, now: time.Now}
	return v
}

// Verify returns the member of staff that a token identifies. It returns
// operation.ErrInvalidStaffToken if the token is not valid, and operation.ErrIssuerUnavailable if
// the keys of the issuer cannot be fetched.
func (v *Verifier) Verify(ctx context.Context, token string) (operation.StaffMember, error) {
	if !tokenTypes[tokenType(token)] {
		return v.reject(ctx, "unexpected token type")
	}
	// member checks the validity period, because the library allows no clock skew.
	checked := &trackingKeySet{keys: v.keys}
	t, err := oidc.NewVerifier(v.issuer, checked, &oidc.Config{
		ClientID: v.audience, SupportedSigningAlgs: signingAlgorithms, SkipExpiryCheck: true,
	}).Verify(ctx, token)
	switch {
	case checked.lookupErr != nil:
		return operation.StaffMember{}, fmt.Errorf("%w: %w", operation.ErrIssuerUnavailable, checked.lookupErr)
	case err != nil:
		return v.reject(ctx, "wrong signature, issuer or audience")
	}
	return v.member(ctx, t)
}

func (v *Verifier) member(ctx context.Context, t *oidc.IDToken) (operation.StaffMember, error) {
	var times struct {
		NotBefore float64         `json:"nbf"`
		Events    json.RawMessage `json:"events"` // only in security event tokens
	}
	var claims Claims
	var names struct {
		Name              any `json:"name"`
		PreferredUsername any `json:"preferred_username"`
		Email             any `json:"email"`
	}
	if t.Claims(&times) != nil || t.Claims(&claims) != nil || t.Claims(&names) != nil {
		return v.reject(ctx, "malformed claims")
	}
	now := v.now()
	switch {
	case t.Subject == "":
		return v.reject(ctx, "no subject")
	case !now.Before(t.Expiry.Add(clockSkew)):
		return v.reject(ctx, "expired")
	case float64(now.Add(clockSkew).Unix()) < times.NotBefore:
		return v.reject(ctx, "not valid yet")
	case times.Events != nil:
		return v.reject(ctx, "security event token")
	}
	return operation.StaffMember{
		Subject: t.Subject, Name: firstText(names.Name, names.PreferredUsername, names.Email),
		Scopes: claims.GrantedScopes(),
	}, nil
}

// firstText returns the first value that is a nonempty string, or "".
func firstText(values ...any) string {
	for _, v := range values {
		if s, ok := v.(string); ok && strings.TrimSpace(s) != "" {
			return s
		}
	}
	return ""
}

// reject logs the reason, which is not disclosed to the client.
func (v *Verifier) reject(ctx context.Context, reason string) (operation.StaffMember, error) {
	v.log.DebugContext(ctx, "staff token rejected", "reason", reason)
	return operation.StaffMember{}, operation.ErrInvalidStaffToken
}

// tokenType returns the typ header of a token in lower case, without the prefix "application/".
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

// A trackingKeySet records whether the keys were unavailable. The error of the library does not
// distinguish that from an invalid signature.
type trackingKeySet struct {
	keys      *issuerKeys
	lookupErr error
}

// VerifySignature implements oidc.KeySet.
func (t *trackingKeySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := t.keys.VerifySignature(ctx, token)
	if err != nil && !errors.Is(err, errSignature) {
		t.lookupErr = err
	}
	return payload, err
}

// maxIssuerBytes is the maximum size of a response of the issuer.
const maxIssuerBytes = 1 << 20

// issuerClient returns a client for requests to the issuer. It limits their time and the size of
// responses, and follows redirects to safe URLs only.
func issuerClient() *http.Client {
	return &http.Client{
		Timeout:   issuerTimeout,
		Transport: limitedTransport{http.DefaultTransport},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 || !IsSafeIssuerURL(r.URL.String()) {
				return errors.New("issuer redirects too often or to an insecure URL")
			}
			return nil
		},
	}
}

type limitedTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxIssuerBytes), resp.Body}
	}
	return resp, err
}

// IsSafeIssuerURL reports whether a response from a URL can be trusted: the URL must use https, or
// http on the local host.
func IsSafeIssuerURL(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	isLoopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && isLoopback
}
