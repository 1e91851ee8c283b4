package rediscode

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"hydragate/claim"
)

func TestNewClient(t *testing.T) {
	for _, url := range []string{
		"redis://127.0.0.1:6379", "redis://localhost", "redis://:hush@127.0.0.1:6379/3",
		"rediss://user:hush@127.0.0.1", "redis://127.0.0.1:6379?max_retries=5&read_timeout=60s&dial_timeout=60s",
	} {
		client, err := NewClient(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		o := client.(*redis.Client).Options()
		if o.MaxRetries != 0 || !o.ContextTimeoutEnabled || o.ReadTimeout != stepTimeout || o.WriteTimeout != stepTimeout ||
			o.DialTimeout != stepTimeout {
			t.Errorf("%s: limits not applied: %d retries, read timeout %v", url, o.MaxRetries, o.ReadTimeout)
		}
		if secure := strings.HasPrefix(url, "rediss"); secure != (o.TLSConfig != nil) {
			t.Errorf("%s: TLS %v", url, o.TLSConfig != nil)
		}
		if err := client.Close(); err != nil {
			t.Errorf("%s: Close() = %v", url, err)
		}
	}
}

func TestNewClient_InvalidURL(t *testing.T) {
	for _, url := range []string{
		"", "127.0.0.1:6379", "http://:hush@127.0.0.1", "unix:///tmp/hush.sock",
		"redis://:hush@127.0.0.1:port", "redis://:hush@%zz",
		"redis://:hush@127.0.0.1/notanumber", "redis://:hush@127.0.0.1,", "redis://:hush@127.0.0.1,127.0.0.2",
		"redis://:hush@127.0.0.1,rediss://:hush@127.0.0.2", "redis://:hush@127.0.0.1/1,redis://127.0.0.2",
	} {
		_, err := NewClient(url)
		if !errors.Is(err, ErrInvalidURL) {
			t.Errorf("%s: %v", url, err)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("the error contains the password: %v", err)
		}
	}
}

// TestNewClient_Cluster stores and checks a code with a cluster client.
func TestNewClient_Cluster(t *testing.T) {
	server := miniredis.RunT(t)
	url := "redis://" + server.Addr()
	client, err := NewClient(url + ", " + url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	o := client.(*redis.ClusterClient).Options()
	if !o.ContextTimeoutEnabled || o.ReadTimeout != stepTimeout || o.MaxRetries > 0 {
		t.Errorf("limits not applied: %d retries, read timeout %v", o.MaxRetries, o.ReadTimeout)
	}
	p := &Store{Redis: client, Keys: staticKeys(bytes.Repeat([]byte{1}, 32))}
	if err := p.Put(t.Context(), testTarget, "WDJBMJ"); err != nil {
		t.Fatal(err)
	}
	got, err := p.Check(t.Context(), testTarget, testTarget.InstanceID, "WDJBMJ", "m1")
	if err != nil || got.Result != claim.Match {
		t.Errorf("Check = %+v, %v", got, err)
	}
	if err := p.Drop(t.Context(), testTarget); err != nil {
		t.Error(err)
	}
}
