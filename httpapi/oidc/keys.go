package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"
)

const (
	issuerTimeout      = 4 * time.Second  // for discovery and the key set together
	minRefreshInterval = 5 * time.Second  // between two fetches, whatever tokens arrive
	keyRefreshInterval = 10 * time.Minute // after which a key withdrawn by the issuer is rejected
	keyMaxAge          = 24 * time.Hour   // while the issuer is unavailable
	maxIssuerKeys      = 64
)

// errSignature is returned for a signature that no key of the issuer verifies.
var errSignature = errors.New("signature not made by a key of the issuer")

// issuerKeys is the key set that an issuer publishes. It is fetched when it is first needed, when a
// signature cannot be verified with the cached keys, and every keyRefreshInterval, but never more
// often than every minRefreshInterval.
type issuerKeys struct {
	issuer string
	client *http.Client
	log    *slog.Logger
	now    func() time.Time

	flight singleflight.Group

	mu      sync.Mutex
	jwksURI string // URL of the key set, once discovered
	keys    []jose.JSONWebKey
	readAt  time.Time // when keys were fetched
	askedAt time.Time // when the last fetch ended
	lastErr error     // of the last fetch
}

// VerifySignature implements oidc.KeySet. It returns the payload of a token, errSignature if no key
// of the issuer signed it, or another error if the keys are unavailable.
func (k *issuerKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	signed, err := jose.ParseSigned(token, joseAlgorithms())
	if err != nil || len(signed.Signatures) != 1 {
		return nil, errSignature
	}
	keys, stale := k.cachedKeys()
	if payload, ok := verifySignature(signed, keys); ok {
		if stale {
			k.refresh() // in the background
		}
		return payload, nil
	}
	select {
	case result := <-k.refresh():
		if result.Err != nil {
			return nil, result.Err
		}
		fetched, _ := result.Val.([]jose.JSONWebKey)
		if payload, ok := verifySignature(signed, fetched); ok {
			return payload, nil
		}
		return nil, errSignature
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func joseAlgorithms() []jose.SignatureAlgorithm {
	var all []jose.SignatureAlgorithm
	for _, a := range signingAlgorithms {
		all = append(all, jose.SignatureAlgorithm(a))
	}
	return all
}

// verifySignature returns the payload if one of the keys verifies the signature. Keys with another
// ID or algorithm than the header's are not tried.
func verifySignature(signed *jose.JSONWebSignature, keys []jose.JSONWebKey) ([]byte, bool) {
	h := signed.Signatures[0].Header
	for _, key := range keys {
		if h.KeyID != "" && key.KeyID != h.KeyID || key.Algorithm != "" && key.Algorithm != h.Algorithm {
			continue
		}
		if payload, err := signed.Verify(key.Key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// cachedKeys returns the cached keys, and whether they should be fetched again.
func (k *issuerKeys) cachedKeys() (keys []jose.JSONWebKey, stale bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	age := k.now().Sub(k.readAt)
	if age > keyMaxAge {
		return nil, true
	}
	return k.keys, age > keyRefreshInterval
}

// refresh fetches the keys. Concurrent calls, and calls within minRefreshInterval after a fetch,
// share its result. The fetch does not depend on the callers' contexts.
func (k *issuerKeys) refresh() <-chan singleflight.Result {
	return k.flight.DoChan("keys", func() (any, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.now().Sub(k.askedAt) < minRefreshInterval {
			return k.keys, k.lastErr
		}
		uri := k.jwksURI
		k.mu.Unlock()
		keys, uri, err := k.load(uri)
		k.mu.Lock()
		k.jwksURI, k.askedAt, k.lastErr = uri, k.now(), err
		if err != nil {
			k.log.Warn("fetch staff token keys failed", "issuer", k.issuer, "error", err)
			return nil, err
		}
		k.keys, k.readAt = keys, k.askedAt
		return keys, nil
	})
}

// load fetches the keys from uri, which it discovers if it is empty. The returned URI is empty
// after a failure, so that the next call discovers it again.
func (k *issuerKeys) load(uri string) (keys []jose.JSONWebKey, foundURI string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), issuerTimeout)
	defer cancel()
	if uri == "" {
		if uri, err = k.discover(ctx); err != nil {
			return nil, "", fmt.Errorf("discover key set: %w", err)
		}
	}
	if keys, err = k.fetch(ctx, uri); err != nil {
		return nil, "", fmt.Errorf("fetch key set: %w", err)
	}
	return keys, uri, nil
}

func (k *issuerKeys) discover(ctx context.Context) (string, error) {
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, k.client), k.issuer)
	if err != nil {
		return "", truncateError(err)
	}
	var metadata struct {
		Keys string `json:"jwks_uri"`
	}
	if err := p.Claims(&metadata); err != nil {
		return "", truncateError(err)
	}
	if !IsSafeIssuerURL(metadata.Keys) {
		return "", errors.New("jwks_uri is not an https URL")
	}
	return metadata.Keys, nil
}

// truncateError shortens an error that may contain a whole page.
func truncateError(err error) error {
	const maxBytes = 300
	if text := err.Error(); len(text) > maxBytes {
		return fmt.Errorf("%.*q …", maxBytes, text)
	}
	return err
}

func (k *issuerKeys) fetch(ctx context.Context, uri string) ([]jose.JSONWebKey, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := k.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("unexpected status %s", resp.Status)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		return nil, errors.New("response is not a key set")
	}
	keys := usableKeys(set.Keys)
	if len(keys) == 0 {
		return nil, errors.New("no usable key in the key set")
	}
	return keys, nil
}

// usableKeys returns the public signature keys. Keys of an unknown type or for another use are
// ignored (RFC 7517, section 5).
func usableKeys(raw []json.RawMessage) []jose.JSONWebKey {
	var keys []jose.JSONWebKey
	for _, b := range raw {
		var key jose.JSONWebKey
		if json.Unmarshal(b, &key) != nil || !key.Valid() || !key.IsPublic() || key.Use == "enc" {
			continue
		}
		if len(keys) < maxIssuerKeys {
			keys = append(keys, key)
		}
	}
	return keys
}
