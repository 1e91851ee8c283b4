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
		"Empty":   {func(http.ResponseWriter, *http.Request) {}, 200, false},
		"Body":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<Response/>") }, 200, false},
		"Refusal": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, 403, false},
		"Stream": {func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "x")
		}, 0, true},
		"Cut": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, h := startFakeWebhooks(t, c.answer)
			cs, err := (&load{webhooks: []webhook{h}}).newConnections()
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time on the same connection, where it lives on
				status, err := cs[0].do(cs[0].write(nil, 1, 0))
				if (err != nil) != c.fails || err == nil && status != c.status {
					t.Errorf("%d, %v", status, err)
				}
			}
			cs[0].close()
		})
	}
}
