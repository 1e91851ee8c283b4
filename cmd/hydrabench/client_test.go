package main

import (
	"io"
	"net/http"
	"testing"
)

func TestClient_Do(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		status int
		fails  bool
	}{
		"empty body": {func(http.ResponseWriter, *http.Request) {}, 200, false},
		"body":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<Response/>") }, 200, false},
		"refused":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, 403, false},
		"no length": {func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "x")
		}, 0, true},
		"connection closed": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, h := startFakeWebhooks(t, c.answer)
			cs, err := (&load{webhooks: []webhook{h}}).newConnections()
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time on the same connection, if it is reusable
				status, err := cs[0].do(cs[0].write(nil, 1, 0))
				if (err != nil) != c.fails || err == nil && status != c.status {
					t.Errorf("do = %d, %v, want status %d, error %v", status, err, c.status, c.fails)
				}
			}
			cs[0].close()
		})
	}
}
