package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"hydragate/identity"
)

func TestClaims_GrantedScopes(t *testing.T) {
	all := strings.Join(identity.Scopes, " ")
	for claims, want := range map[string]string{
		`{"role":"admin"}`:                                          all,
		`{"roles":["viewer","admin"]}`:                              all,
		`{"roles":"viewer admin"}`:                                  all,
		`{"role":["admin"]}`:                                        all,
		`{"role":"Admin"}`:                                          "",
		`{"role":{"admin":true}}`:                                   "",
		`{"role":null,"roles":7}`:                                   "",
		`{"hydragate_scopes":"keys:read  keys:read"}`:               "keys:read",
		`{"hydragate_scopes":["keys:read keys:write"]}`:             "",
		`{"hydragate_scopes":"root","role":"admin"}`:                "",
		`{"hydragate_scopes":["audit:read"],"roles":["admin"]}`:     "audit:read",
		`{"hydragate_scopes":{"admin":true},"roles":["admin"]}`:     "",
		`{"scope":"keys:write","realm_access":{"roles":["admin"]}}`: "",
	} {
		var c Claims
		if err := json.Unmarshal([]byte(claims), &c); err != nil {
			t.Errorf("%s: %v", claims, err)
		}
		if got := strings.Join(c.GrantedScopes(), " "); got != want {
			t.Errorf("%s: %q; want %q", claims, got, want)
		}
	}
	for _, c := range []struct{ role, may, mayNot string }{
		{"staff", "claims:issue", "identities:grant"},
		{
			"staff", "customers:write", "channels:write",
		},
		{"staff", "audit:read", "keys:read"},
		{"viewer", "customers:read", "claims:issue"},
		{
			"viewer", "deliveries:read", "deliveries:write",
		},
		{"viewer", "messages:read", "keys:read"},
	} {
		got := Claims{Roles: stringList{c.role}}.GrantedScopes()
		if !slices.Contains(got, c.may) || slices.Contains(got, c.mayNot) {
			t.Errorf("%s: %v", c.role, got)
		}
	}
}

// A fakeIssuer is an issuer on the loopback interface.
type fakeIssuer struct {
	*httptest.Server
	t *testing.T

	mu            sync.Mutex
	keys          map[string]crypto.Signer // published
	down          bool
	blockUntil    chan struct{} // if not nil, responses wait until it is closed
	requestCounts map[string]int
	jwksURI       string // the published jwks_uri; default: that of the fakeIssuer
	extraKeys     []any  // published in addition to keys
}

func newFakeIssuer(t *testing.T) *fakeIssuer {
	i := &fakeIssuer{
		t: t, keys: map[string]crypto.Signer{"e1": newECKey(t), "r1": newRSAKey(t)}, requestCounts: map[string]int{},
	}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	return i
}

func newECKey(t *testing.T) crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newRSAKey(t *testing.T) crypto.Signer {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// ServeHTTP serves the discovery document and the key set.
func (i *fakeIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.requestCounts[r.URL.Path]++
	block := i.blockUntil
	i.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-r.Context().Done():
		}
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.down {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		jwksURI := i.jwksURI
		if jwksURI == "" {
			jwksURI = i.URL + "/keys"
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": i.URL, "jwks_uri": jwksURI,
			"id_token_signing_alg_values_supported": []string{"none", "HS256", "RS256"},
		})
	case "/keys":
		set := append([]any{}, i.extraKeys...)
		for id, k := range i.keys {
			set = append(set, publicJWK(id, k))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": set})
	default:
		http.NotFound(w, r)
	}
}

func (i *fakeIssuer) update(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f()
}

func (i *fakeIssuer) requestCount(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requestCounts[path]
}

func publicJWK(id string, k crypto.Signer) map[string]string {
	switch pub := k.Public().(type) {
	case *ecdsa.PublicKey:
		b, _ := pub.Bytes()
		return map[string]string{
			"kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": b64(b[1:33]), "y": b64(b[33:]),
		}
	case *rsa.PublicKey:
		return map[string]string{
			"kty": "RSA", "use": "sig", "kid": id, "alg": "RS256", "n": b64(pub.N.Bytes()), "e": "AQAB",
		}
	}
	return nil
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign returns a token with the given header and claims, valid or not.
func (i *fakeIssuer) sign(header, claims map[string]any) string {
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	input := b64(h) + "." + b64(c)
	i.mu.Lock()
	key := i.keys[fmt.Sprint(header["kid"])]
	i.mu.Unlock()
	return input + "." + b64(signature(i.t, header["alg"], key, input))
}

func signature(t *testing.T, alg any, key crypto.Signer, input string) []byte {
	sum := sha256.Sum256([]byte(input))
	switch alg {
	case "none":
		return nil
	case "HS256": // with the public key as the secret
		der, _ := x509.MarshalPKIXPublicKey(key.Public())
		m := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		m.Write([]byte(input))
		return m.Sum(nil)
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case *rsa.PrivateKey:
		b, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	t.Fatalf("cannot sign with a %T", key)
	return nil
}
