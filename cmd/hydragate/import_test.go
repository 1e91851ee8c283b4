package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hydragate/cmd/hydragate/app"
	"hydragate/e2e/harness"
	"hydragate/identity"
	"hydragate/store/keyring"
)

// commandRunner runs commands on one database.
type commandRunner struct {
	t   *testing.T
	dsn []string // flags that select the database
}

// forEachEngine runs a test with the embedded database and with PostgreSQL. open returns a runner on
// a new database.
func forEachEngine(t *testing.T, test func(t *testing.T, open func() commandRunner)) {
	t.Run("sqlite", func(t *testing.T) {
		test(t, func() commandRunner { return newEmbeddedRunner(t) })
	})
	t.Run("postgres", func(t *testing.T) {
		test(t, func() commandRunner {
			return commandRunner{t, []string{
				"--database-url", harness.CreateDatabase(t, harness.TestPostgresURL(t)),
				"--master-keys", keyring.GenerateKey("test"), "--data-dir", t.TempDir(),
			}}
		})
	})
}

// newEmbeddedRunner returns a runner with an empty embedded database.
func newEmbeddedRunner(t *testing.T) commandRunner {
	t.Helper()
	b := commandRunner{t, []string{"--data-dir", t.TempDir()}}
	b.mustRun("", "migrate", "up")
	return b
}

// importedCustomers is more than an import stores in one transaction.
const importedCustomers = 1500

// run runs a command with the standard input in.
func (b commandRunner) run(in string, args ...string) (out, errOut string, err error) {
	var o, e bytes.Buffer
	err = run(context.Background(), append(args, b.dsn...), app.Console{In: strings.NewReader(in), Out: &o, Err: &e})
	return o.String(), e.String(), err
}

// mustRun is run for a command that must succeed. It returns the standard output.
func (b commandRunner) mustRun(in string, args ...string) string {
	b.t.Helper()
	out, errOut, err := b.run(in, args...)
	if err != nil {
		b.t.Fatalf("%v: %v\n%s%s", args, err, out, errOut)
	}
	return out
}

// TestImport_Examples imports the example files twice, after a dry run. The second import must
// change nothing, and both formats must have the same result.
func TestImport_Examples(t *testing.T) {
	harness.ParallelUnlessFull(t)
	forEachEngine(t, func(t *testing.T, open func() commandRunner) {
		var exported []string
		for _, file := range []string{"testdata/import/customers.csv", "testdata/import/customers.jsonl"} {
			b := open()
			const wantDry = "nothing was changed: 2 lines: 2 customers created"
			if out := b.mustRun("", "import", file, "--dry-run"); !strings.Contains(out, wantDry) {
				t.Fatalf("import %s --dry-run = %q, want %q", file, out, wantDry)
			}
			for _, want := range []string{
				"2 lines: 2 customers created, 0 updated, 4 identities linked",
				"2 lines: 0 customers created, 0 updated, 0 identities linked, 2 lines unchanged",
			} {
				if out := b.mustRun("", "import", file); !strings.HasPrefix(out, want) {
					t.Fatalf("import %s = %q, want %q", file, out, want)
				}
			}
			exported = append(exported, stripIDs(b.mustRun("", "export")))
		}
		if exported[0] != exported[1] {
			t.Errorf("imports of CSV and JSON Lines differ:\n%s\n%s", exported[0], exported[1])
		}
	})
}

// stripIDs removes the IDs, which differ between databases.
func stripIDs(jsonl string) string {
	var b strings.Builder
	for line := range strings.Lines(jsonl) {
		_, rest, _ := strings.Cut(line, `","`)
		b.WriteString(rest)
	}
	return b.String()
}

func TestExport_RoundTrip(t *testing.T) {
	harness.ParallelUnlessFull(t)
	const odd = `{"email":"steve@example.com","first_name":"=HYPERLINK(\"http://x\")","last_name":"'Example",` +
		`"company_name":"@SUM, \"A\"; B","metadata":{"a":[1,"ü"]},"context":"two\nlines","identities":[` +
		`{"channel":"telegram","external_id":"1","display_name":"-Steve"},` +
		`{"channel":"sms","external_id":"+61400111222","metadata":{"k":"v"}}]}
{"id":"0198a2f0-0000-7000-8000-000000000001","first_name":"Nobody"}
`
	forEachEngine(t, func(t *testing.T, open func() commandRunner) {
		first := open()
		first.mustRun(odd, "import", "-", "--format", "jsonl")
		lines := first.mustRun("", "export", "--format", "jsonl")
		file := filepath.Join(t.TempDir(), "out.csv")
		first.mustRun("", "export", "-o", file)
		if _, _, err := first.run("", "export", "-o", file); err == nil {
			t.Error("export overwrote a file")
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("Stat = %v, %v, want mode 0600", info, err)
		}
		sheet, _ := os.ReadFile(file)
		for _, cell := range strings.FieldsFunc(string(sheet), func(r rune) bool { return r == ',' || r == '\n' }) {
			if cell = strings.TrimPrefix(cell, `"`); cell != "" && strings.ContainsAny(cell[:1], "=+-@") {
				t.Errorf("cell %q is a formula in a spreadsheet", cell)
			}
		}
		for _, c := range [][]string{{lines, "import", "-", "--format", "jsonl"}, {"", "import", file}} {
			second := open()
			second.mustRun(c[0], c[1:]...)
			if got := second.mustRun("", "export", "--format", "jsonl"); got != lines {
				t.Errorf("export after %v:\n%s\nwant\n%s", c[1:], got, lines)
			}
		}
	})
}

func TestImport_InvalidLines(t *testing.T) {
	harness.ParallelUnlessFull(t)
	b := newEmbeddedRunner(t)
	future := time.Now().Add(time.Hour).Format(time.RFC3339)
	for name, c := range map[string]struct{ format, in, want string }{
		"invalid email": {"csv", "email\nnobody", "line 2: email: is not"},
		"several violations": {
			"csv", "email,phone_number,locale,timezone,id\nx,5,??,Nowhere,7",
			"email: is not a valid e-mail address; phone_number",
		},
		"phone number without country code": {
			"csv", "email,sms\na@example.com,+61400111222\nb@example.com,0400",
			"line 3: external_id",
		},
		"line after a quoted line break": {
			"csv", "email,first_name\na@example.com,\"two\nlines\"\nb,x",
			"line 4: email",
		},
		"missing column": {
			"csv", "email,first_name\na@example.com",
			"line 2: the line has 1 columns, but the first line has 2",
		},
		"bare quote": {"csv", "email\na\"b\nc@example.com", "line 2: "},
		"metadata not an object": {
			"csv", "email,metadata\na@example.com,[1]",
			"metadata: must be a JSON object",
		},
		"missing channel": {
			"csv", "email,external_id\na@example.com,5",
			"channel: must be the name of a channel",
		},
		"unknown role": {
			"csv", "channel,external_id,role_override\ntelegram,5,admin",
			"role_override: must be owner",
		},
		"unknown instance": {
			"csv", "channel,external_id,instance\ntelegram,5,Nope",
			"instance: no instance has this id or name",
		},
		"verified in the future": {
			"csv", "channel,external_id,verified_at\ntelegram,5," + future,
			"verified_at: must be a time in the past",
		},
		"not UTF-8": {
			"csv", "email,first_name\na@example.com,Ren\xe9",
			"first_name: contains NUL or invalid characters",
		},
		"nothing to match a customer by": {
			"csv", "email,first_name\n,Steve",
			"is required to identify the customer",
		},
		"unknown field": {
			"jsonl", `{"emial":"a@example.com"}`,
			`line 1: unknown field "emial"`,
		},
		"not JSON": {"jsonl", "\n{secret", "line 2: the line is not a JSON object"},
		"text after the object": {
			"jsonl", `{"email":"a@example.com"} {}`,
			"unexpected text after the JSON object",
		},
		"wrong type": {"jsonl", `{"email":7}`, "email: cannot be a JSON number"},
		"line too long": {
			"jsonl", `{"first_name":"` + strings.Repeat("x", 1<<20) + "\"}\n{}",
			"line 1: the line is longer than 1 MiB",
		},
		"field too long": {
			"jsonl", `{"email":"a@example.com","first_name":"` + strings.Repeat("x", 256) + `"}`,
			"first_name: has more than 255",
		},
	} {
		_, errOut, err := b.run(c.in, "import", "-", "--format", c.format)
		if !errors.Is(err, app.ErrReported) || !strings.Contains(errOut, c.want) {
			t.Errorf("%s: import = %v, standard error %q, want %q", name, err, errOut, c.want)
		}
		if strings.Contains(errOut, "secret") {
			t.Errorf("%s: standard error %q contains the value", name, errOut)
		}
	}
	for name, c := range map[string]struct{ format, in, want string }{
		"unknown column":   {"csv", "email,nickname\na@example.com,x", `unknown column "nickname"`},
		"duplicate column": {"csv", "email,Email\na@example.com,x", "duplicate column"},
		"empty file":       {"csv", "", "the file is empty"},
		"no format":        {"", "", "--format"},
	} {
		args := []string{"import", "-"}
		if c.format != "" {
			args = append(args, "--format", c.format)
		}
		if _, _, err := b.run(c.in, args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: import = %v, want %q", name, err, c.want)
		}
	}
}

// TestImport_StoresValidLines checks that invalid lines are reported and do not prevent the import
// of the others.
func TestImport_StoresValidLines(t *testing.T) {
	harness.ParallelUnlessFull(t)
	forEachEngine(t, func(t *testing.T, open func() commandRunner) {
		b := open()
		var in strings.Builder
		in.WriteString("\xef\xbb\xbfEmail;First_Name;Telegram\r\n") // byte order mark and semicolons
		for n := range 1203 {
			email := fmt.Sprintf("p%d@example.com", n)
			if n%400 == 7 {
				email = "wrong"
			}
			fmt.Fprintf(&in, "%s;P%d;%d\r\n", email, n, n+1)
		}
		file := filepath.Join(t.TempDir(), "errors.csv")
		out, errOut, err := b.run(in.String(), "import", "-", "--format", "csv", "--errors", file)
		const wantOut = "1203 lines: 1200 customers created, 0 updated, 1200 identities linked, " +
			"0 lines unchanged, 3 failed"
		if !errors.Is(err, app.ErrReported) || !strings.HasPrefix(out, wantOut) {
			t.Fatalf("import = %v, %q, want %q", err, out, wantOut)
		}
		want := ""
		for _, n := range []int{9, 409, 809} {
			want += fmt.Sprintf("line %d: email: is not a valid e-mail address\n", n)
		}
		if errOut != want {
			t.Errorf("standard error = %q, want %q", errOut, want)
		}
		report, _ := os.ReadFile(file)
		if strings.Count(string(report), "\n") != 4 || !strings.HasPrefix(string(report), "line,error\n9,email: ") {
			t.Errorf("errors file = %q, want a header and 3 lines", report)
		}
	})
}

// TestImport_Interrupted interrupts an import. The same command must continue it.
func TestImport_Interrupted(t *testing.T) {
	harness.ParallelUnlessFull(t)
	b := newEmbeddedRunner(t)
	var in strings.Builder
	for n := range importedCustomers {
		fmt.Fprintf(&in, `{"email":"p%d@example.com"}`+"\n", n)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	s := app.Settings{Listen: "127.0.0.1:0", DataDir: b.dsn[1], LogLevel: "info"}
	c := &importCmd{Settings: s, File: "-", Format: "jsonl"}
	var out, errOut bytes.Buffer
	reader := &interruptingReader{in: strings.NewReader(in.String()), after: in.Len() / 2, interrupt: interrupt}
	err := c.Run(ctx, app.Console{In: reader, Out: &out, Err: &errOut})
	if err == nil || !strings.Contains(err.Error(), "interrupted after line") {
		t.Fatalf("interrupted import = %v, %s, want an error that says so", err, &out)
	}
	got := b.mustRun(in.String(), "import", "-", "--format", "jsonl")
	if !strings.HasPrefix(got, "1500 lines: ") || strings.HasPrefix(got, "1500 lines: 0 customers") {
		t.Errorf("second import = %s, want all lines and some customers created", got)
	}
	if got := b.mustRun("", "export"); strings.Count(got, "\n") != importedCustomers {
		t.Errorf("%d customers exported, want %d", strings.Count(got, "\n"), importedCustomers)
	}
}

// An interruptingReader calls interrupt when after bytes have been read.
type interruptingReader struct {
	in        *strings.Reader
	after     int
	interrupt func()
}

func (r *interruptingReader) Read(p []byte) (int, error) {
	if r.in.Size()-int64(r.in.Len()) >= int64(r.after) {
		r.interrupt()
	}
	return r.in.Read(p[:min(len(p), 4096)])
}

func TestExport_Audited(t *testing.T) {
	b := newEmbeddedRunner(t)
	b.mustRun(`{"email":"steve@example.com"}`, "import", "-", "--format", "jsonl")
	b.mustRun("", "export")
	s, err := app.OpenStore(t.Context(), &app.Settings{Listen: "127.0.0.1:0", DataDir: b.dsn[1], LogLevel: "info"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, kind := range []string{"customers.imported", "customers.exported"} {
		events, err := s.AuditEvents(t.Context(), identity.DefaultTenant, identity.EventQuery{Kind: kind}, "", 10)
		if err != nil || len(events) != 1 || events[0].Actor != app.CommandActor {
			t.Errorf("audit events of %s = %v, %v, want one of %s", kind, events, err, app.CommandActor)
		}
	}
}
