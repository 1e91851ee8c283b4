//go:build unix

package main

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
)

// bothLogs gives a logger that writes each record as JSON and as text.
func bothLogs(asJSON, asText io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	return slog.New(twice{slog.NewJSONHandler(asJSON, options), slog.NewTextHandler(asText, options)})
}

type twice [2]slog.Handler

func (h twice) Enabled(context.Context, slog.Level) bool { return true }

func (h twice) Handle(ctx context.Context, r slog.Record) error {
	if err := h[0].Handle(ctx, r.Clone()); err != nil {
		return err
	}
	return h[1].Handle(ctx, r)
}

func (h twice) WithAttrs(as []slog.Attr) slog.Handler {
	return twice{h[0].WithAttrs(as), h[1].WithAttrs(as)}
}
func (h twice) WithGroup(name string) slog.Handler {
	return twice{h[0].WithGroup(name), h[1].WithGroup(name)}
}

// TestWhatStrangersWriteIsData writes every text of the corpus into every field, every
// parameter and every path of every route. It comes back as it was sent, or is refused
// as the caller's fault; nothing else happens, and every line of the log stays a line.
func TestWhatStrangersWriteIsData(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			var asJSON, asText safeBuffer
			h := newAPIHouse(t, engine, bothLogs(&asJSON, &asText))
			i := &injector{apiHouse: h}
			strange := h.furnish(strangeTenant)
			tables, theirs := h.tables(), i.rowsOf(strange)
			for n, op := range h.ops {
				if !h.spared(n) {
					i.paths(op)
					i.queries(op)
				}
			}
			for n, op := range h.ops {
				if !h.spared(n) || op.id == "create_customer" {
					i.fields(op)
				}
			}
			stages := h.stages(func(op *apiOp) bool { return op.body != nil })
			before := h.everyRow("")
			for _, s := range stages {
				i.whole(s.op, s.right)
			}
			h.unchanged(before)
			if !slices.Equal(tables, h.tables()) {
				t.Errorf("tables were %v and are %v", tables, h.tables())
			}
			if row := differing(theirs, i.rowsOf(strange)); row != "" {
				t.Errorf("of another tenant: %s", row)
			}
			i.lines(asJSON.String(), asText.String())
			i.sheets()
			t.Logf("%d texts in paths, %d in queries, %d in fields, %d whole bodies: %d kept as they were, %d refused, 0 else; slowest %s", i.inPaths, i.inQueries, i.inFields, i.wholes, i.kept, i.refused, i.slowest.Round(time.Millisecond))
		})
	}
}

// An injector counts what it does.
type injector struct {
	*apiHouse
	inPaths, inQueries, inFields, bodies, kept, refused int
	places, wholes                                      int
	slowest                                             time.Duration
}

// rowsOf gives every row in which another tenant is named.
func (i *injector) rowsOf(strange things) []string {
	return slices.DeleteFunc(i.everyRow(""), func(row string) bool { return !strings.Contains(row, strange.tenant) })
}

// ask sends a call that must be answered by what the caller did.
func (i *injector) ask(what string, c apiCall) said {
	i.t.Helper()
	begun := time.Now()
	a := i.send(c)
	i.slowest = max(i.slowest, time.Since(begun))
	if a.status >= 500 || a.status < 200 || a.status/100 == 3 {
		i.t.Errorf("%s: %d %.300s", what, a.status, a.body)
	}
	if a.header.Get("X-Injected") != "" || a.header.Get("Set-Cookie") != "" {
		i.t.Errorf("%s: %v", what, a.header)
	}
	return a
}

// some gives the texts for one place: all of them in a long run; else every fortieth,
// others in each place.
func (i *injector) some(lists ...[]string) []string {
	const apart = 40
	all := slices.Concat(lists...)
	if long() {
		return all
	}
	i.places++
	var some []string
	for n := i.places % apart; n < len(all); n += apart {
		some = append(some, all[n])
	}
	return some
}

func (i *injector) paths(op *apiOp) {
	th := i.furnish(proofTenant)
	right := i.clean(op, th)
	ids := op.ids(i.t, th)
	for name := range ids {
		if !strings.Contains(op.path, "{"+name+"}") {
			continue
		}
		for _, text := range i.some(pathTexts(), sqlTexts()[:12], lineTexts()[:8]) {
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
				c.path = i.path(op, other)
				i.inPaths++
				a := i.ask(fmt.Sprintf("%s, path %q", op.id, spelling), c)
				if a.status < 400 && !i.leadsElsewhere(c) {
					i.t.Errorf("%s, path %q: %d %.300s", op.id, spelling, a.status, a.body)
				}
				i.refused++
			}
		}
	}
}

// leadsElsewhere reports whether the path of a call is one of another operation that
// needs none of the ids.
func (i *injector) leadsElsewhere(c apiCall) bool {
	path, _, _ := strings.Cut(c.path, "?")
	return slices.ContainsFunc(i.ops, func(op *apiOp) bool { return op.method == c.method && op.path == path })
}

func (i *injector) queries(op *apiOp) {
	th := i.furnish(proofTenant)
	for _, p := range op.params {
		if p.In == "path" {
			continue
		}
		for _, text := range i.some(sqlTexts(), likeTexts(), lineTexts(), pathTexts()) {
			c := i.clean(op, th)
			at, err := url.Parse(c.path)
			i.must(err)
			if p.In == "header" {
				if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
					continue // no client sends it as a header
				}
				c.header.Set(p.Name, text)
				c.body = strings.Replace(c.body, "{", `{"zzz":1,`, 1)
				if op.body == nil {
					continue // it would be done
				}
			} else {
				q := at.Query()
				q.Set(p.Name, text)
				if op.id == "search_user" {
					q = url.Values{p.Name: {text}}
				}
				c.path = at.Path + "?" + q.Encode()
			}
			i.inQueries++
			a := i.ask(fmt.Sprintf("%s, %s %q", op.id, p.Name, text), c)
			if a.status >= 400 {
				i.refused++
				continue
			}
			i.kept++
			if op.method != http.MethodGet || !p.Schema.is("string") || len(p.Schema.Enum) > 0 {
				continue
			}
			// What nobody is called finds nobody. A channel alone is no question, and any id
			// is a place to go on from.
			if p.Name == "channel" || p.Name == "cursor" {
				continue
			}
			if !strings.Contains(a.body, `"items":[]`) && a.body != "[]" {
				i.t.Errorf("%s by %s %q: %.300s", op.id, p.Name, text, a.body)
			}
		}
	}
}

func (i *injector) fields(op *apiOp) {
	if op.body == nil {
		return
	}
	th := i.furnish(proofTenant)
	for _, name := range sortedNames(op.body.Properties) {
		schema := op.body.Properties[name]
		for _, text := range i.some(sqlTexts(), likeTexts(), lineTexts(), pathTexts()) {
			if !utf8.ValidString(text) {
				continue // in brokenTexts
			}
			i.field(op, th, name, text, i.json(text))
			if schema.is("object") {
				i.field(op, th, name, text, i.json(map[string]any{text: text, "list": []string{text}}))
			}
			if schema.is("array") {
				i.field(op, th, name, text, i.json([]string{text}))
			}
		}
		for _, raw := range i.some(brokenTexts()) {
			i.field(op, th, name, "", raw)
		}
	}
}

// field sends a body in which one field is raw JSON.
func (i *injector) field(op *apiOp, th things, name, text, raw string) {
	c := i.clean(op, th)
	var fields map[string]json.RawMessage
	i.must(json.Unmarshal([]byte(c.body), &fields))
	delete(fields, name)
	c.body = strings.Replace(i.json(fields), "{", "{"+i.json(name)+":"+raw+",", 1)
	c.body = strings.Replace(c.body, ",}", "}", 1)
	before := i.count(op.table())
	i.inFields++
	a := i.ask(fmt.Sprintf("%s, %s %.200q", op.id, name, raw), c)
	made := i.count(op.table()) - before
	if a.status >= 400 {
		i.refused++
		if made != 0 {
			i.t.Errorf("%s, %s %.200q: refused, and yet %d rows", op.id, name, raw, made)
		}
		return
	}
	i.kept++
	if strings.Contains(strings.ToLower(raw), `"\ud`) || strings.Contains(raw, `"a\ud`) {
		i.t.Errorf("%s, %s: half a character was taken: %s", op.id, name, raw)
	}
	if made > 1 {
		i.t.Errorf("%s, %s %.200q: %d rows", op.id, name, raw, made)
	}
	var answer map[string]json.RawMessage
	if a.body == "" || json.Unmarshal([]byte(a.body), &answer) != nil {
		return
	}
	var sent, got any
	if back, shown := answer[name]; !shown || json.Unmarshal(back, &got) != nil || json.Unmarshal([]byte(raw), &sent) != nil {
		return
	}
	if i.json(got) != i.json(sent) && !respelt(op.body.Properties[name], name, sent, got) {
		i.t.Errorf("%s, %s: sent %.200q, came back as %s", op.id, name, raw, i.json(got))
	}
}

// respelt reports whether a value is kept in the one spelling of its kind, or as nothing
// when it is empty.
func respelt(s *apiSchema, name string, sent, got any) bool {
	was, _ := sent.(string)
	is, isText := got.(string)
	switch {
	case was == "" && got == nil, s.is("boolean"), s.is("integer"):
		return true
	case name == "external_id" || name == "value" || name == "fkId" || name == "email" || name == "phoneNumber":
		return isText && is == strings.TrimSpace(was) || got == nil && strings.TrimSpace(was) == ""
	case s.Format != "" || name == "contactIdentityType":
		return isText && strings.EqualFold(is, was)
	}
	return false
}

// table is where a call of the operation may leave one row.
func (op *apiOp) table() string {
	for _, names := range [][2]string{{"user", "customers"}, {"customer", "customers"}, {"instance", "instances"}, {"key", "api_keys"}, {"set_up", "endpoints"}} {
		if strings.Contains(op.id, names[0]) {
			return names[1]
		}
	}
	return "identities"
}

func (i *injector) whole(op *apiOp, right apiCall) {
	broken := brokenBodies()
	for n, why := range sortedNames(broken) {
		if !long() && (n+i.bodies)%5 != 0 || i.spared(n) {
			i.bodies++
			continue
		}
		c := right
		c.body = broken[why]
		i.bodies++
		begun := time.Now()
		a := i.ask(op.id+", "+why, c)
		if err := op.refusal(a, 400, 413, 415, 422); err != nil {
			i.t.Errorf("%s, %s: %v", op.id, why, err)
		}
		if took := time.Since(begun); took > 3*time.Second {
			i.t.Errorf("%s, %s: refused after %s", op.id, why, took)
		}
		if len(a.body) > 20_000 {
			i.t.Errorf("%s, %s: an answer of %d bytes", op.id, why, len(a.body))
		}
		i.refused++
		i.wholes++
	}
}

// lines holds both logs to one record a line, whatever was in the requests.
func (i *injector) lines(asJSON, asText string) {
	lines := strings.Split(strings.TrimSuffix(asJSON, "\n"), "\n")
	others := strings.Split(strings.TrimSuffix(asText, "\n"), "\n")
	if len(lines) < i.inFields || len(lines) != len(others) {
		i.t.Errorf("%d lines of JSON, %d of text", len(lines), len(others))
	}
	for _, l := range lines {
		var r struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(l), &r); err != nil || r.Time == "" || r.Level == "" || r.Msg == "" || r.Msg == marker {
			i.t.Errorf("not a record: %q", l)
		}
	}
	for _, l := range others {
		if !strings.HasPrefix(l, "time=") || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b }) || strings.HasPrefix(l, "time=2026-01-01T") {
			i.t.Errorf("not a record: %q", l)
		}
	}
	if strings.Contains(asJSON, marker) || strings.Contains(asText, marker) {
		i.t.Error("a text of a request is in the log")
	}
	i.t.Logf("%d lines in each log", len(lines))
}

// sheets holds every cell of both CSV exports to what no spreadsheet runs.
func (i *injector) sheets() {
	for _, kind := range []string{"=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1"} {
		i.exec(`insert into audit_events (id, tenant_id, at, kind, actor, detail) values ($1, $2, $3, $4, $4, '{}')`, randomID(), proofTenant, time.Now().UTC(), kind)
	}
	a := i.as(i.admin, "GET", "/v1/audit?format=csv", "")
	cells, armed := i.cells(a.body)
	if cells == 0 || armed < 14 { // fourteen were just planted
		i.t.Errorf("the audit log has %d cells, %d of them formulas", cells, armed)
	}
	var out bytes.Buffer
	n, err := (&exportCmd{Format: formatCSV}).export(i.t.Context(), i.store, &out, progressOn(io.Discard))
	i.must(err)
	more, armedToo := i.cells(out.String())
	if n == 0 || armedToo == 0 && !i.spared(1) {
		i.t.Errorf("%d customers have %d cells, %d of them formulas", n, more, armedToo)
	}
	i.t.Logf("%d cells of CSV, %d began like a formula and are text", cells+more, armed+armedToo)
}

// cells counts the cells of a sheet, and those that were made text.
func (i *injector) cells(sheet string) (all, armed int) {
	rows, err := csv.NewReader(strings.NewReader(sheet)).ReadAll()
	i.must(err)
	for _, row := range rows {
		for _, cell := range row {
			all++
			if cell == "" {
				continue
			}
			if strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
				i.t.Errorf("a cell is a formula: %q", cell)
			}
			if cell[0] == '\'' {
				armed++
			}
		}
	}
	return all, armed
}
