package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// mountDocs serves the OpenAPI documents and a page to browse them, which loads nothing from other
// hosts.
func (a *API) mountDocs(mux *http.ServeMux, doc *huma.OpenAPI) {
	document, err := json.Marshal(doc)
	mux.HandleFunc("GET /openapi.json", a.documentHandler(document, err))
	document, err = downgrade(doc)
	mux.HandleFunc("GET /openapi-3.0.json", a.documentHandler(document, err))
	docs := v5emb.NewWithConfig(swgui.Config{
		AppendHead: `<meta name="viewport" content="width=device-width, initial-scale=1">`,
		SettingsUI: map[string]string{"persistAuthorization": "true"},
	})("Hydragate", "/openapi.json", "/docs/")
	policy := docsPolicy(docs)
	page := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		docs.ServeHTTP(w, r)
	}
	mux.HandleFunc("GET /docs", page)
	mux.HandleFunc("GET /docs/", page)
}

// documentHandler serves an OpenAPI document, or an error if it could not be generated.
func (a *API) documentHandler(document []byte, err error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err != nil {
			a.responder.ProblemFor(r.Context(), err).Write(w)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
	}
}

// docsPolicy returns the Content-Security-Policy of the page. It allows the inline scripts of the
// page by their hash.
func docsPolicy(docs http.Handler) string {
	r, _ := http.NewRequest(http.MethodGet, "/docs/", nil) // a constant URL: cannot fail
	page := &responseBuffer{header: http.Header{}}
	docs.ServeHTTP(page, r)
	scripts := []string{"'self'"}
	for _, m := range inlineScript.FindAllSubmatch(page.body.Bytes(), -1) {
		sum := sha256.Sum256(m[1])
		scripts = append(scripts, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	return "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src " +
		strings.Join(
			scripts,
			" ",
		) + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// A responseBuffer is a ResponseWriter that buffers the body.
type responseBuffer struct {
	header http.Header
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (b *responseBuffer) Header() http.Header { return b.header }

// WriteHeader implements http.ResponseWriter.
func (b *responseBuffer) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (b *responseBuffer) Write(p []byte) (int, error) { return b.body.Write(p) }
