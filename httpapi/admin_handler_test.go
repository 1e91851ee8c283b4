package httpapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestAdminHandler tests which paths the second address serves, and that the first does not serve
// metrics then. Neither serves the command line, which may contain secrets.
func TestAdminHandler(t *testing.T) {
	for _, hide := range []bool{true, false} {
		h := newHarness(t, func(a *API) { a.HideMetrics = hide })
		admin := h.api.AdminHandler()
		for path, want := range map[string]struct{ admin, public int }{
			"/metrics":                 {200, map[bool]int{true: 404, false: 200}[hide]},
			"/healthz":                 {200, 200},
			"/readyz":                  {200, 200},
			"/debug/pprof/":            {200, 404},
			"/debug/pprof/heap":        {200, 404},
			"/debug/pprof/goroutine":   {200, 404},
			"/debug/pprof/cmdline":     {404, 404},
			"/v1/customers":            {404, 200},
			"/debug/pprof/nonexistent": {404, 404},
		} {
			w := httptest.NewRecorder()
			admin.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
			if w.Code != want.admin {
				t.Errorf("hide = %v: admin address: GET %s = %d, want %d", hide, path, w.Code, want.admin)
			}
			if got := h.request("GET", path, "").status; got != want.public {
				t.Errorf("hide = %v: public address: GET %s = %d, want %d", hide, path, got, want.public)
			}
		}
	}
}
