package sqltest

import (
	"go/ast"
	"go/types"
	"strings"
)

// traceCall follows the result of a call: of a field of the dialect, of a function of the package,
// or of a library function that only joins its arguments.
func (a *Auditor) traceCall(c *ast.CallExpr) string {
	arguments := func(from int) string {
		for _, arg := range c.Args[from:] {
			if why := a.trace(arg); why != "" {
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
		case pkg != nil && (pkg.Name == "strings" && (sel.Sel.Name == "ReplaceAll" || sel.Sel.Name == "Join" ||
			sel.Sel.Name == "Repeat" || sel.Sel.Name == "TrimSuffix" || sel.Sel.Name == "TrimPrefix") || pkg.Name == "fmt" &&
			sel.Sel.Name == "Sprintf" || pkg.Name == "strconv" && sel.Sel.Name == "Itoa"):
			return arguments(0)
		}
		// The type is unknown if the source of the standard library is not available.
		if of := a.info.Uses[sel.Sel]; sel.Sel.Name == "String" &&
			(of == nil || of.Pkg() != nil && of.Pkg().Path() == "strings") {
			return a.traceBuilder(sel.X)
		}
		return a.traceFunction(sel.Sel, 0)
	}
	id, ok := c.Fun.(*ast.Ident)
	if !ok {
		return "indirect call"
	}
	switch id.Name {
	case "string", "append":
		return arguments(0)
	case "int", "int64", "len", "min", "max", "make": // numbers and empty lists are harmless
		return ""
	}
	if _, isLocal := a.info.Uses[id].(*types.Var); isLocal { // a function literal in a variable
		return a.trace(id)
	}
	return a.traceFunction(id, 0)
}

// traceFunction follows the result of a function of this package with the index at.
func (a *Auditor) traceFunction(name *ast.Ident, at int) string {
	if name.Name == "Placeholder" || name.Name == "PlaceholderList" {
		return "" // built from numbers
	}
	found := false
	for _, f := range a.files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil || a.info.Uses[name] == nil || a.info.Defs[fn.Name] != a.info.Uses[name] {
				continue
			}
			found = true
			if why := a.traceReturns(fn.Body, at); why != "" {
				return name.Name + ": " + why
			}
		}
	}
	if !found {
		return "result of " + name.Name
	}
	return ""
}

// traceConversions follows all conversions to a type.
func (a *Auditor) traceConversions(to types.Object) (why string) {
	for _, f := range a.files {
		ast.Inspect(f, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && len(c.Args) == 1 {
				if id, ok := c.Fun.(*ast.Ident); ok && to != nil && a.info.Uses[id] == to {
					why = firstNonEmpty(why, a.trace(c.Args[0]))
				}
			}
			return true
		})
	}
	return why
}

// traceBuilder follows everything that is written to a strings.Builder.
func (a *Auditor) traceBuilder(builder ast.Expr) (why string) {
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
		return "unknown builder"
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
					why = firstNonEmpty(why, a.trace(arg))
				}
			case sel.Sel.Name == "Fprintf" && object(c.Args[0]) == is:
				for _, arg := range c.Args[1:] {
					why = firstNonEmpty(why, a.trace(arg))
				}
			}
			return true
		})
	}
	return why
}

// traceResult follows one of several results of a call to a function of this package.
func (a *Auditor) traceResult(of ast.Expr, at int) string {
	c, ok := of.(*ast.CallExpr)
	if !ok {
		return "one of several results"
	}
	called, ok := c.Fun.(*ast.Ident)
	if sel, isMethod := c.Fun.(*ast.SelectorExpr); isMethod {
		called, ok = sel.Sel, true
	}
	if !ok {
		return "indirect call"
	}
	return a.traceFunction(called, at)
}

// traceReturns follows the result with the index at of all return statements of a body.
func (a *Auditor) traceReturns(body *ast.BlockStmt, at int) (why string) {
	ast.Inspect(body, func(n ast.Node) bool {
		if _, inner := n.(*ast.FuncLit); inner {
			return false
		}
		if r, ok := n.(*ast.ReturnStmt); ok {
			switch {
			case len(r.Results) > at:
				why = firstNonEmpty(why, a.trace(r.Results[at]))
			case len(r.Results) == 1:
				why = firstNonEmpty(why, a.traceResult(r.Results[0], at))
			default:
				why = firstNonEmpty(why, "named result")
			}
		}
		return true
	})
	return why
}

// traceName follows a name to everything assigned to it, and for a parameter to the arguments of
// all callers.
func (a *Auditor) traceName(id *ast.Ident) string {
	obj := a.info.Uses[id]
	if obj == nil {
		obj = a.info.Defs[id]
	}
	if obj == nil {
		return "name " + id.Name
	}
	if _, isConst := obj.(*types.Const); isConst {
		return ""
	}
	if named, ok := obj.Type().(*types.Named); ok && named.Obj().Pkg() == obj.Pkg() && isText(named) {
		return a.traceConversions(named.Obj()) // values of the type are created by conversions only
	}
	assigned, why := false, ""
	put := func(e ast.Expr) {
		assigned = true
		why = firstNonEmpty(why, a.trace(e))
	}
	for _, f := range a.files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					if in, ok := l.(*ast.IndexExpr); ok { // an element of a list
						l = in.X
					}
					if lid, ok := l.(*ast.Ident); ok && (a.info.Defs[lid] == obj || a.info.Uses[lid] == obj) {
						switch {
						case len(n.Rhs) == len(n.Lhs):
							put(n.Rhs[i])
						case i == 0:
							put(n.Rhs[0])
						default:
							assigned = true
							why = firstNonEmpty(why, a.traceResult(n.Rhs[0], i))
						}
					}
				}
			case *ast.ValueSpec:
				for i, lid := range n.Names {
					if a.info.Defs[lid] == obj {
						if i < len(n.Values) {
							put(n.Values[i])
						} else {
							assigned = true // the zero value
						}
					}
				}
			case *ast.RangeStmt:
				for _, l := range []ast.Expr{n.Key, n.Value} {
					if lid, ok := l.(*ast.Ident); ok && a.info.Defs[lid] == obj {
						assigned = true
						why = firstNonEmpty(why, a.trace(n.X))
					}
				}
			case *ast.FuncDecl:
				if at := parameterAt(a.info, n.Type, obj); at >= 0 {
					assigned = true
					why = firstNonEmpty(why, a.traceArguments(n.Name, at))
				}
			case *ast.FuncLit:
				if parameterAt(a.info, n.Type, obj) >= 0 {
					assigned = true // functions of the dialect: arguments are followed at the calls
				}
			}
			return true
		})
	}
	if !assigned {
		return "name " + id.Name
	}
	return why
}

// parameterAt returns the index of obj among the parameters of a function, or -1.
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

// traceArguments follows the argument with the index at of all calls of a function of this
// package. Arguments of a function that itself runs SQL are checked at the calls.
func (a *Auditor) traceArguments(name *ast.Ident, at int) string {
	if _, runs := sqlMethods[name.Name]; runs {
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
				why = firstNonEmpty(why, a.trace(c.Args[at]))
			}
			return true
		})
	}
	return why
}
