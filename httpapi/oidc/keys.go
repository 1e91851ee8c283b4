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
	issuerTimeout      = 4 * time.Second  // for all that is asked at once
	minRefreshInterval = 5 * time.Second  // between two questions, whatever tokens come
	keyRefreshInterval = 10 * time.Minute // so that a key which the issuer withdrew ends
	keyMaxAge          = 24 * time.Hour   // while the issuer does not answer
	maxIssuerKeys      = 64
)

// errSignature says that no key of the issuer made a signature.
var errSignature = errors.New("no key of the issuer made this signature")

// issuerKeys are the keys an issuer signs with, as it publishes them. They are read
// when they are first needed, when a token names one that is not among them, and from
// time to time; never more often than every issuerPause.
type issuerKeys struct {
	issuer string
	client *http.Client
	log    *slog.Logger
	now    func() time.Time

	flight singleflight.Group

	mu      sync.Mutex
	jwksURI string // the keys' own address, once discovered
	keys    []jose.JSONWebKey
	readAt  time.Time // when keys came
	askedAt time.Time // when the last question ended, and how
	lastErr error
}

// VerifySignature implements oidc.KeySet: it gives what a key of the issuer signed;
// errSignature when none did.
func (k *issuerKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	signed, err := jose.ParseSigned(token, joseAlgorithms())
	if err != nil || len(signed.Signatures) != 1 {
		return nil, errSignature
	}
	keys, stale := k.cachedKeys()
	if payload, ok := verifySignature(signed, keys); ok {
		if stale {
			k.refresh() // nobody waits for it
		}
		return payload, nil
	}
	select {
	case answer := <-k.refresh():
		if answer.Err != nil {
			return nil, answer.Err
		}
		if payload, ok := verifySignature(signed, answer.Val.([]jose.JSONWebKey)); ok {
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

// verifySignature gives the payload when one of the keys that may have signed it did.
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

// cachedKeys gives the keys that were read, and whether they should be read again.
func (k *issuerKeys) cachedKeys() (keys []jose.JSONWebKey, stale bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	age := k.now().Sub(k.readAt)
	if age > keyMaxAge {
		return nil, true
	}
	return k.keys, age > keyRefreshInterval
}

// refresh asks for the keys. Whoever wants them at the same time gets the same answer,
// and so does who wants them within issuerPause after it. It ends by itself.
func (k *issuerKeys) refresh() <-chan singleflight.Result {
	return k.flight.DoChan("keys", func() (any, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.now().Sub(k.askedAt) < minRefreshInterval {
			return k.keys, k.lastErr
		}
		where := k.jwksURI
		k.mu.Unlock()
		keys, where, err := k.load(where)
		k.mu.Lock()
		k.jwksURI, k.askedAt, k.lastErr = where, k.now(), err
		if err != nil {
			k.log.Warn("keys of the issuer of staff tokens cannot be read", "issuer", k.issuer, "err", err)
			return nil, err
		}
		k.keys, k.readAt = keys, k.askedAt
		return keys, nil
	})
}

// load reads the keys, and where they are when that is not known. After a failure it
// is not known.
func (k *issuerKeys) load(at string) (keys []jose.JSONWebKey, where string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), issuerTimeout)
	defer cancel()
	if at == "" {
		if at, err = k.discover(ctx); err != nil {
			return nil, "", fmt.Errorf("discovery: %w", err)
		}
	}
	if keys, err = k.fetch(ctx, at); err != nil {
		return nil, "", fmt.Errorf("read keys: %w", err)
	}
	return keys, at, nil
}

func (k *issuerKeys) discover(ctx context.Context) (string, error) {
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, k.client), k.issuer)
	if err != nil {
		return "", truncateError(err)
	}
	var said struct {
		Keys string `json:"jwks_uri"`
	}
	if err := p.Claims(&said); err != nil {
		return "", truncateError(err)
	}
	if !IsSafeIssuerURL(said.Keys) {
		return "", errors.New("jwks_uri must begin with https://")
	}
	return said.Keys, nil
}

// truncateError cuts an error in which a whole page may stand.
func truncateError(err error) error {
	const most = 300
	if text := err.Error(); len(text) > most {
		return fmt.Errorf("%.*q …", most, text)
	}
	return err
}

func (k *issuerKeys) fetch(ctx context.Context, at string) ([]jose.JSONWebKey, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	answer, err := k.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", answer.Status)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&set); err != nil {
		return nil, errors.New("the answer is no key set")
	}
	keys := usableKeys(set.Keys)
	if len(keys) == 0 {
		return nil, errors.New("none of the keys can be used")
	}
	return keys, nil
}

// usableKeys gives the public keys for signatures. What is of a kind not known here, or
// for another use, is passed over (RFC 7517, section 5).
func usableKeys(raw []json.RawMessage) []jose.JSONWebKey {
	var keys []jose.JSONWebKey
	for _, b := range raw {
		var key jose.JSONWebKey
		if json.Unmarshal(b, &key) == nil && key.Valid() && key.IsPublic() && key.Use != "enc" && len(keys) < maxIssuerKeys {
			keys = append(keys, key)
		}
	}
	return keys
}
