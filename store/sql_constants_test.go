package store

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hydragate/store/sqltest"
)

// sourceFiles returns the source files of a package without tests.
func sourceFiles(t *testing.T, pkg string) []string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", pkg).Output()
	if err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
}

// TestSQL_OnlyConstants tests that all statements of the store are built from constants.
func TestSQL_OnlyConstants(t *testing.T) {
	statements := 0
	for _, pkg := range []string{"hydragate/store", "hydragate/store/sqldb"} {
		a := sqltest.AuditFiles(t, sourceFiles(t, pkg), nil)
		for _, v := range a.Violations {
			t.Error(v)
		}
		statements += a.Statements
	}
	if statements < 150 {
		t.Errorf("found %d SQL statements, want at least 150", statements)
	}
}

// TestSQL_AuditControl is the control: the audit must report each way to put a value into a statement.
func TestSQL_AuditControl(t *testing.T) {
	const head = "package store\n\nimport (\"context\"; \"fmt\"; \"strings\")\n\ntype conn interface{ " +
		"Query(ctx context.Context, q string, args ...any) }\ntype Statement struct{ Query string; Args []any }\n" +
		"type row struct{ Name string }\nconst columns = `a, b`\nvar _, _ = fmt.Sprint, strings.Join\n\n"
	for name, c := range map[string]struct {
		code string
		want bool // a violation is reported
	}{
		"constant": {"func f(ctx context.Context, db conn, id string) { " +
			"db.Query(ctx, `select `+columns+` from t where id = $1`, id) }", false},
		"constant in a variable": {"func f(ctx context.Context, db conn, all bool) { q := `select 1`; " +
			"if all { q += ` union select 2` }; db.Query(ctx, q) }", false},
		"number": {"func f(ctx context.Context, db conn, n int) { " +
			"db.Query(ctx, fmt.Sprintf(`select 1 limit $%d`, n)) }", false},
		"function of the package": {"func where() string { return `x = 1` }\n" +
			"func f(ctx context.Context, db conn) { db.Query(ctx, `select `+where()) }", false},
		"parameter": {"func f(ctx context.Context, db conn, id string) { " +
			"db.Query(ctx, `select 1 where id = '`+id+`'`) }\nfunc g(ctx context.Context, db conn, r row) { " +
			"f(ctx, db, r.Name) }", true},
		"Sprintf": {"func f(ctx context.Context, db conn, r row) { " +
			"db.Query(ctx, fmt.Sprintf(`select 1 where id = '%s'`, r.Name)) }", true},
		"joined list": {"func f(ctx context.Context, db conn, ids []string) { " +
			"db.Query(ctx, `select 1 where id in (`+strings.Join(ids, `,`)+`)`) }\n" +
			"func g(ctx context.Context, db conn, r row) { f(ctx, db, []string{r.Name}) }", true},
		"variable": {"func f(ctx context.Context, db conn, r row) { q := `select 1`; q += r.Name; " +
			"db.Query(ctx, q) }", true},
		"second result": {"func two(r row) (int, string) { return 1, r.Name }\n" +
			"func f(ctx context.Context, db conn, r row) { _, q := two(r); db.Query(ctx, q) }", true},
		"constant as second result": {"func two() (int, string) { return 1, `select 1` }\n" +
			"func f(ctx context.Context, db conn) { _, q := two(); db.Query(ctx, q) }", false},
		"strings.Builder": {"func f(ctx context.Context, db conn, r row) { var b strings.Builder; " +
			"b.WriteString(`select `); b.WriteString(r.Name); db.Query(ctx, b.String()) }", true},
		"struct field": {"type part struct{ text string }\nfunc f(ctx context.Context, db conn, r row) { " +
			"p := part{text: r.Name}; db.Query(ctx, p.text) }", true},
		"statement literal": {"func f(r row) []Statement { " +
			"return []Statement{{Query: `delete from t where id = ` + r.Name}} }", true},
		"function result": {"func order(r row) string { return ` order by ` + r.Name }\n" +
			"func f(ctx context.Context, db conn, r row) { db.Query(ctx, `select 1`+order(r)) }", true},
	} {
		t.Run(name, func(t *testing.T) {
			a := sqltest.AuditFiles(t, []string{"planted.go"}, map[string]string{"planted.go": head + c.code})
			if a.Statements == 0 || (len(a.Violations) > 0) != c.want {
				t.Errorf("%d statements, violations %v, want a violation: %v", a.Statements, a.Violations, c.want)
			}
		})
	}
}
