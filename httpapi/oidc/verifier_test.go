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

	"hydragate/httpapi/operation"
)

// A desk of staff: an issuer, and what recognises its tokens, on a clock of its own.
type verifierFixture struct {
	*fakeIssuer
	verifier *Verifier
	log      *lockedText
	clock    atomic.Int64 // seconds since it began
	start    time.Time
}

type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newVerifierFixture(t *testing.T) *verifierFixture {
	d := &verifierFixture{fakeIssuer: newFakeIssuer(t), log: &lockedText{}, start: time.Now()}
	d.verifier = NewVerifier(d.URL, "hydragate", slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	d.verifier.now = func() time.Time { return d.start.Add(time.Duration(d.clock.Load()) * time.Second) }
	d.verifier.keys.now = d.verifier.now
	return d
}

// token is one of Matt's that is good; change says what is different.
func (d *verifierFixture) token(change func(header, claims map[string]any)) string {
	now := d.verifier.now().Unix()
	header := map[string]any{"alg": "ES256", "kid": "e1", "typ": "JWT"}
	claims := map[string]any{"iss": d.URL, "aud": "hydragate", "sub": "matt", "iat": now, "exp": now + 300, "role": "staff"}
	if change != nil {
		change(header, claims)
	}
	return d.sign(header, claims)
}

func TestVerifier(t *testing.T) {
	d := newVerifierFixture(t)
	now := d.verifier.now().Unix()
	for name, c := range map[string]struct {
		change func(h, c map[string]any)
		good   bool
	}{
		"ES256":                   {nil, true},
		"RS256":                   {func(h, _ map[string]any) { h["alg"], h["kid"] = "RS256", "r1" }, true},
		"AccessToken":             {func(h, _ map[string]any) { h["typ"] = "at+jwt" }, true},
		"AccessTokenLong":         {func(h, _ map[string]any) { h["typ"] = "application/AT+JWT" }, true},
		"Untyped":                 {func(h, _ map[string]any) { delete(h, "typ") }, true},
		"WithoutKeyID":            {func(h, _ map[string]any) { delete(h, "kid"); h["kid"] = "e1" }, true},
		"SeveralAudiences":        {func(_, c map[string]any) { c["aud"] = []string{"crm", "hydragate"} }, true},
		"ExpiredWithinSkew":       {func(_, c map[string]any) { c["exp"] = now - 59 }, true},
		"Expired":                 {func(_, c map[string]any) { c["exp"] = now - 61 }, false},
		"NeverExpires":            {func(_, c map[string]any) { delete(c, "exp") }, false},
		"NotYetWithinSkew":        {func(_, c map[string]any) { c["nbf"] = now + 55 }, true},
		"NotYet":                  {func(_, c map[string]any) { c["nbf"] = now + 90 }, false},
		"NotYetAsText":            {func(_, c map[string]any) { c["nbf"] = "tomorrow" }, false},
		"WrongAudience":           {func(_, c map[string]any) { c["aud"] = "crm" }, false},
		"NoAudience":              {func(_, c map[string]any) { delete(c, "aud") }, false},
		"WrongIssuer":             {func(_, c map[string]any) { c["iss"] = "https://login.example.com" }, false},
		"IssuerWithSlash":         {func(_, c map[string]any) { c["iss"] = d.URL + "/" }, false},
		"NoSubject":               {func(_, c map[string]any) { delete(c, "sub") }, false},
		"None":                    {func(h, _ map[string]any) { h["alg"] = "none" }, false},
		"NoneSpelledOtherwise":    {func(h, _ map[string]any) { h["alg"] = "nOnE" }, false},
		"HS256WithPublicKey":      {func(h, _ map[string]any) { h["alg"], h["kid"] = "HS256", "r1" }, false},
		"HS256WithPublicEC":       {func(h, _ map[string]any) { h["alg"] = "HS256" }, false},
		"AlgorithmOfAnotherKey":   {func(h, _ map[string]any) { h["alg"] = "RS256" }, false},
		"OtherAlgorithmOfTheKey":  {func(h, _ map[string]any) { h["alg"], h["kid"] = "PS256", "r1" }, false},
		"LogoutToken":             {func(h, _ map[string]any) { h["typ"] = "logout+jwt" }, false},
		"LogoutTokenByItsContent": {func(_, c map[string]any) { c["events"] = map[string]any{} }, false},
		"CriticalExtension":       {func(h, _ map[string]any) { h["crit"] = []string{"b64"}; h["b64"] = false }, false},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := d.verifier.Verify(t.Context(), d.token(c.change))
			if c.good && (err != nil || m.Subject != "matt" || len(m.Scopes) == 0) {
				t.Fatalf("%+v, %v", m, err)
			}
			if !c.good && (!errors.Is(err, operation.ErrInvalidStaffToken) || m.Subject != "") {
				t.Fatalf("%+v, %v; want ErrNotStaff", m, err)
			}
		})
	}
}

func TestVerifier_TamperedToken(t *testing.T) {
	d := newVerifierFixture(t)
	good := d.token(nil)
	parts := strings.Split(good, ".")
	admin := strings.Split(d.token(func(_, c map[string]any) { c["role"] = "admin" }), ".")
	stranger := newVerifierFixture(t) // another issuer, whose key has the same id
	for name, token := range map[string]string{
		"OtherClaims":    parts[0] + "." + admin[1] + "." + parts[2],
		"NoSignature":    parts[0] + "." + parts[1] + ".",
		"CutSignature":   good[:len(good)-4],
		"OtherKey":       stranger.token(func(_, c map[string]any) { c["iss"] = d.URL }),
		"NoKeyNamed":     parts[0] + "." + admin[1] + "." + admin[2] + "." + parts[2],
		"Text":           "eyJ.e30.x",
		"EmbeddedOwnKey": d.embeddedKeyToken(t),
	} {
		if m, err := d.verifier.Verify(t.Context(), token); !errors.Is(err, operation.ErrInvalidStaffToken) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if strings.Contains(d.log.String(), parts[1]) {
		t.Error("a token in the log")
	}
}

// embeddedKeyToken is a token that brings the key it is to be checked with.
func (d *verifierFixture) embeddedKeyToken(t *testing.T) string {
	mine := newECKey(t)
	d.update(func() { d.keys["mine"] = mine })
	token := d.token(func(h, _ map[string]any) { h["kid"], h["jwk"] = "mine", publicJWK("mine", mine) })
	d.update(func() { delete(d.keys, "mine") })
	return token
}

func TestVerifier_Scopes(t *testing.T) {
	d := newVerifierFixture(t)
	for name, c := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"UnknownRole": {map[string]any{"role": "janitor"}, ""},
		"Scopes":      {map[string]any{"hydragate_scopes": "claims:issue customers:read root"}, "claims:issue customers:read"},
		"ScopesList":  {map[string]any{"hydragate_scopes": []any{"customers:read", 7}, "role": "admin"}, "customers:read"},
		"NoScopes":    {map[string]any{"hydragate_scopes": "", "role": "admin"}, ""},
	} {
		m, err := d.verifier.Verify(t.Context(), d.token(func(_, cl map[string]any) { delete(cl, "role"); maps.Copy(cl, c.claims) }))
		if got := strings.Join(m.Scopes, " "); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestVerifier_KeyRotation(t *testing.T) {
	d := newVerifierFixture(t)
	d.mustVerify(t, d.token(nil))
	d.update(func() { d.keys["e2"] = newECKey(t) })
	next := d.token(func(h, _ map[string]any) { h["kid"] = "e2" })
	d.clock.Add(6)
	d.mustVerify(t, next)
	if n := d.requestCount("/keys"); n != 2 {
		t.Errorf("keys asked %d times", n)
	}
	if n := d.requestCount("/.well-known/openid-configuration"); n != 1 {
		t.Errorf("discovery asked %d times", n)
	}

	// A key that the issuer withdrew ends when the keys are read again.
	old := d.token(nil)
	d.update(func() { delete(d.keys, "e1") })
	d.clock.Add(int64(keyRefreshInterval/time.Second) + 1)
	fresh := d.token(func(h, _ map[string]any) { h["kid"] = "e2" })
	d.mustVerify(t, fresh)
	<-d.verifier.keys.refresh() // shares the question that is on its way, or its answer
	if _, err := d.verifier.Verify(t.Context(), old); !errors.Is(err, operation.ErrInvalidStaffToken) {
		t.Errorf("withdrawn key: %v", err)
	}
}

// Made-up key ids cost the issuer one question in issuerPause.
func TestVerifier_UnknownKeysRateLimited(t *testing.T) {
	d := newVerifierFixture(t)
	stranger := newVerifierFixture(t)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			token := stranger.token(func(_, c map[string]any) { c["iss"] = d.URL })
			if _, err := d.verifier.Verify(context.Background(), token); !errors.Is(err, operation.ErrInvalidStaffToken) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := d.requestCount("/keys"); n != 1 {
		t.Errorf("keys asked %d times", n)
	}
}

func TestVerifier_IssuerOutage(t *testing.T) {
	d := newVerifierFixture(t)
	d.update(func() { d.down = true })
	for range 3 {
		if _, err := d.verifier.Verify(t.Context(), d.token(nil)); !errors.Is(err, operation.ErrIssuerUnavailable) {
			t.Fatal(err)
		}
	}
	if n := d.requestCount("/.well-known/openid-configuration"); n != 1 {
		t.Errorf("asked %d times while it was down", n)
	}
	d.update(func() { d.down = false })
	d.clock.Add(6)
	d.mustVerify(t, d.token(nil))

	// Down again: the keys in hand are good for a day.
	d.update(func() { d.down = true })
	d.clock.Add(3600)
	d.mustVerify(t, d.token(nil))
	<-d.verifier.keys.refresh()
	d.mustVerify(t, d.token(nil))
	d.clock.Add(int64(keyMaxAge / time.Second))
	if _, err := d.verifier.Verify(t.Context(), d.token(nil)); !errors.Is(err, operation.ErrIssuerUnavailable) {
		t.Fatal(err)
	}
	if strings.Count(d.log.String(), "level=WARN") > 4 {
		t.Error("a warning for every token")
	}
}

// An issuer that never answers holds up nobody longer than they wish.
func TestVerifier_IssuerTimeout(t *testing.T) {
	d := newVerifierFixture(t)
	release := make(chan struct{})
	d.update(func() { d.blockUntil = release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.verifier.Verify(ctx, d.token(nil)); !errors.Is(err, operation.ErrIssuerUnavailable) {
		t.Fatal(err)
	}
}

func TestVerifier_InsecureKeyURL(t *testing.T) {
	d := newVerifierFixture(t)
	d.update(func() { d.jwksURI = "http://keys.example.com/" })
	if _, err := d.verifier.Verify(t.Context(), d.token(nil)); !errors.Is(err, operation.ErrIssuerUnavailable) {
		t.Fatal(err)
	}
	if !strings.Contains(d.log.String(), "jwks_uri must begin with https://") {
		t.Error(d.log)
	}
}

func TestVerifier_UnsupportedKeys(t *testing.T) {
	d := newVerifierFixture(t)
	d.update(func() {
		d.extraKeys = []any{
			map[string]string{"kty": "OKP", "crv": "Ed448", "x": "AAAA", "kid": "odd"},
			map[string]string{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
			map[string]string{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "broken"},
			"nonsense",
		}
	})
	d.mustVerify(t, d.token(nil))
}

func (d *verifierFixture) mustVerify(t *testing.T, token string) {
	t.Helper()
	if m, err := d.verifier.Verify(t.Context(), token); err != nil || m.Subject != "matt" {
		t.Fatalf("%+v, %v", m, err)
	}
}
