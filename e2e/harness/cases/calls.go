//go:build unix

package cases

import (
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"

	"hydragate/e2e/harness"
)

// A call is a call to a provider.
type call struct {
	text   string // what is searched for the sender
	fields map[string]any
}

// A recorder is a proxy in front of a simulated provider that records the calls and injects faults.
type recorder struct {
	URL string

	proxy  *httputil.ReverseProxy
	mu     sync.Mutex
	calls  []call
	faults []*armedFault
}

type armedFault struct {
	Fault
	persona persona
}

// newRecorder starts a proxy in front of the provider at target.
func newRecorder(t *testing.T, target string) *recorder {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	r.proxy = &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host = u.Scheme, u.Host
	}}
	r.URL = harness.ServeHTTP(t.Cleanup, r) + u.Path
	return r
}

// ServeHTTP records a call and forwards it, unless there is a fault for it.
func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	req.Body = io.NopCloser(strings.NewReader(string(body)))
	c := call{fields: callFields(req, body)}
	c.text = encode(c.fields) + req.URL.Path
	r.mu.Lock()
	r.calls = append(r.calls, c)
	f := r.popFault(c)
	r.mu.Unlock()
	if f == nil {
		r.proxy.ServeHTTP(w, req)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(max(f.Status, http.StatusOK))
	_, _ = w.Write(f.Body)
}

// popFault returns the fault for c, or nil. The caller must hold r.mu.
func (r *recorder) popFault(c call) *Fault {
	for _, f := range r.faults {
		if f.Times > 0 && f.Call == c.fields["call"] && f.persona.mentions(c.text) {
			f.Times--
			return &f.Fault
		}
	}
	return nil
}

func (r *recorder) arm(p persona, faults []Fault) {
	for _, f := range faults {
		f.Times = max(f.Times, 1)
		r.faults = append(r.faults, &armedFault{f, p})
	}
}

// callsOf returns the calls that mention a sender.
func (r *recorder) callsOf(p persona) (found []map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		if p.mentions(c.text) {
			found = append(found, c.fields)
		}
	}
	return found
}

// callFields returns the parameters of a call, and as "call" its method: the last element of the path,
// or "response_url" for a response to a Slack command or interaction.
func callFields(req *http.Request, body []byte) map[string]any {
	fields := map[string]any{}
	set := func(form url.Values) {
		for name, values := range form {
			var v any = values[0]
			if len(values) > 1 {
				v = values
			}
			fields[name] = v
		}
	}
	kind, options, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	switch kind {
	case "application/json":
		_ = json.Unmarshal(body, &fields) // the provider rejects it
	case "application/x-www-form-urlencoded":
		if form, err := url.ParseQuery(string(body)); err == nil {
			set(form)
		}
	case "multipart/form-data":
		form, err := multipart.NewReader(strings.NewReader(string(body)), options["boundary"]).ReadForm(4 << 20)
		if err == nil {
			set(form.Value)
		}
	}
	set(req.URL.Query())
	for name, v := range fields { // nested JSON in a parameter
		if s, ok := v.(string); ok && strings.HasPrefix(s, "{") {
			var nested any
			if json.Unmarshal([]byte(s), &nested) == nil {
				fields[name] = nested
			}
		}
	}
	fields["call"] = path.Base(req.URL.Path)
	if strings.Contains(req.URL.Path, "/response/") {
		fields["call"] = "response_url"
	}
	return fields
}
