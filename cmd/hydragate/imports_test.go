package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
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
