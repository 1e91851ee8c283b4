package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/swaggest/swgui/v5emb"
)

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// nameOf names a Go type in the document: customerAnswer is Customer there.
func nameOf(t reflect.Type, hint string) string {
	return strings.ReplaceAll(huma.DefaultSchemaNamer(t, hint), "Answer", "")
}

// mountDocs serves the OpenAPI document, and a page to browse it that loads nothing
// from anywhere else.
func (a *API) mountDocs(mux *http.ServeMux, doc *huma.OpenAPI) {
	text, err := json.Marshal(doc)
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		if err != nil {
			a.fail(r.Context(), err).write(w)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text)
	})
	docs := v5emb.New("Hydragate", "/openapi.json", "/docs/")
	policy := docsPolicy(docs)
	page := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		docs.ServeHTTP(w, r)
	}
	mux.HandleFunc("GET /docs", page)
	mux.HandleFunc("GET /docs/", page)
}

// docsPolicy allows the page its own scripts, each by its hash, and nothing else.
func docsPolicy(docs http.Handler) string {
	r, _ := http.NewRequest(http.MethodGet, "/docs/", nil) // a constant URL: cannot fail
	page := &kept{header: http.Header{}}
	docs.ServeHTTP(page, r)
	scripts := []string{"'self'"}
	for _, m := range inlineScript.FindAllSubmatch(page.body.Bytes(), -1) {
		sum := sha256.Sum256(m[1])
		scripts = append(scripts, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	return "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src " +
		strings.Join(scripts, " ") + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// kept is a page that goes nowhere.
type kept struct {
	header http.Header
	body   bytes.Buffer
}

func (k *kept) Header() http.Header         { return k.header }
func (k *kept) WriteHeader(int)             {}
func (k *kept) Write(b []byte) (int, error) { return k.body.Write(b) }
