package api

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"hydragate/cmd/hydragate/bulk"
	"hydragate/e2e/harness"
)

// TestInjection sends hostile texts in every path, parameter and body field of every route. It
// checks that each text is returned unchanged or rejected with a 4xx status, that nothing else
// changes, and that every log record stays on one line.
func TestInjection(t *testing.T) {
	for _, engine := range []harness.Engine{harness.SQLite, harness.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			t.Parallel()
			var asJSON, asText harness.LockedBuffer
			options := &slog.HandlerOptions{Level: slog.LevelDebug}
			h := harness.NewAPIFixture(t, harness.Options{Engine: engine, APIOnly: true, Log: slog.New(slog.NewMultiHandler(
				slog.NewJSONHandler(&asJSON, options), slog.NewTextHandler(&asText, options)))})
			i := &injector{APIFixture: h}
			otherTenant := h.CreateEntities(harness.OtherTenantID)
			tables, otherRows := h.Tables(), i.tenantRows(otherTenant)
			for n, op := range h.Operations {
				if !h.SkippedInShortRun(n) {
					i.testPaths(op)
					i.testQueries(op)
				}
			}
			for n, op := range h.Operations {
				if !h.SkippedInShortRun(n) || op.ID == "create_customer" {
					i.testFields(op)
				}
			}
			stages := h.PrepareAll(func(op *harness.APIOperation) bool { return op.Body != nil })
			before := h.AllRows("")
			for _, s := range stages {
				i.testBrokenBodies(s.Operation, s.Request)
			}
			h.RequireUnchanged(before)
			if !slices.Equal(tables, h.Tables()) {
				t.Errorf("tables = %v, want %v", h.Tables(), tables)
			}
			if row := harness.DiffRows(otherRows, i.tenantRows(otherTenant)); row != "" {
				t.Errorf("a row of another tenant changed: %s", row)
			}
			i.checkLogLines(asJSON.String(), asText.String())
			i.checkCSVExports()
			t.Logf("%d texts in paths, %d in queries, %d in fields, %d bodies: %d accepted unchanged, %d rejected; slowest %s",
				i.inPaths, i.inQueries, i.inFields, i.brokenBodyCount, i.accepted, i.rejected,
				i.slowest.Round(time.Millisecond))
		})
	}
}

// An injector sends hostile input and counts the requests and their outcomes.
type injector struct {
	*harness.APIFixture
	inPaths, inQueries, inFields, bodyIndex, accepted, rejected int
	samplePlaces, brokenBodyCount                               int
	slowest                                                     time.Duration
}

// tenantRows returns the rows that contain the ID of the tenant of otherTenant.
func (i *injector) tenantRows(otherTenant harness.Entities) []string {
	return slices.DeleteFunc(i.AllRows(""), func(row string) bool {
		return !strings.Contains(row, otherTenant.TenantID)
	})
}

// sendChecked sends a request and checks that the response is a success or a client error without
// injected headers.
func (i *injector) sendChecked(what string, c harness.APIRequest) harness.Response {
	i.T.Helper()
	start := time.Now()
	a := i.Send(c)
	i.slowest = max(i.slowest, time.Since(start))
	if a.Status >= 500 || a.Status < 200 || a.Status/100 == 3 {
		i.T.Errorf("%s: status = %d %.300s, want 2xx or 4xx", what, a.Status, a.Body)
	}
	if a.Header.Get("X-Injected") != "" || a.Header.Get("Set-Cookie") != "" {
		i.T.Errorf("%s: response with injected headers %v", what, a.Header)
	}
	return a
}

// sample returns the texts to send in one place: all of them in a full run, otherwise every
// fortieth, with a different offset for each place.
func (i *injector) sample(lists ...[]string) []string {
	const step = 40
	all := slices.Concat(lists...)
	if harness.FullRun() {
		return all
	}
	i.samplePlaces++
	var texts []string
	for n := i.samplePlaces % step; n < len(all); n += step {
		texts = append(texts, all[n])
	}
	return texts
}

// testPaths sends hostile texts as each ID in the path of op.
func (i *injector) testPaths(op *harness.APIOperation) {
	th := i.CreateEntities(harness.TestTenantID)
	valid := i.ValidRequest(op, th)
	ids := op.PathIDs(i.T, th)
	for name := range ids {
		if !strings.Contains(op.Path, "{"+name+"}") {
			continue
		}
		for _, text := range i.sample(harness.PathInputs(), harness.SQLInputs()[:12], harness.LineBreakInputs()[:8]) {
			partlyEscaped := strings.NewReplacer("?", "%3f", "#", "%23", " ", "+").Replace(text)
			for _, escaped := range []string{url.PathEscape(text), partlyEscaped} {
				if !isSendablePath(escaped) {
					continue
				}
				other := maps.Clone(ids)
				other[name] = escaped
				c := valid
				c.Path = i.PathOf(op, other)
				i.inPaths++
				a := i.sendChecked(fmt.Sprintf("%s, path %q", op.ID, escaped), c)
				if a.Status < 400 && !i.matchesOtherRoute(c) {
					i.T.Errorf("%s, path %q: status = %d %.300s, want 4xx", op.ID, escaped, a.Status, a.Body)
				}
				i.rejected++
			}
		}
	}
}

// isSendablePath reports whether an HTTP client can send s in a path.
func isSendablePath(s string) bool {
	if strings.ContainsAny(s, "\x00\r\n\t\x7f \x1b{") || !utf8.ValidString(s) {
		return false
	}
	if strings.Contains(s, "%zz") || strings.HasSuffix(s, "%") {
		return false
	}
	_, err := url.ParseRequestURI("http://127.0.0.1/" + s)
	return err == nil
}

// matchesOtherRoute reports whether the path of a request is that of another operation without
// parameters.
func (i *injector) matchesOtherRoute(c harness.APIRequest) bool {
	path, _, _ := strings.Cut(c.Path, "?")
	return slices.ContainsFunc(i.Operations, func(op *harness.APIOperation) bool {
		return op.Method == c.Method && op.Path == path
	})
}

// testQueries sends hostile texts as each query parameter and header of op.
func (i *injector) testQueries(op *harness.APIOperation) {
	th := i.CreateEntities(harness.TestTenantID)
	for _, p := range op.Params {
		if p.In == "path" {
			continue
		}
		for _, text := range i.sample(harness.SQLInputs(), harness.PatternInputs(), harness.LineBreakInputs(),
			harness.PathInputs()) {
			c := i.ValidRequest(op, th)
			at, err := url.Parse(c.Path)
			i.Must(err)
			if p.In == "header" {
				if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
					continue // a client cannot send it in a header
				}
				c.Header.Set(p.Name, text)
				c.Body = strings.Replace(c.Body, "{", `{"zzz":1,`, 1)
				if op.Body == nil {
					continue // the request would be valid
				}
			} else {
				q := at.Query()
				q.Set(p.Name, text)
				if op.ID == "external_search_user" {
					q = url.Values{p.Name: {text}}
				}
				c.Path = at.Path + "?" + q.Encode()
			}
			i.inQueries++
			a := i.sendChecked(fmt.Sprintf("%s, %s %q", op.ID, p.Name, text), c)
			if a.Status >= 400 {
				i.rejected++
				continue
			}
			i.accepted++
			if op.Method != http.MethodGet || !p.Schema.IsType("string") || len(p.Schema.Enum) > 0 {
				continue
			}
			// A search for an unknown value returns nothing. A channel alone does not filter, and
			// any ID is a valid cursor.
			if p.Name == "channel" || p.Name == "cursor" {
				continue
			}
			if !strings.Contains(a.Body, `"items":[]`) && a.Body != "[]" {
				i.T.Errorf("%s by %s %q = %.300s, want no items", op.ID, p.Name, text, a.Body)
			}
		}
	}
}

// testFields sends hostile texts and invalid JSON strings as each body field of op.
func (i *injector) testFields(op *harness.APIOperation) {
	if op.Body == nil {
		return
	}
	th := i.CreateEntities(harness.TestTenantID)
	for _, name := range harness.SortedKeys(op.Body.Properties) {
		schema := op.Body.Properties[name]
		for _, text := range i.sample(harness.SQLInputs(), harness.PatternInputs(), harness.LineBreakInputs(),
			harness.PathInputs()) {
			if !utf8.ValidString(text) {
				continue // covered by harness.BrokenJSONStrings
			}
			i.testField(op, th, name, text, i.EncodeJSON(text))
			if schema.IsType("object") {
				i.testField(op, th, name, text, i.EncodeJSON(map[string]any{text: text, "list": []string{text}}))
			}
			if schema.IsType("array") {
				i.testField(op, th, name, text, i.EncodeJSON([]string{text}))
			}
		}
		for _, raw := range i.sample(harness.BrokenJSONStrings()) {
			i.testField(op, th, name, "", raw)
		}
	}
}

// testField sends a body in which one field is the JSON value raw, and checks that the field is
// returned unchanged or rejected.
func (i *injector) testField(op *harness.APIOperation, th harness.Entities, name, text, raw string) {
	c := i.ValidRequest(op, th)
	var fields map[string]json.RawMessage
	i.Must(json.Unmarshal([]byte(c.Body), &fields))
	delete(fields, name)
	c.Body = strings.Replace(i.EncodeJSON(fields), "{", "{"+i.EncodeJSON(name)+":"+raw+",", 1)
	c.Body = strings.Replace(c.Body, ",}", "}", 1)
	before := i.RowCount(affectedTable(op))
	i.inFields++
	a := i.sendChecked(fmt.Sprintf("%s, %s %.200q", op.ID, name, raw), c)
	created := i.RowCount(affectedTable(op)) - before
	if a.Status >= 400 {
		i.rejected++
		if created != 0 {
			i.T.Errorf("%s, %s %.200q: rejected, but created %d rows", op.ID, name, raw, created)
		}
		return
	}
	i.accepted++
	if strings.Contains(strings.ToLower(raw), `"\ud`) || strings.Contains(raw, `"a\ud`) {
		i.T.Errorf("%s, %s: accepted an unpaired surrogate: %s", op.ID, name, raw)
	}
	if created > 1 {
		i.T.Errorf("%s, %s %.200q: created %d rows, want at most 1", op.ID, name, raw, created)
	}
	var response map[string]json.RawMessage
	if a.Body == "" || json.Unmarshal([]byte(a.Body), &response) != nil {
		return
	}
	var sent, got any
	value, ok := response[name]
	if !ok || json.Unmarshal(value, &got) != nil || json.Unmarshal([]byte(raw), &sent) != nil {
		return
	}
	if i.EncodeJSON(got) != i.EncodeJSON(sent) && !isNormalized(op.Body.Properties[name], name, sent, got) {
		i.T.Errorf("%s, %s: sent %.200q, got %s", op.ID, name, raw, i.EncodeJSON(got))
	}
}

// isNormalized reports whether got is the normalized form of sent, or nil for an empty value.
func isNormalized(s *harness.APISchema, name string, sent, got any) bool {
	before, _ := sent.(string)
	after, isText := got.(string)
	switch {
	case before == "" && got == nil, s.IsType("boolean"), s.IsType("integer"):
		return true
	case name == "external_id" || name == "value" || name == "fkId" || name == "email" || name == "phoneNumber":
		return isText && after == strings.TrimSpace(before) || got == nil && strings.TrimSpace(before) == ""
	case s.Format != "" || name == "contactIdentityType":
		return isText && strings.EqualFold(after, before)
	}
	return false
}

// affectedTable returns the table in which an operation may create a row.
func affectedTable(op *harness.APIOperation) string {
	for _, t := range []struct{ operation, table string }{
		{"user", "customers"},
		{"customer", "customers"},
		{"instance", "instances"},
		{"key", "api_keys"},
		{"set_up", "endpoints"},
	} {
		if strings.Contains(op.ID, t.operation) {
			return t.table
		}
	}
	return "identities"
}

// maxBodyTime is the maximum time until a malformed body is rejected.
const maxBodyTime = 3 * time.Second

// testBrokenBodies sends malformed bodies to op and checks that each is rejected quickly with a
// short response.
func (i *injector) testBrokenBodies(op *harness.APIOperation, valid harness.APIRequest) {
	broken := harness.BrokenBodies()
	for n, kind := range harness.SortedKeys(broken) {
		if !harness.FullRun() && (n+i.bodyIndex)%5 != 0 || i.SkippedInShortRun(n) {
			i.bodyIndex++
			continue
		}
		c := valid
		c.Body = broken[kind]
		i.bodyIndex++
		var a harness.Response
		took := time.Hour
		for try := 0; try < 5 && took > maxBodyTime; try++ { // the machine may be busy
			start := time.Now()
			a = i.sendChecked(op.ID+", "+kind, c)
			took = min(took, time.Since(start))
		}
		if err := op.CheckRejection(a, 400, 413, 415, 422); err != nil {
			i.T.Errorf("%s, %s: %v", op.ID, kind, err)
		}
		if took > maxBodyTime {
			i.T.Errorf("%s, %s: rejected after %s, want at most %s", op.ID, kind, took, maxBodyTime)
		}
		if len(a.Body) > 20_000 {
			i.T.Errorf("%s, %s: response of %d bytes, want at most 20000", op.ID, kind, len(a.Body))
		}
		i.rejected++
		i.brokenBodyCount++
	}
}

// checkLogLines checks that both logs contain one record per line and no text of a request.
func (i *injector) checkLogLines(asJSON, asText string) {
	jsonLines := strings.Split(strings.TrimSuffix(asJSON, "\n"), "\n")
	textLines := strings.Split(strings.TrimSuffix(asText, "\n"), "\n")
	if len(jsonLines) < i.inFields || len(jsonLines) != len(textLines) {
		i.T.Errorf("log lines = %d as JSON, %d as text, want the same number and at least %d",
			len(jsonLines), len(textLines), i.inFields)
	}
	for _, l := range jsonLines {
		var r struct{ Time, Level, Msg string }
		err := json.Unmarshal([]byte(l), &r)
		if err != nil || r.Time == "" || r.Level == "" || r.Msg == "" || r.Msg == harness.InjectionMarker {
			i.T.Errorf("log line %q is not a record", l)
		}
	}
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b }
	for _, l := range textLines {
		if !strings.HasPrefix(l, "time=") || strings.ContainsFunc(l, isControl) || strings.HasPrefix(l, "time=2026-01-01T") {
			i.T.Errorf("log line %q is not a record", l)
		}
	}
	if strings.Contains(asJSON, harness.InjectionMarker) || strings.Contains(asText, harness.InjectionMarker) {
		i.T.Error("the log contains a text of a request")
	}
	i.T.Logf("%d lines in each log", len(jsonLines))
}

// checkCSVExports checks that no cell of the two CSV exports is a formula.
func (i *injector) checkCSVExports() {
	for _, kind := range []string{"=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1"} {
		i.Exec(`insert into audit_events (id, tenant_id, at, kind, actor, detail) values ($1, $2, $3, $4, $4, '{}')`,
			harness.RandomID(), harness.TestTenantID, time.Now().UTC(), kind)
	}
	a := i.CallAs(i.AdminKey, "GET", "/v1/audit?format=csv", "")
	cells, escaped := i.countCells(a.Body)
	if cells == 0 || escaped < 14 { // the loop above planted fourteen
		i.T.Errorf("audit log: cells = %d, escaped cells = %d, want at least 14 escaped", cells, escaped)
	}
	var out bytes.Buffer
	n, err := bulk.Write(i.T.Context(), i.Store, &out, bulk.FormatCSV, func(int) {})
	i.Must(err)
	customerCells, customerEscaped := i.countCells(out.String())
	if n == 0 || customerEscaped == 0 && !i.SkippedInShortRun(1) {
		i.T.Errorf("export of %d customers: cells = %d, escaped cells = %d, want at least 1 escaped",
			n, customerCells, customerEscaped)
	}
	i.T.Logf("%d CSV cells, %d escaped", cells+customerCells, escaped+customerEscaped)
}

// countCells returns the number of cells of a CSV file, and of those that are escaped as text.
func (i *injector) countCells(file string) (all, escaped int) {
	rows, err := csv.NewReader(strings.NewReader(file)).ReadAll()
	i.Must(err)
	for _, row := range rows {
		for _, cell := range row {
			all++
			if cell == "" {
				continue
			}
			if strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
				i.T.Errorf("cell %q is a formula", cell)
			}
			if cell[0] == '\'' {
				escaped++
			}
		}
	}
	return all, escaped
}
