package delivery

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/gateway"
)

func TestRetryPolicy(t *testing.T) {
	for failures, longest := range map[int]time.Duration{
		0: time.Second, 1: 2 * time.Second, 2: 4 * time.Second, 5: 32 * time.Second, 8: 256 * time.Second,
		9: 512 * time.Second, 10: 600 * time.Second, 99: 600 * time.Second,
	} {
		for range 20 {
			got := retryPolicy().Delay(failures, 0)
			if got < longest/2-time.Millisecond || got > longest+time.Millisecond {
				t.Errorf("Delay(%d, 0) = %v, want %v to %v", failures, got, longest/2, longest)
			}
		}
	}
	if got := retryPolicy().Delay(0, time.Hour); got != time.Hour {
		t.Errorf("Delay(0, 1h) = %v, want 1h", got)
	}
}

func TestDeliverer_Retry(t *testing.T) {
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		posts   int32
		disable bool
		atLeast time.Duration
	}{
		"down": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, 1, false, 0},
		"retry after": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "77")
			w.WriteHeader(http.StatusTooManyRequests)
		}, 1, false, 77 * time.Second},
		"gone": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }, 1, true, 0},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, 1, false, 0},
		"cut": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 1, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var posts atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				posts.Add(1)
				c.answer(w, r)
			}))
			defer srv.Close()
			s := &fakeStore{events: []gateway.Event{newEvent(srv.URL, "1", "a"), newEvent(srv.URL, "2", "b")}}
			before := time.Now()
			if err := newDeliverer(s).Run(t.Context(), gateway.Lease{}, testSlice); err != nil {
				t.Fatal(err)
			}
			if n := posts.Load(); n != c.posts {
				t.Errorf("%d requests, want %d; events must not overtake a failed one", n, c.posts)
			}
			last := s.commits[len(s.commits)-1]
			if !last.Release || last.Next.Before(before.Add(c.atLeast)) || (len(s.disabled) > 0) != c.disable {
				t.Errorf("last commit = %+v", last)
			}
			if r := s.results(); len(r) != 1 || r[0].Status != gateway.Pending ||
				strings.Contains(r[0].Error, srv.URL) {
				t.Errorf("results = %+v", r)
			}
		})
	}
}
