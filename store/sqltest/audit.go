// Package sqltest checks that SQL statements are built from constants, so that no value from
// outside can become part of a statement. It follows every expression that a package passes to a
// database back to its parts. It is not a general taint analysis: it knows the few ways in which
// package store builds statements and reports everything else as a violation.
package sqltest

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"testing"
)

// sqlMethods maps the names of methods that run SQL to the index of the argument with the
// statement.
var sqlMethods = map[string]int{
	"Exec": 1, "Query": 1, "QueryRow": 1, "ExecContext": 1, "QueryContext": 1,
	"QueryRowContext": 1, "Prepare": 1, "PrepareContext": 1,
}

// An Auditor follows the statements of one package.
type Auditor struct {
	fset       *token.FileSet
	files      []*ast.File
	info       *types.Info
	visiting   map[ast.Expr]bool // expressions being followed, which may refer to themselves in a loop
	Violations []string          // statements with a part that is not constant, sorted by position
	Statements int               // number of statements found
}

// AuditFiles parses the files of a package and follows its statements. src replaces the content of
// the files that it names.
func AuditFiles(t *testing.T, files []string, src map[string]string) *Auditor {
	t.Helper()
	a := &Auditor{fset: token.NewFileSet(), visiting: map[ast.Expr]bool{}}
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
	a.info = &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{},
		Defs: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{},
	}
	// Declarations of other packages are not needed, so errors about imports are ignored.
	conf := types.Config{Importer: importer.Default(), Error: func(error) {}, FakeImportC: true}
	_, _ = conf.Check("store", a.fset, a.files, a.info)
	for _, f := range a.files {
		ast.Inspect(f, a.visit)
	}
	slices.Sort(a.Violations)
	return a
}

// visit checks a call of a method that runs SQL and a literal of a statement.
func (a *Auditor) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CallExpr:
		sel, ok := n.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if at, runs := sqlMethods[sel.Sel.Name]; runs && len(n.Args) > at && !isURLQuery(sel, n) {
			a.check(n.Args[at])
		}
	case *ast.CompositeLit:
		if isStatementType(n.Type) {
			a.checkStatement(n)
		}
		if arr, ok := n.Type.(*ast.ArrayType); ok {
			if isStatementType(arr.Elt) {
				for _, e := range n.Elts {
					if c, ok := e.(*ast.CompositeLit); ok && c.Type == nil {
						a.checkStatement(c)
					}
				}
			}
		}
	}
	return true
}

// isURLQuery reports whether a call is that of url.URL.Query.
func isURLQuery(sel *ast.SelectorExpr, n *ast.CallExpr) bool {
	return sel.Sel.Name == "Query" && len(n.Args) == 0
}

// checkStatement checks the field Query of a statement literal.
func (a *Auditor) checkStatement(c *ast.CompositeLit) {
	for i, e := range c.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Query" {
				a.check(kv.Value)
			}
		} else if i == 0 {
			a.check(e)
		}
	}
}

// check records a violation unless e is built from constants.
func (a *Auditor) check(e ast.Expr) {
	a.Statements++
	if why := a.trace(e); why != "" {
		a.Violations = append(a.Violations, fmt.Sprintf("%s: %s", a.fset.Position(e.Pos()), why))
	}
}

// trace returns a description of the part of e that is neither constant nor from the dialect, or
// "" if there is none.
func (a *Auditor) trace(e ast.Expr) string {
	tv := a.info.Types[e]
	if tv.Value != nil && tv.Value.Kind() == constant.String || isNumber(tv.Type) {
		return ""
	}
	if a.visiting[e] {
		return ""
	}
	a.visiting[e] = true
	defer delete(a.visiting, e)
	switch e := e.(type) {
	case *ast.BasicLit:
		return ""
	case *ast.ParenExpr:
		return a.trace(e.X)
	case *ast.BinaryExpr:
		return firstNonEmpty(a.trace(e.X), a.trace(e.Y))
	case *ast.SelectorExpr:
		if isDialect(e.X) || e.Sel.Name == "Query" { // statements are checked where they are created
			return ""
		}
		return a.traceField(e)
	case *ast.IndexExpr:
		return a.trace(e.X)
	case *ast.UnaryExpr:
		return a.trace(e.X)
	case *ast.CompositeLit:
		for _, el := range e.Elts {
			if why := a.trace(el); why != "" {
				return why
			}
		}
		return ""
	case *ast.KeyValueExpr:
		return a.trace(e.Value)
	case *ast.CallExpr:
		return a.traceCall(e)
	case *ast.Ident:
		return a.traceName(e)
	case *ast.FuncLit:
		return a.traceReturns(e.Body, 0)
	case *ast.TypeAssertExpr: // a string type of the package
		if id, ok := e.Type.(*ast.Ident); ok {
			return a.traceConversions(a.info.Uses[id])
		}
	}
	return fmt.Sprintf("expression of type %T", e)
}

// isNumber reports whether t is an integer type.
func isNumber(t types.Type) bool {
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsInteger != 0
}

// isText reports whether t is a string type.
func isText(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsString != 0
}

// traceField follows a field to all values assigned to it. A selector may also be a constant of
// another package of the module.
func (a *Auditor) traceField(e *ast.SelectorExpr) string {
	field, ok := a.info.Uses[e.Sel].(*types.Var)
	if !ok || field.Exported() {
		if pkg, isName := e.X.(*ast.Ident); isName && isConstantOf(pkg.Name, e.Sel.Name) {
			return ""
		}
		return "field " + e.Sel.Name
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
							why = firstNonEmpty(why, a.trace(kv.Value))
						}
					} else if of.Field(i) == field {
						why = firstNonEmpty(why, a.trace(el))
					}
				}
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					if sel, ok := l.(*ast.SelectorExpr); ok && a.info.Uses[sel.Sel] == field {
						why = firstNonEmpty(why, a.trace(n.Rhs[min(i, len(n.Rhs)-1)]))
					}
				}
			}
			return true
		})
	}
	return why
}

// isConstantOf reports whether a sibling package declares a constant with this name.
func isConstantOf(pkg, name string) bool {
	files, _ := filepath.Glob(filepath.Join("..", pkg, "*.go"))
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

// firstNonEmpty returns the first non-empty string.
func firstNonEmpty(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

// isStatementType reports whether e names sqldb.Statement.
func isStatementType(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "Statement"
	case *ast.SelectorExpr:
		return e.Sel.Name == "Statement"
	}
	return false
}

// isDialect reports whether e is a value of type sqldb.Dialect, judged by its name.
func isDialect(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name == "dialect"
	case *ast.CallExpr:
		sel, ok := e.Fun.(*ast.SelectorExpr)
		return ok && (sel.Sel.Name == "dialect" || sel.Sel.Name == "Dialect")
	case *ast.Ident:
		return e.Name == "d" || e.Name == "dialect"
	}
	return false
}
