// Package oidctest provides an OpenID Connect issuer for tests, whose keys, tokens and failures the
// test controls.
package oidctest

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
	"sync"
	"testing"
)

// An Issuer is an OpenID Connect issuer on the loopback interface. At first it publishes the keys e1,
// for ES256, and r1, for RS256.
type Issuer struct {
	*httptest.Server

	// Changed with Update.

	Keys       map[string]crypto.Signer // published, by ID
	ExtraKeys  []any                    // published in addition to Keys, as they are
	JWKSURI    string                   // the published jwks_uri; default: that of the issuer
	Down       bool                     // responses are errors
	BlockUntil chan struct{}            // if not nil, responses wait until it is closed

	tb       testing.TB
	mu       sync.Mutex
	requests map[string]int // by path
}

// sharedRSAKey is the key r1 of every issuer, because generating one takes long.
var sharedRSAKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// NewIssuer starts an issuer that runs until the end of the test.
func NewIssuer(tb testing.TB) *Issuer {
	rsaKey, err := sharedRSAKey()
	if err != nil {
		tb.Fatal(err)
	}
	i := &Issuer{
		Keys: map[string]crypto.Signer{"e1": NewKey(tb), "r1": rsaKey}, tb: tb, requests: map[string]int{},
	}
	i.Server = httptest.NewServer(i)
	tb.Cleanup(i.Close)
	return i
}

// NewKey returns a new key for ES256.
func NewKey(tb testing.TB) crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// ServeHTTP serves the discovery document and the key set.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.requests[r.URL.Path]++
	block := i.BlockUntil
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
	if i.Down {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		jwksURI := i.JWKSURI
		if jwksURI == "" {
			jwksURI = i.URL + "/keys"
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": i.URL, "jwks_uri": jwksURI,
			"id_token_signing_alg_values_supported": []string{"none", "HS256", "RS256"},
		})
	case "/keys":
		set := append([]any{}, i.ExtraKeys...)
		for id, k := range i.Keys {
			set = append(set, PublicJWK(id, k))
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": set})
	default:
		http.NotFound(w, r)
	}
}

// Update changes the issuer.
func (i *Issuer) Update(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// RequestCount returns the number of requests for a path.
func (i *Issuer) RequestCount(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests[path]
}

// PublicJWK returns the public part of a key as a JSON Web Key.
func PublicJWK(id string, k crypto.Signer) map[string]string {
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

// Sign returns a token with the given header and claims, valid or not. The key is the one with the ID
// in the header.
func (i *Issuer) Sign(header, claims map[string]any) string {
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	input := b64(h) + "." + b64(c)
	i.mu.Lock()
	key := i.Keys[fmt.Sprint(header["kid"])]
	i.mu.Unlock()
	return input + "." + b64(signature(i.tb, header["alg"], key, input))
}

// signature returns the signature for an algorithm, even if the key is of another type.
func signature(tb testing.TB, alg any, key crypto.Signer, input string) []byte {
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
			tb.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case *rsa.PrivateKey:
		b, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	tb.Fatalf("cannot sign with a %T", key)
	return nil
}
