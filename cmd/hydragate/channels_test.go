package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hydragate/adapters"
)

// TestChannelComparisons checks that no code outside adapters depends on the name of a channel.
// Struct tags, which hold public enumerations, and code of tests are not examined.
func TestChannelComparisons(t *testing.T) {
	mayCompare := []string{
		"adapters/",        // the channels themselves
		"httpapi/channel_", // typed set-up routes, one file for each channel
		"store/users.go",   // the user API looks up the SMS identity of a customer
		"cmd/hydrabench/",  // plays the providers
		"e2e/harness/",     // plays the providers
	}
	examined := 0
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, filepath.Join("..", "..")+string(filepath.Separator)))
		if e.IsDir() && strings.HasPrefix(e.Name(), ".") && e.Name() != ".." {
			return filepath.SkipDir
		}
		exempt := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		if e.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") ||
			strings.Contains(name, "test/") || slices.ContainsFunc(mayCompare, exempt) {
			return nil
		}
		examined++
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, pos := range findChannelComparisons(file) {
			t.Errorf("%s:%d depends on the name of a channel; add a trait to adapters/traits.go",
				name, fset.Position(pos).Line)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if examined < 100 {
		t.Errorf("%d files examined, want at least 100", examined)
	}
}

// findChannelComparisons returns the positions of ==, != and case clauses with the name of a
// channel, and of SQL literals of one, such as channel = 'sms'.
func findChannelComparisons(file *ast.File) []token.Pos {
	var found []token.Pos
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			n.Tag = nil
		case *ast.BinaryExpr:
			if (n.Op == token.EQL || n.Op == token.NEQ) && (isChannelName(n.X) || isChannelName(n.Y)) {
				found = append(found, n.Pos())
			}
		case *ast.CaseClause:
			if slices.ContainsFunc(n.List, isChannelName) {
				found = append(found, n.Pos())
			}
		case *ast.BasicLit:
			if n.Kind == token.STRING && sqlChannel.MatchString(n.Value) {
				found = append(found, n.Pos())
			}
		}
		return true
	})
	return found
}

var sqlChannel = regexp.MustCompile(`'(` + strings.Join(channelNames(), "|") + `)'`)

func channelNames() []string {
	var names []string
	for _, c := range adapters.Channels() {
		names = append(names, string(c))
	}
	return names
}

// isChannelName reports whether an expression is the name of a channel: a string literal, a constant
// of package adapters, or a conversion of either.
func isChannelName(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return isChannelName(e.X)
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return e.Kind == token.STRING && err == nil && slices.Contains(channelNames(), s)
	case *ast.SelectorExpr:
		pkg, ok := e.X.(*ast.Ident)
		return ok && pkg.Name == "adapters" && slices.Contains(channelNames(), strings.ToLower(e.Sel.Name))
	case *ast.CallExpr:
		return len(e.Args) == 1 && isChannelName(e.Args[0])
	}
	return false
}

func TestFindChannelComparisons(t *testing.T) {
	for source, want := range map[string]int{
		`if c == adapters.SMS {}`:                               1,
		`if adapters.WhatsApp != c {}`:                          1,
		`if s == string(adapters.SMS) || s == "telegram" {}`:    2,
		`switch c { case "a", "slack": }`:                       1,
		`switch { case c == adapters.Telegram: }`:               1,
		"exec(`where channel in ('sms', 'whatsapp')`)":          1,
		`exec("where channel <> 'telegram'")`:                   1,
		`c := adapters.SMS; use(c, "slack")`:                    0,
		`m := map[adapters.Channel]int{adapters.Slack: 1}`:      0,
		`if adapters.TraitsOf(c).Paid || c == "smsx" {}`:        0,
		"type t struct { c string `enum:\"'sms'\"` }":           0,
		`for range []adapters.Channel{adapters.Slack} { x(c) }`: 0,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "", fmt.Sprintf("package p\nfunc f() { %s }", source), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(findChannelComparisons(file)); got != want {
			t.Errorf("findChannelComparisons(%s) = %d positions, want %d", source, got, want)
		}
	}
}
