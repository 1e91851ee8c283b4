package oidc

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/httpapi/httpapitest"
	"hydragate/httpapi/oidc/oidctest"
	"hydragate/httpapi/operation"
)

// A verifierFixture is a fake issuer and a verifier of its tokens with a fake clock.
type verifierFixture struct {
	*oidctest.Issuer
	verifier *Verifier
	log      *httpapitest.LogBuffer
	clock    atomic.Int64 // seconds since start
	start    time.Time
}

func newVerifierFixture(t *testing.T) *verifierFixture {
	d := &verifierFixture{Issuer: oidctest.NewIssuer(t), log: &httpapitest.LogBuffer{}, start: time.Now()}
	d.verifier = NewVerifier(
		d.URL, "hydragate", slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	)
	d.verifier.now = func() time.Time { return d.start.Add(time.Duration(d.clock.Load()) * time.Second) }
	d.verifier.keys.now = d.verifier.now
	return d
}

// token returns a valid token, modified by change.
func (f *verifierFixture) token(change func(header, claims map[string]any)) string {
	now := f.verifier.now().Unix()
	header := map[string]any{"alg": "ES256", "kid": "e1", "typ": "JWT"}
	claims := map[string]any{
		"iss": f.URL, "aud": "hydragate", "sub": "matt", "iat": now, "exp": now + 300, "role": "staff",
	}
	if change != nil {
		change(header, claims)
	}
	return f.Sign(header, claims)
}

func TestVerifier(t *testing.T) {
	d := newVerifierFixture(t)
	now := d.verifier.now().Unix()
	for name, c := range map[string]struct {
		change func(h, c map[string]any)
		good   bool
	}{
		"ES256": {nil, true},
		"RS256": {
			func(h, _ map[string]any) { h["alg"], h["kid"] = "RS256", "r1" }, true,
		},
		"access token":                          {func(h, _ map[string]any) { h["typ"] = "at+jwt" }, true},
		"access token with the full media type": {func(h, _ map[string]any) { h["typ"] = "application/AT+JWT" }, true},
		"no type":                               {func(h, _ map[string]any) { delete(h, "typ") }, true},
		"no key ID": {
			func(h, _ map[string]any) { delete(h, "kid"); h["kid"] = "e1" }, true,
		},
		"several audiences": {
			func(_, c map[string]any) { c["aud"] = []string{"crm", "hydragate"} }, true,
		},
		"expired within clock skew":       {func(_, c map[string]any) { c["exp"] = now - 59 }, true},
		"expired":                         {func(_, c map[string]any) { c["exp"] = now - 61 }, false},
		"no expiry":                       {func(_, c map[string]any) { delete(c, "exp") }, false},
		"not yet valid within clock skew": {func(_, c map[string]any) { c["nbf"] = now + 55 }, true},
		"not yet valid":                   {func(_, c map[string]any) { c["nbf"] = now + 90 }, false},
		"nbf is a string":                 {func(_, c map[string]any) { c["nbf"] = "tomorrow" }, false},
		"wrong audience":                  {func(_, c map[string]any) { c["aud"] = "crm" }, false},
		"no audience":                     {func(_, c map[string]any) { delete(c, "aud") }, false},
		"wrong issuer": {
			func(_, c map[string]any) { c["iss"] = "https://login.example.com" }, false,
		},
		"issuer with a trailing slash":  {func(_, c map[string]any) { c["iss"] = d.URL + "/" }, false},
		"no subject":                    {func(_, c map[string]any) { delete(c, "sub") }, false},
		"alg none":                      {func(h, _ map[string]any) { h["alg"] = "none" }, false},
		"alg nOnE":                      {func(h, _ map[string]any) { h["alg"] = "nOnE" }, false},
		"HS256 with the public RSA key": {func(h, _ map[string]any) { h["alg"], h["kid"] = "HS256", "r1" }, false},
		"HS256 with the public EC key":  {func(h, _ map[string]any) { h["alg"] = "HS256" }, false},
		"algorithm of another key":      {func(h, _ map[string]any) { h["alg"] = "RS256" }, false},
		"another algorithm of the key":  {func(h, _ map[string]any) { h["alg"], h["kid"] = "PS256", "r1" }, false},
		"logout token by type":          {func(h, _ map[string]any) { h["typ"] = "logout+jwt" }, false},
		"logout token by claims":        {func(_, c map[string]any) { c["events"] = map[string]any{} }, false},
		"critical extension": {
			func(h, _ map[string]any) { h["crit"] = []string{"b64"}; h["b64"] = false }, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := d.verifier.Verify(t.Context(), d.token(c.change))
			if c.good && (err != nil || m.Subject != "matt" || len(m.Scopes) == 0) {
				t.Fatalf("%+v, %v", m, err)
			}
			if !c.good && (!errors.Is(err, operation.ErrInvalidStaffToken) || m.Subject != "") {
				t.Fatalf("%+v, %v; want ErrInvalidStaffToken", m, err)
			}
		})
	}
}

func TestVerifier_TamperedToken(t *testing.T) {
	d := newVerifierFixture(t)
	good := d.token(nil)
	parts := strings.Split(good, ".")
	admin := strings.Split(d.token(func(_, c map[string]any) { c["role"] = "admin" }), ".")
	other := newVerifierFixture(t) // another issuer, whose key has the same ID
	for name, token := range map[string]string{
		"claims of another token": parts[0] + "." + admin[1] + "." + parts[2],
		"no signature":            parts[0] + "." + parts[1] + ".",
		"truncated signature":     good[:len(good)-4],
		"key of another issuer":   other.token(func(_, c map[string]any) { c["iss"] = d.URL }),
		"four parts":              parts[0] + "." + admin[1] + "." + admin[2] + "." + parts[2],
		"not a token":             "eyJ.e30.x",
		"embedded key":            d.embeddedKeyToken(t),
	} {
		if m, err := d.verifier.Verify(t.Context(), token); !errors.Is(err, operation.ErrInvalidStaffToken) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if strings.Contains(d.log.String(), parts[1]) {
		t.Error("the log contains a token")
	}
}

// embeddedKeyToken returns a token whose header contains the key that signed it.
func (f *verifierFixture) embeddedKeyToken(t *testing.T) string {
	own := oidctest.NewKey(t)
	f.Update(func() { f.Keys["own"] = own })
	token := f.token(func(h, _ map[string]any) { h["kid"], h["jwk"] = "own", oidctest.PublicJWK("own", own) })
	f.Update(func() { delete(f.Keys, "own") })
	return token
}

func TestVerifier_Scopes(t *testing.T) {
	d := newVerifierFixture(t)
	for name, c := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"unknown role": {map[string]any{"role": "unknown"}, ""},
		"scopes as a string": {
			map[string]any{"hydragate_scopes": "claims:issue customers:read root"}, "claims:issue customers:read",
		},
		"scopes as a list": {
			map[string]any{"hydragate_scopes": []any{"customers:read", 7}, "role": "admin"}, "customers:read",
		},
		"empty scopes": {map[string]any{"hydragate_scopes": "", "role": "admin"}, ""},
	} {
		m, err := d.verifier.Verify(
			t.Context(), d.token(func(_, cl map[string]any) { delete(cl, "role"); maps.Copy(cl, c.claims) }),
		)
		if got := strings.Join(m.Scopes, " "); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestVerifier_KeyRotation(t *testing.T) {
	d := newVerifierFixture(t)
	d.mustVerify(t, d.token(nil))
	d.Update(func() { d.Keys["e2"] = oidctest.NewKey(t) })
	next := d.token(func(h, _ map[string]any) { h["kid"] = "e2" })
	d.clock.Add(6)
	d.mustVerify(t, next)
	if n := d.RequestCount("/keys"); n != 2 {
		t.Errorf("key set fetched %d times", n)
	}
	if n := d.RequestCount("/.well-known/openid-configuration"); n != 1 {
		t.Errorf("discovery document fetched %d times", n)
	}

	// A withdrawn key is rejected when the keys are fetched again.
	old := d.token(nil)
	d.Update(func() { delete(d.Keys, "e1") })
	d.clock.Add(int64(keyRefreshInterval/time.Second) + 1)
	fresh := d.token(func(h, _ map[string]any) { h["kid"] = "e2" })
	d.mustVerify(t, fresh)
	<-d.verifier.keys.refresh() // shares the fetch in progress, or its result
	if _, err := d.verifier.Verify(t.Context(), old); !errors.Is(err, operation.ErrInvalidStaffToken) {
		t.Errorf("Verify of a token with a withdrawn key: %v, want ErrInvalidStaffToken", err)
	}
}

// TestVerifier_UnknownKeysRateLimited checks that tokens with unknown keys cause one fetch per
// minRefreshInterval.
func TestVerifier_UnknownKeysRateLimited(t *testing.T) {
	d := newVerifierFixture(t)
	other := newVerifierFixture(t)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			token := other.token(func(_, c map[string]any) { c["iss"] = d.URL })
			if _, err := d.verifier.Verify(context.Background(), token); !errors.Is(err, operation.ErrInvalidStaffToken) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := d.RequestCount("/keys"); n != 1 {
		t.Errorf("key set fetched %d times", n)
	}
}

func TestVerifier_IssuerOutage(t *testing.T) {
	d := newVerifierFixture(t)
	d.Update(func() { d.Down = true })
	for range 3 {
		if _, err := d.verifier.Verify(t.Context(), d.token(nil)); !errors.Is(err, operation.ErrIssuerUnavailable) {
			t.Fatal(err)
		}
	}
	if n := d.RequestCount("/.well-known/openid-configuration"); n != 1 {
		t.Errorf("discovery document fetched %d times during the outage, want 1", n)
	}
	d.Update(func() { d.Down = false })
	d.clock.Add(6)
	d.mustVerify(t, d.token(nil))

	// In another outage, the cached keys remain valid for a day.
	d.Update(func() { d.Down = true })
	d.clock.Add(3600)
	d.mustVerify(t, d.token(nil))
	<-d.verifier.keys.refresh()
	d.mustVerify(t, d.token(nil))
	d.clock.Add(int64(keyMaxAge / time.Second))
	if _, err := d.verifier.Verify(t.Context(), d.token(nil)); !errors.Is(err, operation.ErrIssuerUnavailable) {
		t.Fatal(err)
	}
	if strings.Count(d.log.String(), "level=WARN") > 4 {
		t.Error("a warning for each token")
	}
}

// TestVerifier_IssuerTimeout checks that a hanging issuer does not delay a caller beyond its
// context.
func TestVerifier_IssuerTimeout(t *testing.T) {
	d := newVerifierFixture(t)
	release := make(chan struct{})
	d.Update(func() { d.BlockUntil = release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.verifier.Verify(ctx, d.token(nil)); !errors.Is(err, operation.ErrIssuerUnavailable) {
		t.Fatal(err)
	}
}

func TestVerifier_InsecureKeyURL(t *testing.T) {
	d := newVerifierFixture(t)
	d.Update(func() { d.JWKSURI = "http://keys.example.com/" })
	if _, err := d.verifier.Verify(t.Context(), d.token(nil)); !errors.Is(err, operation.ErrIssuerUnavailable) {
		t.Fatal(err)
	}
	if !strings.Contains(d.log.String(), "jwks_uri is not an https URL") {
		t.Error(d.log)
	}
}

func TestVerifier_UnsupportedKeys(t *testing.T) {
	d := newVerifierFixture(t)
	d.Update(func() {
		d.ExtraKeys = []any{
			map[string]string{"kty": "OKP", "crv": "Ed448", "x": "AAAA", "kid": "unsupported"},
			map[string]string{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
			map[string]string{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "broken"},
			"not a key",
		}
	})
	d.mustVerify(t, d.token(nil))
}

func (f *verifierFixture) mustVerify(t *testing.T, token string) {
	t.Helper()
	if m, err := f.verifier.Verify(t.Context(), token); err != nil || m.Subject != "matt" {
		t.Fatalf("%+v, %v", m, err)
	}
}

// TestVerifier_Name checks which claim names the member of staff. The values are not trusted.
func TestVerifier_Name(t *testing.T) {
	d := newVerifierFixture(t)
	for name, c := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"none":                {nil, ""},
		"name":                {map[string]any{"name": "Matt", "email": "matt@example.com"}, "Matt"},
		"preferred user name": {map[string]any{"name": " ", "preferred_username": "matt", "email": "m@example.com"}, "matt"},
		"email":               {map[string]any{"name": 7, "email": "matt@example.com"}, "matt@example.com"},
		"no text":             {map[string]any{"name": []string{"Matt"}, "email": nil}, ""},
	} {
		m, err := d.verifier.Verify(t.Context(), d.token(func(_, claims map[string]any) { maps.Copy(claims, c.claims) }))
		if err != nil || m.Name != c.want {
			t.Errorf("%s: Verify() = %+v, %v, want the name %q", name, m, err, c.want)
		}
	}
}
