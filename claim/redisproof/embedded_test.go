package redisproof

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hydragate/claim"
)

// TestEmbeddedKeepsTime lets seventeen minutes pass in a Redis of its own. That the
// test ends shows that nothing is left running.
func TestEmbeddedKeepsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := Embedded()
		defer stop()
		p := &Proofs{Redis: client, Keys: these(bytes.Repeat([]byte{1}, 32))}
		if err := p.Put(t.Context(), steve, "WDJBMJ"); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			pass time.Duration
			want claim.Verdict
		}{
			{0, claim.Match},
			{claim.Life + claim.Grace - 2*time.Second, claim.Match},
			{4 * time.Second, claim.Missing},
		} {
			time.Sleep(tt.pass)
			got, err := p.Check(t.Context(), steve, steve.InstanceID, "WDJBMJ", "m1")
			if err != nil || got.Verdict != tt.want {
				t.Errorf("after %v more: %+v, %v; want %s", tt.pass, got, err, tt.want)
			}
		}
		stop()
		stop()
		if err := p.Put(t.Context(), steve, "WDJBMJ"); err == nil {
			t.Error("kept a proof after the end")
		}
	})
}

// TestEmbeddedTakesLongPipelines holds that a pipeline longer than any buffer does
// not stand still.
func TestEmbeddedTakesLongPipelines(t *testing.T) {
	client, stop := Embedded()
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
}
