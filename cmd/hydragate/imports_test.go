package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hydragate/adapters"
)

// TestImports checks the imports of every package against testdata/imports.txt and
// testdata/libraries.txt.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "hydragate/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		imports[words[0]] = words[1:]
	}
	if len(imports["hydragate/store"]) == 0 {
		t.Fatalf("go list does not list the imports of store: %s", out)
	}
	c := newImportChecker(t)
	for name := range c.packages {
		if _, ok := imports["hydragate/"+name]; !ok {
			t.Errorf("imports.txt lists %s, which does not exist", name)
		}
	}
	for _, v := range c.violations(imports) {
		t.Error(v)
	}
}

// An importChecker finds forbidden imports.
type importChecker struct {
	packages  map[string][]string // testdata/imports.txt
	libraries map[string][]string // testdata/libraries.txt
}

func newImportChecker(t *testing.T) importChecker {
	t.Helper()
	return importChecker{readImportRules(t, "testdata/imports.txt"), readImportRules(t, "testdata/libraries.txt")}
}

// readImportRules reads a file of lines "NAME: WORD…" with comments.
func readImportRules(t *testing.T, file string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		if name, words, ok := strings.Cut(line, ":"); ok {
			rules[name] = strings.Fields(words)
		}
	}
	return rules
}

// violations returns the forbidden imports in order. The keys of imports are package paths.
func (c importChecker) violations(imports map[string][]string) []string {
	var found []string
	for _, path := range slices.Sorted(maps.Keys(imports)) {
		name := strings.TrimPrefix(path, "hydragate/")
		if _, ok := c.packages[name]; !ok {
			found = append(found, name+" is not listed in imports.txt")
		}
		for _, imp := range imports[path] {
			internal, ok := strings.CutPrefix(imp, "hydragate/")
			if ok && !c.allowsInternal(name, internal) || !ok && !c.allowsLibrary(name, imp) {
				found = append(found, fmt.Sprintf("%s may not import %s", name, internal))
			}
		}
	}
	return found
}

func (c importChecker) allowsInternal(name, imp string) bool {
	allowed := c.packages[name]
	isSuite := strings.HasSuffix(name, "test") && strings.HasPrefix(name, imp+"/")
	return isSuite || slices.Contains(allowed, imp) ||
		slices.Contains(allowed, "*") && !slices.Contains(allowed, "!"+imp)
}

func (c importChecker) allowsLibrary(name, imp string) bool {
	for prefix, packages := range c.libraries {
		allows := func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") }
		if strings.HasPrefix(imp, prefix) && !slices.ContainsFunc(packages, allows) {
			return false
		}
	}
	return true
}

// TestImports_Violations checks that violations finds what it must find.
func TestImports_Violations(t *testing.T) {
	checker := newImportChecker(t)
	for name, c := range map[string]struct {
		pkg, imp string
		allowed  bool
	}{
		"listed import":                 {"gateway", "hydragate/claim", true},
		"suite imports its parent":      {"claim/claimtest", "hydragate/claim", true},
		"suite imports another package": {"claim/claimtest", "hydragate/store", false},
		"wrong direction":               {"identity", "hydragate/claim", false},
		"adapter imports gateway":       {"adapters/sms", "hydragate/gateway", false},
		"adapter imports adapter":       {"adapters/sms", "hydragate/adapters/slack", false},
		"stage imports stage":           {"gateway/process", "hydragate/gateway/outbox", false},
		"API imports store":             {"httpapi", "hydragate/store", false},
		"API imports surface":           {"httpapi", "hydragate/httpapi/webhook", false},
		"app imports demo":              {"cmd/hydragate/app", "hydragate/cmd/hydragate/demo", false},
		"command imports anything":      {"cmd/hydragate", "hydragate/store", true},
		"standard library":              {"identity", "net/url", true},
		"driver in store":               {"store/sqldb", "github.com/jackc/pgx/v5/pgxpool", true},
		"driver elsewhere":              {"gateway", "github.com/jackc/pgx/v5", false},
		"SQL elsewhere":                 {"httpapi", "database/sql", false},
		"Redis in the code store":       {"claim/rediscode", "github.com/redis/go-redis/v9", true},
		"Redis elsewhere":               {"claim", "github.com/redis/go-redis/v9", false},
		"SDK of another adapter":        {"adapters/sms", "github.com/slack-go/slack", false},
		"predictable numbers in claim":  {"claim", "math/rand/v2", false},
	} {
		var want []string
		if !c.allowed {
			want = []string{c.pkg + " may not import " + strings.TrimPrefix(c.imp, "hydragate/")}
		}
		got := checker.violations(map[string][]string{"hydragate/" + c.pkg: {c.imp}})
		if !slices.Equal(got, want) {
			t.Errorf("%s: violations = %q, want %q", name, got, want)
		}
	}
	want := []string{"helpers is not listed in imports.txt"}
	if got := checker.violations(map[string][]string{"hydragate/helpers": {"fmt"}}); !slices.Equal(got, want) {
		t.Errorf("violations of an unknown package = %q, want %q", got, want)
	}
}

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
