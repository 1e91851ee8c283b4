package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// SQL is written in the store, of constants and of what the dialect gives. This follows
// every text that is handed to a database back to what it is made of.

// runsSQL are the methods whose argument, or the field of a statement, is run as SQL, and
// which argument that is.
var runsSQL = map[string]int{"Exec": 1, "Query": 1, "QueryRow": 1, "ExecContext": 1, "QueryContext": 1, "QueryRowContext": 1, "Prepare": 1, "PrepareContext": 1}

// A sqlAudit follows texts in one package.
type sqlAudit struct {
	fset   *token.FileSet
	files  []*ast.File
	info   *types.Info
	inside map[ast.Expr]bool // being followed: a text made longer in a loop comes back to itself
	wrong  []string
	texts  int
}

func auditSQL(t *testing.T, files []string, src map[string]string) *sqlAudit {
	t.Helper()
	a := &sqlAudit{fset: token.NewFileSet(), inside: map[ast.Expr]bool{}}
	for _, name := range files {
		var content any
		if text, ok := src[name]; ok {
			content = text
		}
		f, err := parser.ParseFile(a.fset, name, content, 0)
		if err != nil {
			t.Fatal(err)
		}
		a.files = append(a.files, f)
	}
	a.info = &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}}
	// What others declare is not needed to follow a text: errors about imports are passed over.
	conf := types.Config{Importer: importer.Default(), Error: func(error) {}, FakeImportC: true}
	_, _ = conf.Check("store", a.fset, a.files, a.info)
	for _, f := range a.files {
		ast.Inspect(f, a.look)
	}
	slices.Sort(a.wrong)
	return a
}

func (a *sqlAudit) look(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CallExpr:
		sel, ok := n.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if at, runs := runsSQL[sel.Sel.Name]; runs && len(n.Args) > at && !isURLQuery(sel, n) {
			a.check(n.Args[at])
		}
	case *ast.CompositeLit:
		if id, ok := n.Type.(*ast.Ident); ok && id.Name == "stmt" {
			a.statement(n)
		}
		if arr, ok := n.Type.(*ast.ArrayType); ok {
			if id, ok := arr.Elt.(*ast.Ident); ok && id.Name == "stmt" {
				for _, e := range n.Elts {
					if c, ok := e.(*ast.CompositeLit); ok && c.Type == nil {
						a.statement(c)
					}
				}
			}
		}
	}
	return true
}

func isURLQuery(sel *ast.SelectorExpr, n *ast.CallExpr) bool {
	return sel.Sel.Name == "Query" && len(n.Args) == 0
}

func (a *sqlAudit) statement(c *ast.CompositeLit) {
	for i, e := range c.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "query" {
				a.check(kv.Value)
			}
		} else if i == 0 {
			a.check(e)
		}
	}
}

func (a *sqlAudit) check(e ast.Expr) {
	a.texts++
	if why := a.madeOf(e); why != "" {
		a.wrong = append(a.wrong, fmt.Sprintf("%s: %s", a.fset.Position(e.Pos()), why))
	}
}

// madeOf says what of a text is neither constant nor of the dialect; "" when nothing is.
func (a *sqlAudit) madeOf(e ast.Expr) string {
	tv := a.info.Types[e]
	if tv.Value != nil && tv.Value.Kind() == constant.String || isNumber(tv.Type) {
		return ""
	}
	if a.inside[e] {
		return ""
	}
	a.inside[e] = true
	defer delete(a.inside, e)
	switch e := e.(type) {
	case *ast.BasicLit:
		return ""
	case *ast.ParenExpr:
		return a.madeOf(e.X)
	case *ast.BinaryExpr:
		return first(a.madeOf(e.X), a.madeOf(e.Y))
	case *ast.SelectorExpr:
		if isDialect(e.X) || e.Sel.Name == "query" { // the query of a statement is looked at where it is made
			return ""
		}
		return a.madeByField(e)
	case *ast.IndexExpr:
		return a.madeOf(e.X)
	case *ast.UnaryExpr:
		return a.madeOf(e.X)
	case *ast.CompositeLit:
		for _, el := range e.Elts {
			if why := a.madeOf(el); why != "" {
				return why
			}
		}
		return ""
	case *ast.KeyValueExpr:
		return a.madeOf(e.Value)
	case *ast.CallExpr:
		return a.madeByCall(e)
	case *ast.Ident:
		return a.madeByName(e)
	case *ast.FuncLit:
		return a.returned(e.Body, 0)
	case *ast.TypeAssertExpr: // a text of a type of its own
		if id, ok := e.Type.(*ast.Ident); ok {
			return a.converted(a.info.Uses[id])
		}
	}
	return fmt.Sprintf("a %T", e)
}

func isNumber(t types.Type) bool {
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsInteger != 0
}

func isText(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsString != 0
}

// madeByField follows a field to everything that is put into it, where a value is written
// out and where the field is set; or a constant of another package of the house.
func (a *sqlAudit) madeByField(e *ast.SelectorExpr) string {
	field, ok := a.info.Uses[e.Sel].(*types.Var)
	if !ok || field.Exported() {
		if pkg, isName := e.X.(*ast.Ident); isName && isConstantOf(pkg.Name, e.Sel.Name) {
			return ""
		}
		return "the field " + e.Sel.Name
	}
	why := ""
	for _, f := range a.files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				t := a.info.Types[n].Type
				if t == nil {
					return true
				}
				of, ok := t.Underlying().(*types.Struct)
				if !ok {
					return true
				}
				for i, el := range n.Elts {
					if kv, keyed := el.(*ast.KeyValueExpr); keyed {
						if key, ok := kv.Key.(*ast.Ident); ok && a.info.Uses[key] == field {
							why = first(why, a.madeOf(kv.Value))
						}
					} else if of.Field(i) == field {
						why = first(why, a.madeOf(el))
					}
				}
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					if sel, ok := l.(*ast.SelectorExpr); ok && a.info.Uses[sel.Sel] == field {
						why = first(why, a.madeOf(n.Rhs[min(i, len(n.Rhs)-1)]))
					}
				}
			}
			return true
		})
	}
	return why
}

// isConstantOf reports whether a package of the house declares a constant of this name.
func isConstantOf(pkg, name string) bool {
	files, _ := filepath.Glob(filepath.Join("..", "..", pkg, "*.go"))
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			continue
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				if slices.ContainsFunc(s.(*ast.ValueSpec).Names, func(id *ast.Ident) bool { return id.Name == name }) {
					return true
				}
			}
		}
	}
	return false
}

func first(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

func isDialect(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name == "d"
	case *ast.CallExpr:
		sel, ok := e.Fun.(*ast.SelectorExpr)
		return ok && sel.Sel.Name == "dialect"
	case *ast.Ident:
		return e.Name == "d"
	}
	return false
}

// madeByCall follows a text that a function gives: of the dialect, of this package, or one
// of the few of others that only join what they are given.
func (a *sqlAudit) madeByCall(c *ast.CallExpr) string {
	arguments := func(from int) string {
		for _, arg := range c.Args[from:] {
			if why := a.madeOf(arg); why != "" {
				return why
			}
		}
		return ""
	}
	if sel, ok := c.Fun.(*ast.SelectorExpr); ok {
		pkg, _ := sel.X.(*ast.Ident)
		switch {
		case isDialect(sel.X):
			return arguments(0)
		case pkg != nil && (pkg.Name == "strings" && (sel.Sel.Name == "ReplaceAll" || sel.Sel.Name == "Join" || sel.Sel.Name == "Repeat" || sel.Sel.Name == "TrimSuffix" || sel.Sel.Name == "TrimPrefix") || pkg.Name == "fmt" && sel.Sel.Name == "Sprintf" || pkg.Name == "strconv" && sel.Sel.Name == "Itoa"):
			return arguments(0)
		}
		// The standard library is read where it is at hand.
		if of := a.info.Uses[sel.Sel]; sel.Sel.Name == "String" && (of == nil || of.Pkg() != nil && of.Pkg().Path() == "strings") {
			return a.written(sel.X)
		}
		return a.given(sel.Sel, 0)
	}
	id, ok := c.Fun.(*ast.Ident)
	if !ok {
		return "a call"
	}
	switch id.Name {
	case "string", "append":
		return arguments(0)
	case "int", "int64", "len", "min", "max", "make": // a number is no text, and an empty list holds none
		return ""
	}
	if _, isLocal := a.info.Uses[id].(*types.Var); isLocal { // a function under a name
		return a.madeOf(id)
	}
	return a.given(id, 0)
}

// given follows what a function of this package gives, one of its results.
func (a *sqlAudit) given(name *ast.Ident, at int) string {
	found := false
	for _, f := range a.files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil || a.info.Uses[name] == nil || a.info.Defs[fn.Name] != a.info.Uses[name] {
				continue
			}
			found = true
			if why := a.returned(fn.Body, at); why != "" {
				return name.Name + ": " + why
			}
		}
	}
	if !found {
		return "what " + name.Name + " gives"
	}
	return ""
}

// converted follows what is ever made a text of a type.
func (a *sqlAudit) converted(to types.Object) (why string) {
	for _, f := range a.files {
		ast.Inspect(f, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && len(c.Args) == 1 {
				if id, ok := c.Fun.(*ast.Ident); ok && to != nil && a.info.Uses[id] == to {
					why = first(why, a.madeOf(c.Args[0]))
				}
			}
			return true
		})
	}
	return why
}

// written follows what is ever written into a builder.
func (a *sqlAudit) written(builder ast.Expr) (why string) {
	object := func(e ast.Expr) types.Object {
		if u, ok := e.(*ast.UnaryExpr); ok {
			e = u.X
		}
		switch e := e.(type) {
		case *ast.Ident:
			return a.info.Uses[e]
		case *ast.SelectorExpr:
			return a.info.Uses[e.Sel]
		}
		return nil
	}
	is := object(builder)
	if is == nil {
		return "a builder"
	}
	for _, f := range a.files {
		ast.Inspect(f, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := c.Fun.(*ast.SelectorExpr)
			switch {
			case !ok:
			case strings.HasPrefix(sel.Sel.Name, "Write") && object(sel.X) == is:
				for _, arg := range c.Args {
					why = first(why, a.madeOf(arg))
				}
			case sel.Sel.Name == "Fprintf" && object(c.Args[0]) == is:
				for _, arg := range c.Args[1:] {
					why = first(why, a.madeOf(arg))
				}
			}
			return true
		})
	}
	return why
}

// result follows one of several results of a call to a function of this package.
func (a *sqlAudit) result(of ast.Expr, at int) string {
	c, ok := of.(*ast.CallExpr)
	if !ok {
		return "one of several values"
	}
	called, ok := c.Fun.(*ast.Ident)
	if sel, isMethod := c.Fun.(*ast.SelectorExpr); isMethod {
		called, ok = sel.Sel, true
	}
	if !ok {
		return "a call"
	}
	return a.given(called, at)
}

// returned follows what a body returns, one of its results.
func (a *sqlAudit) returned(body *ast.BlockStmt, at int) (why string) {
	ast.Inspect(body, func(n ast.Node) bool {
		if _, inner := n.(*ast.FuncLit); inner {
			return false
		}
		if r, ok := n.(*ast.ReturnStmt); ok {
			switch {
			case len(r.Results) > at:
				why = first(why, a.madeOf(r.Results[at]))
			case len(r.Results) == 1:
				why = first(why, a.result(r.Results[0], at))
			default:
				why = first(why, "a result by its name")
			}
		}
		return true
	})
	return why
}

// madeByName follows a name to everything that is ever put under it, in all callers when
// it is a parameter.
func (a *sqlAudit) madeByName(id *ast.Ident) string {
	obj := a.info.Uses[id]
	if obj == nil {
		obj = a.info.Defs[id]
	}
	if obj == nil {
		return "the name " + id.Name
	}
	if _, isConst := obj.(*types.Const); isConst {
		return ""
	}
	if named, ok := obj.Type().(*types.Named); ok && named.Obj().Pkg() == obj.Pkg() && isText(named) {
		return a.converted(named.Obj()) // a text of a type of its own is made by conversion alone
	}
	assigned, why := false, ""
	put := func(e ast.Expr) {
		assigned = true
		why = first(why, a.madeOf(e))
	}
	for _, f := range a.files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					if in, ok := l.(*ast.IndexExpr); ok { // into a list
						l = in.X
					}
					if lid, ok := l.(*ast.Ident); ok && (a.info.Defs[lid] == obj || a.info.Uses[lid] == obj) {
						if len(n.Rhs) == len(n.Lhs) {
							put(n.Rhs[i])
						} else if i == 0 {
							put(n.Rhs[0])
						} else {
							assigned = true
							why = first(why, a.result(n.Rhs[0], i))
						}
					}
				}
			case *ast.ValueSpec:
				for i, lid := range n.Names {
					if a.info.Defs[lid] == obj {
						if i < len(n.Values) {
							put(n.Values[i])
						} else {
							assigned = true // empty
						}
					}
				}
			case *ast.RangeStmt:
				for _, l := range []ast.Expr{n.Key, n.Value} {
					if lid, ok := l.(*ast.Ident); ok && a.info.Defs[lid] == obj {
						assigned = true
						why = first(why, a.madeOf(n.X))
					}
				}
			case *ast.FuncDecl:
				if at := parameterAt(a.info, n.Type, obj); at >= 0 {
					assigned = true
					why = first(why, a.passed(n.Name, at))
				}
			case *ast.FuncLit:
				if parameterAt(a.info, n.Type, obj) >= 0 {
					assigned = true // of a dialect's own functions, whose arguments are followed where they are called
				}
			}
			return true
		})
	}
	if !assigned {
		return "the name " + id.Name
	}
	return why
}

func parameterAt(info *types.Info, f *ast.FuncType, obj types.Object) int {
	at := 0
	for _, field := range f.Params.List {
		for _, name := range field.Names {
			if info.Defs[name] == obj {
				return at
			}
			at++
		}
	}
	return -1
}

// passed follows what is passed to a function of this package. A function that is itself
// one that runs SQL is looked at where it is called.
func (a *sqlAudit) passed(name *ast.Ident, at int) string {
	if _, runs := runsSQL[name.Name]; runs {
		return ""
	}
	why := ""
	for _, f := range a.files {
		ast.Inspect(f, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok || len(c.Args) <= at {
				return true
			}
			var called *ast.Ident
			switch fun := c.Fun.(type) {
			case *ast.Ident:
				called = fun
			case *ast.SelectorExpr:
				called = fun.Sel
			}
			if called != nil && a.info.Uses[called] == a.info.Defs[name] {
				why = first(why, a.madeOf(c.Args[at]))
			}
			return true
		})
	}
	return why
}

// storeFiles are the sources of the store, without tests.
func storeFiles(t *testing.T) []string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "hydragate/store").Output()
	if err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
}

// TestSQLIsMadeOfConstants holds every text that the store runs to what it may be made of.
func TestSQLIsMadeOfConstants(t *testing.T) {
	a := auditSQL(t, storeFiles(t), nil)
	for _, w := range a.wrong {
		t.Error(w)
	}
	if a.texts < 150 {
		t.Errorf("only %d texts were found", a.texts)
	}
	t.Logf("%d texts of SQL, 0 made of anything but constants and the dialect", a.texts)
}

// TestSQLMadeOfValuesIsSeen is the control: each way to put a value into SQL is seen.
func TestSQLMadeOfValuesIsSeen(t *testing.T) {
	const head = "package store\n\nimport (\"context\"; \"fmt\"; \"strings\")\n\ntype conn interface{ Query(ctx context.Context, q string, args ...any) }\ntype stmt struct{ query string; args []any }\ntype row struct{ Name string }\nconst columns = `a, b`\nvar _, _ = fmt.Sprint, strings.Join\n\n"
	for name, c := range map[string]struct {
		code string
		seen bool
	}{
		"Constant":          {"func f(ctx context.Context, db conn, id string) { db.Query(ctx, `select `+columns+` from t where id = $1`, id) }", false},
		"ConstantInAName":   {"func f(ctx context.Context, db conn, all bool) { q := `select 1`; if all { q += ` union select 2` }; db.Query(ctx, q) }", false},
		"Number":            {"func f(ctx context.Context, db conn, n int) { db.Query(ctx, fmt.Sprintf(`select 1 limit $%d`, n)) }", false},
		"OwnFunction":       {"func where() string { return `x = 1` }\nfunc f(ctx context.Context, db conn) { db.Query(ctx, `select `+where()) }", false},
		"Value":             {"func f(ctx context.Context, db conn, id string) { db.Query(ctx, `select 1 where id = '`+id+`'`) }\nfunc g(ctx context.Context, db conn, r row) { f(ctx, db, r.Name) }", true},
		"Sprintf":           {"func f(ctx context.Context, db conn, r row) { db.Query(ctx, fmt.Sprintf(`select 1 where id = '%s'`, r.Name)) }", true},
		"Joined":            {"func f(ctx context.Context, db conn, ids []string) { db.Query(ctx, `select 1 where id in (`+strings.Join(ids, `,`)+`)`) }\nfunc g(ctx context.Context, db conn, r row) { f(ctx, db, []string{r.Name}) }", true},
		"InAName":           {"func f(ctx context.Context, db conn, r row) { q := `select 1`; q += r.Name; db.Query(ctx, q) }", true},
		"SecondResult":      {"func two(r row) (int, string) { return 1, r.Name }\nfunc f(ctx context.Context, db conn, r row) { _, q := two(r); db.Query(ctx, q) }", true},
		"SecondConstant":    {"func two() (int, string) { return 1, `select 1` }\nfunc f(ctx context.Context, db conn) { _, q := two(); db.Query(ctx, q) }", false},
		"InABuilder":        {"func f(ctx context.Context, db conn, r row) { var b strings.Builder; b.WriteString(`select `); b.WriteString(r.Name); db.Query(ctx, b.String()) }", true},
		"InAField":          {"type part struct{ text string }\nfunc f(ctx context.Context, db conn, r row) { p := part{text: r.Name}; db.Query(ctx, p.text) }", true},
		"InAStatement":      {"func f(r row) []stmt { return []stmt{{query: `delete from t where id = ` + r.Name}} }", true},
		"ByAnotherFunction": {"func order(r row) string { return ` order by ` + r.Name }\nfunc f(ctx context.Context, db conn, r row) { db.Query(ctx, `select 1`+order(r)) }", true},
	} {
		t.Run(name, func(t *testing.T) {
			a := auditSQL(t, []string{"planted.go"}, map[string]string{"planted.go": head + c.code})
			if a.texts == 0 || (len(a.wrong) > 0) != c.seen {
				t.Errorf("%d texts, %v", a.texts, a.wrong)
			}
		})
	}
}
