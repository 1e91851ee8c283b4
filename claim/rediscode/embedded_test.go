package rediscode

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/claim"
)

// TestNewEmbedded_Expiry lets seventeen minutes pass. The test ends only if no goroutine is left.
func TestNewEmbedded_Expiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := NewEmbedded()
		defer stop()
		p := &Store{Redis: client, Keys: staticKeys(bytes.Repeat([]byte{1}, 32))}
		if err := p.Put(t.Context(), testTarget, "WDJBMJ"); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			pass time.Duration
			want claim.Result
		}{
			{0, claim.Match},
			{claim.CodeTTL + claim.CodeGracePeriod - 2*time.Second, claim.Match},
			{4 * time.Second, claim.Missing},
		} {
			<-time.After(tt.pass)
			got, err := p.Check(t.Context(), testTarget, testTarget.InstanceID, "WDJBMJ", "m1")
			if err != nil || got.Result != tt.want {
				t.Errorf("after %v more: Check = %+v, %v, want %s", tt.pass, got, err, tt.want)
			}
		}
		stop()
		stop()
		if err := p.Put(t.Context(), testTarget, "WDJBMJ"); err == nil {
			t.Error("Put succeeded after stop")
		}
	})
}

// TestNewEmbedded_LongPipeline checks that a pipeline longer than any buffer does not deadlock. The
// timeouts of the client elapse only if it does.
func TestNewEmbedded_LongPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := NewEmbedded()
		defer stop()
		pipe := client.Pipeline()
		long := strings.Repeat("x", 1000)
		for range 2000 {
			pipe.Set(t.Context(), "long", long, 0)
			pipe.Get(t.Context(), "long")
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
