package api

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
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

// newTeeLogger gives a logger that writes each record as JSON and as text.
func newTeeLogger(asJSON, asText io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	return slog.New(teeHandler{slog.NewJSONHandler(asJSON, options), slog.NewTextHandler(asText, options)})
}

type teeHandler [2]slog.Handler

func (h teeHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h teeHandler) Handle(ctx context.Context, r slog.Record) error {
	if err := h[0].Handle(ctx, r.Clone()); err != nil {
		return err
	}
	return h[1].Handle(ctx, r)
}

func (h teeHandler) WithAttrs(as []slog.Attr) slog.Handler {
	return teeHandler{h[0].WithAttrs(as), h[1].WithAttrs(as)}
}

func (h teeHandler) WithGroup(name string) slog.Handler {
	return teeHandler{h[0].WithGroup(name), h[1].WithGroup(name)}
}

// TestInjection writes every text of the corpus into every field, every
// parameter and every path of every route. It comes back as it was sent, or is refused
// as the caller's fault; nothing else happens, and every line of the log stays a line.
func TestInjection(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			var asJSON, asText harness.LockedBuffer
			h := harness.NewAPIFixture(t, engine, newTeeLogger(&asJSON, &asText))
			i := &injector{APIFixture: h}
			strange := h.CreateEntities(harness.OtherTenantID)
			tables, theirs := h.Tables(), i.tenantRows(strange)
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
				t.Errorf("tables were %v and are %v", tables, h.Tables())
			}
			if row := harness.DiffRows(theirs, i.tenantRows(strange)); row != "" {
				t.Errorf("of another tenant: %s", row)
			}
			i.checkLogLines(asJSON.String(), asText.String())
			i.checkCSVExports()
			t.Logf("%d texts in paths, %d in queries, %d in fields, %d whole bodies: %d kept as they were, %d refused, 0 else; slowest %s", i.inPaths, i.inQueries, i.inFields, i.brokenBodyCount, i.accepted, i.rejected, i.slowest.Round(time.Millisecond))
		})
	}
}

// An injector counts what it does.
type injector struct {
	*harness.APIFixture
	inPaths, inQueries, inFields, bodyIndex, accepted, rejected int
	samplePlaces, brokenBodyCount                               int
	slowest                                                     time.Duration
}

// tenantRows gives every row in which another tenant is named.
func (i *injector) tenantRows(strange harness.Entities) []string {
	return slices.DeleteFunc(i.AllRows(""), func(row string) bool { return !strings.Contains(row, strange.TenantID) })
}

// sendChecked sends a call that must be answered by what the caller did.
func (i *injector) sendChecked(what string, c harness.APIRequest) harness.Response {
	i.T.Helper()
	begun := time.Now()
	a := i.Send(c)
	i.slowest = max(i.slowest, time.Since(begun))
	if a.Status >= 500 || a.Status < 200 || a.Status/100 == 3 {
		i.T.Errorf("%s: %d %.300s", what, a.Status, a.Body)
	}
	if a.Header.Get("X-Injected") != "" || a.Header.Get("Set-Cookie") != "" {
		i.T.Errorf("%s: %v", what, a.Header)
	}
	return a
}

// sample gives the texts for one place: all of them in a long run; else every fortieth,
// others in each place.
func (i *injector) sample(lists ...[]string) []string {
	const apart = 40
	all := slices.Concat(lists...)
	if harness.FullRun() {
		return all
	}
	i.samplePlaces++
	var some []string
	for n := i.samplePlaces % apart; n < len(all); n += apart {
		some = append(some, all[n])
	}
	return some
}

func (i *injector) testPaths(op *harness.APIOperation) {
	th := i.CreateEntities(harness.TestTenantID)
	right := i.ValidRequest(op, th)
	ids := op.PathIDs(i.T, th)
	for name := range ids {
		if !strings.Contains(op.Path, "{"+name+"}") {
			continue
		}
		for _, text := range i.sample(harness.PathInputs(), harness.SQLInputs()[:12], harness.LineBreakInputs()[:8]) {
			for _, spelling := range []string{url.PathEscape(text), strings.NewReplacer("?", "%3f", "#", "%23", " ", "+").Replace(text)} {
				if strings.ContainsAny(spelling, "\x00\r\n\t\xff\x7f ") || !utf8.ValidString(spelling) || strings.Contains(spelling, "%zz") || strings.HasSuffix(spelling, "%") || strings.ContainsAny(spelling, "\x1b{") {
					continue // no client sends it as a path
				}
				if _, err := url.ParseRequestURI("http://127.0.0.1/" + spelling); err != nil {
					continue
				}
				other := maps.Clone(ids)
				other[name] = spelling
				c := right
				c.Path = i.PathOf(op, other)
				i.inPaths++
				a := i.sendChecked(fmt.Sprintf("%s, path %q", op.ID, spelling), c)
				if a.Status < 400 && !i.matchesOtherRoute(c) {
					i.T.Errorf("%s, path %q: %d %.300s", op.ID, spelling, a.Status, a.Body)
				}
				i.rejected++
			}
		}
	}
}

// matchesOtherRoute reports whether the path of a call is one of another operation that
// needs none of the ids.
func (i *injector) matchesOtherRoute(c harness.APIRequest) bool {
	path, _, _ := strings.Cut(c.Path, "?")
	return slices.ContainsFunc(i.Operations, func(op *harness.APIOperation) bool { return op.Method == c.Method && op.Path == path })
}

func (i *injector) testQueries(op *harness.APIOperation) {
	th := i.CreateEntities(harness.TestTenantID)
	for _, p := range op.Params {
		if p.In == "path" {
			continue
		}
		for _, text := range i.sample(harness.SQLInputs(), harness.PatternInputs(), harness.LineBreakInputs(), harness.PathInputs()) {
			c := i.ValidRequest(op, th)
			at, err := url.Parse(c.Path)
			i.Must(err)
			if p.In == "header" {
				if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
					continue // no client sends it as a header
				}
				c.Header.Set(p.Name, text)
				c.Body = strings.Replace(c.Body, "{", `{"zzz":1,`, 1)
				if op.Body == nil {
					continue // it would be done
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
			// What nobody is called finds nobody. A channel alone is no question, and any id
			// is a place to go on from.
			if p.Name == "channel" || p.Name == "cursor" {
				continue
			}
			if !strings.Contains(a.Body, `"items":[]`) && a.Body != "[]" {
				i.T.Errorf("%s by %s %q: %.300s", op.ID, p.Name, text, a.Body)
			}
		}
	}
}

func (i *injector) testFields(op *harness.APIOperation) {
	if op.Body == nil {
		return
	}
	th := i.CreateEntities(harness.TestTenantID)
	for _, name := range harness.SortedKeys(op.Body.Properties) {
		schema := op.Body.Properties[name]
		for _, text := range i.sample(harness.SQLInputs(), harness.PatternInputs(), harness.LineBreakInputs(), harness.PathInputs()) {
			if !utf8.ValidString(text) {
				continue // in brokenTexts
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

// testField sends a body in which one field is raw JSON.
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
	made := i.RowCount(affectedTable(op)) - before
	if a.Status >= 400 {
		i.rejected++
		if made != 0 {
			i.T.Errorf("%s, %s %.200q: refused, and yet %d rows", op.ID, name, raw, made)
		}
		return
	}
	i.accepted++
	if strings.Contains(strings.ToLower(raw), `"\ud`) || strings.Contains(raw, `"a\ud`) {
		i.T.Errorf("%s, %s: half a character was taken: %s", op.ID, name, raw)
	}
	if made > 1 {
		i.T.Errorf("%s, %s %.200q: %d rows", op.ID, name, raw, made)
	}
	var answer map[string]json.RawMessage
	if a.Body == "" || json.Unmarshal([]byte(a.Body), &answer) != nil {
		return
	}
	var sent, got any
	if back, shown := answer[name]; !shown || json.Unmarshal(back, &got) != nil || json.Unmarshal([]byte(raw), &sent) != nil {
		return
	}
	if i.EncodeJSON(got) != i.EncodeJSON(sent) && !isNormalized(op.Body.Properties[name], name, sent, got) {
		i.T.Errorf("%s, %s: sent %.200q, came back as %s", op.ID, name, raw, i.EncodeJSON(got))
	}
}

// isNormalized reports whether a value is kept in the one spelling of its kind, or as nothing
// when it is empty.
func isNormalized(s *harness.APISchema, name string, sent, got any) bool {
	was, _ := sent.(string)
	is, isText := got.(string)
	switch {
	case was == "" && got == nil, s.IsType("boolean"), s.IsType("integer"):
		return true
	case name == "external_id" || name == "value" || name == "fkId" || name == "email" || name == "phoneNumber":
		return isText && is == strings.TrimSpace(was) || got == nil && strings.TrimSpace(was) == ""
	case s.Format != "" || name == "contactIdentityType":
		return isText && strings.EqualFold(is, was)
	}
	return false
}

// affectedTable is where a call of the operation may leave one row.
func affectedTable(op *harness.APIOperation) string {
	for _, names := range [][2]string{{"user", "customers"}, {"customer", "customers"}, {"instance", "instances"}, {"key", "api_keys"}, {"set_up", "endpoints"}} {
		if strings.Contains(op.ID, names[0]) {
			return names[1]
		}
	}
	return "identities"
}

func (i *injector) testBrokenBodies(op *harness.APIOperation, right harness.APIRequest) {
	broken := harness.BrokenBodies()
	for n, why := range harness.SortedKeys(broken) {
		if !harness.FullRun() && (n+i.bodyIndex)%5 != 0 || i.SkippedInShortRun(n) {
			i.bodyIndex++
			continue
		}
		c := right
		c.Body = broken[why]
		i.bodyIndex++
		begun := time.Now()
		a := i.sendChecked(op.ID+", "+why, c)
		if err := op.CheckRejection(a, 400, 413, 415, 422); err != nil {
			i.T.Errorf("%s, %s: %v", op.ID, why, err)
		}
		if took := time.Since(begun); took > 3*time.Second {
			i.T.Errorf("%s, %s: refused after %s", op.ID, why, took)
		}
		if len(a.Body) > 20_000 {
			i.T.Errorf("%s, %s: an answer of %d bytes", op.ID, why, len(a.Body))
		}
		i.rejected++
		i.brokenBodyCount++
	}
}

// checkLogLines holds both logs to one record a line, whatever was in the requests.
func (i *injector) checkLogLines(asJSON, asText string) {
	lines := strings.Split(strings.TrimSuffix(asJSON, "\n"), "\n")
	others := strings.Split(strings.TrimSuffix(asText, "\n"), "\n")
	if len(lines) < i.inFields || len(lines) != len(others) {
		i.T.Errorf("%d lines of JSON, %d of text", len(lines), len(others))
	}
	for _, l := range lines {
		var r struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(l), &r); err != nil || r.Time == "" || r.Level == "" || r.Msg == "" || r.Msg == harness.InjectionMarker {
			i.T.Errorf("not a record: %q", l)
		}
	}
	for _, l := range others {
		if !strings.HasPrefix(l, "time=") || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b }) || strings.HasPrefix(l, "time=2026-01-01T") {
			i.T.Errorf("not a record: %q", l)
		}
	}
	if strings.Contains(asJSON, harness.InjectionMarker) || strings.Contains(asText, harness.InjectionMarker) {
		i.T.Error("a text of a request is in the log")
	}
	i.T.Logf("%d lines in each log", len(lines))
}

// checkCSVExports holds every cell of both CSV exports to what no spreadsheet runs.
func (i *injector) checkCSVExports() {
	for _, kind := range []string{"=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1"} {
		i.Exec(`insert into audit_events (id, tenant_id, at, kind, actor, detail) values ($1, $2, $3, $4, $4, '{}')`, harness.RandomID(), harness.TestTenantID, time.Now().UTC(), kind)
	}
	a := i.CallAs(i.AdminKey, "GET", "/v1/audit?format=csv", "")
	cells, armed := i.countCells(a.Body)
	if cells == 0 || armed < 14 { // fourteen were just planted
		i.T.Errorf("the audit log has %d cells, %d of them formulas", cells, armed)
	}
	var out bytes.Buffer
	n, err := bulk.Write(i.T.Context(), i.Store, &out, bulk.FormatCSV, func(int) {})
	i.Must(err)
	more, armedToo := i.countCells(out.String())
	if n == 0 || armedToo == 0 && !i.SkippedInShortRun(1) {
		i.T.Errorf("%d customers have %d cells, %d of them formulas", n, more, armedToo)
	}
	i.T.Logf("%d cells of CSV, %d began like a formula and are text", cells+more, armed+armedToo)
}

// countCells counts the cells of a sheet, and those that were made text.
func (i *injector) countCells(sheet string) (all, armed int) {
	rows, err := csv.NewReader(strings.NewReader(sheet)).ReadAll()
	i.Must(err)
	for _, row := range rows {
		for _, cell := range row {
			all++
			if cell == "" {
				continue
			}
			if strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
				i.T.Errorf("a cell is a formula: %q", cell)
			}
			if cell[0] == '\'' {
				armed++
			}
		}
	}
	return all, armed
}
