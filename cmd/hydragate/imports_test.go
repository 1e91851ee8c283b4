package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hydragate/adapters"
)

// stageImports are the packages of this module that each stage of the pipeline may import.
const stageImports = "adapters claim gateway gateway/queue identity"

// surfaceImports are the packages of this module that each API surface may import.
const surfaceImports = "adapters claim gateway httpapi/fastapi httpapi/operation identity"

// allowedImports lists, for each package of this module, the packages of this module that it may
// import; "*" allows all. A package that is not listed fails the test. A package whose name ends
// in "test" may also import its parent.
var allowedImports = map[string]string{
	"adapters":                    "",
	"adapters/adaptertest":        "",
	"adapters/simulator":          "adapters",
	"adapters/slack":              "adapters",
	"adapters/sms":                "adapters",
	"adapters/telegram":           "adapters",
	"identity":                    "",
	"identity/identitytest":       "",
	"claim":                       "identity",
	"claim/claimtest":             "identity",
	"claim/modeltest":             "",
	"claim/rediscode":             "claim",
	"gateway":                     "adapters claim identity",
	"gateway/queue":               "adapters claim gateway identity",
	"gateway/queue/queuetest":     "gateway",
	"gateway/ingest":              stageImports + " gateway/ingest/spool",
	"gateway/ingest/spool":        "",
	"gateway/process":             stageImports,
	"gateway/delivery":            stageImports,
	"gateway/outbox":              stageImports,
	"gateway/endpoints":           stageImports,
	"httpapi/fastapi":             "",
	"httpapi/operation":           "adapters claim gateway httpapi/fastapi identity",
	"httpapi":                     surfaceImports,
	"httpapi/httpapitest":         "adapters claim gateway identity",
	"httpapi/webhook":             surfaceImports,
	"httpapi/userapi":             surfaceImports,
	"httpapi/contactapi":          surfaceImports,
	"httpapi/oidc":                surfaceImports,
	"httpapi/oidc/oidctest":       "",
	"migrations":                  "",
	"store":                       "adapters claim gateway identity migrations store/keyring store/sqldb",
	"store/keyring":               "gateway",
	"store/sqldb":                 "migrations",
	"store/sqltest":               "",
	"store/storetest":             "migrations store/sqldb",
	"cmd/hydrabench":              "*",
	"cmd/hydragate":               "*",
	"cmd/hydragate/app":           "*",
	"cmd/hydragate/app/tracetest": "",
	"cmd/hydragate/bulk":          "*",
	"cmd/hydragate/demo":          "*",
	"e2e/api":                     "*",
	"e2e/claims":                  "*",
	"e2e/examples":                "*",
	"e2e/incidents":               "*",
	"e2e/keys":                    "*",
	"e2e/recovery":                "*",
	"e2e/webhooks":                "*",
	"e2e/harness":                 "*",
	"e2e/harness/rawhttp":         "*",
	"e2e/harness/script":          "*",
	"examples/go":                 "",
}

// forbiddenImports lists exceptions to "*" in allowedImports.
var forbiddenImports = map[string]string{
	"cmd/hydragate/app": "cmd/hydragate/bulk cmd/hydragate/demo",
	"e2e/harness":       "cmd/hydragate/bulk cmd/hydragate/demo e2e/harness/rawhttp e2e/harness/script",
}

// restrictedImports lists, by prefix of the import path, the packages that may import a library;
// subpackages of a listed package may as well. Libraries that are not listed may be imported
// anywhere. The benchmark and the tests also use the databases directly.
var restrictedImports = map[string]string{
	"database/sql":                 "store cmd/hydrabench e2e",
	"github.com/jackc/pgx/":        "store cmd/hydrabench e2e",
	"github.com/pressly/goose/":    "store",
	"modernc.org/sqlite":           "store cmd/hydrabench e2e",
	"github.com/redis/go-redis/":   "claim/rediscode cmd e2e",
	"github.com/alicebob/":         "claim/rediscode",
	"github.com/go-telegram/":      "adapters/telegram adapters/simulator",
	"github.com/twilio/":           "adapters/sms adapters/simulator",
	"github.com/slack-go/":         "adapters/slack adapters/simulator",
	"github.com/gorilla/websocket": "adapters/slack adapters/simulator",
	"github.com/danielgtaylor/":    "httpapi",
	"github.com/alecthomas/kong":   "cmd e2e/harness",
	"golang.org/x/term":            "cmd",
	"github.com/coreos/go-oidc/":   "httpapi/oidc",
	"github.com/go-jose/":          "httpapi/oidc",
	"go.opentelemetry.io/otel/sdk": "cmd",
	"go.opentelemetry.io/otel/exp": "cmd",
	"go.opentelemetry.io/contrib/": "cmd",
	"github.com/nyaruka/":          "identity",
	"github.com/standard-webhooks": "gateway/delivery cmd e2e",
	"math/rand":                    "adapters gateway cmd e2e", // never where keys and codes are generated
}

// TestImports checks every package against allowedImports and restrictedImports. Test files may
// import anything.
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
	for name := range allowedImports {
		if _, ok := imports["hydragate/"+name]; !ok {
			t.Errorf("allowedImports lists %s, which does not exist", name)
		}
	}
	for _, v := range violations(imports) {
		t.Error(v)
	}
}

// violations returns the forbidden imports in order. The keys of imports are package paths.
func violations(imports map[string][]string) []string {
	var found []string
	for _, path := range slices.Sorted(maps.Keys(imports)) {
		name := strings.TrimPrefix(path, "hydragate/")
		if _, ok := allowedImports[name]; !ok {
			found = append(found, name+" is not listed in allowedImports")
		}
		for _, imp := range imports[path] {
			internal, ok := strings.CutPrefix(imp, "hydragate/")
			if ok && !allowsInternal(name, internal) || !ok && !allowsExternal(name, imp) {
				found = append(found, fmt.Sprintf("%s may not import %s", name, internal))
			}
		}
	}
	return found
}

func allowsInternal(name, imp string) bool {
	if slices.Contains(strings.Fields(forbiddenImports[name]), imp) {
		return false
	}
	allowed := allowedImports[name]
	isSuite := strings.HasSuffix(name, "test") && strings.HasPrefix(name, imp+"/")
	return allowed == "*" || isSuite || slices.Contains(strings.Fields(allowed), imp)
}

func allowsExternal(name, imp string) bool {
	for prefix, packages := range restrictedImports {
		if strings.HasPrefix(imp, prefix) && !slices.ContainsFunc(strings.Fields(packages), func(p string) bool {
			return name == p || strings.HasPrefix(name, p+"/")
		}) {
			return false
		}
	}
	return true
}

// TestImports_Violations checks that violations finds what it must find.
func TestImports_Violations(t *testing.T) {
	for name, c := range map[string]struct {
		pkg, imp string
		want     string // empty if the import is allowed
	}{
		"listed import":                 {"gateway", "hydragate/claim", ""},
		"suite imports its parent":      {"claim/claimtest", "hydragate/claim", ""},
		"suite imports another package": {"claim/claimtest", "hydragate/store", "claim/claimtest may not import store"},
		"wrong direction":               {"identity", "hydragate/claim", "identity may not import claim"},
		"adapter imports gateway":       {"adapters/sms", "hydragate/gateway", "adapters/sms may not import gateway"},
		"adapter imports adapter":       {"adapters/sms", "hydragate/adapters/slack", "adapters/sms may not import adapters/slack"},
		"stage imports stage":           {"gateway/process", "hydragate/gateway/outbox", "gateway/process may not import gateway/outbox"},
		"API imports store":             {"httpapi", "hydragate/store", "httpapi may not import store"},
		"API imports surface":           {"httpapi", "hydragate/httpapi/webhook", "httpapi may not import httpapi/webhook"},
		"app imports demo":              {"cmd/hydragate/app", "hydragate/cmd/hydragate/demo", "cmd/hydragate/app may not import cmd/hydragate/demo"},
		"command imports anything":      {"cmd/hydragate", "hydragate/store", ""},
		"unknown package":               {"helpers", "fmt", "helpers is not listed in allowedImports"},
		"standard library":              {"identity", "net/url", ""},
		"driver in store":               {"store/sqldb", "github.com/jackc/pgx/v5/pgxpool", ""},
		"driver elsewhere":              {"gateway", "github.com/jackc/pgx/v5", "gateway may not import github.com/jackc/pgx/v5"},
		"SQL elsewhere":                 {"httpapi", "database/sql", "httpapi may not import database/sql"},
		"Redis in the code store":       {"claim/rediscode", "github.com/redis/go-redis/v9", ""},
		"Redis elsewhere":               {"claim", "github.com/redis/go-redis/v9", "claim may not import github.com/redis/go-redis/v9"},
		"SDK of another adapter":        {"adapters/sms", "github.com/slack-go/slack", "adapters/sms may not import github.com/slack-go/slack"},
		"predictable numbers in claim":  {"claim", "math/rand/v2", "claim may not import math/rand/v2"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(violations(map[string][]string{"hydragate/" + c.pkg: {c.imp}}), "\n")
			if got != c.want {
				t.Errorf("violations = %q, want %q", got, c.want)
			}
		})
	}
}

// channelComparisons lists the files, by prefix of their path in the module, that may compare
// channel names. Everything else reads adapters.TraitsOf.
var channelComparisons = map[string]string{
	"adapters/":        "the channels themselves",
	"httpapi/channel_": "typed set-up routes, one file for each channel",
	"store/users.go":   "the user API looks up the SMS identity of a customer",
	"cmd/hydrabench/":  "plays the providers",
	"e2e/harness/":     "plays the providers",
}

// TestChannelComparisons checks that no code outside adapters depends on the name of a channel.
// Struct tags, which hold public enumerations, and test files are not examined.
func TestChannelComparisons(t *testing.T) {
	examined := 0
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, filepath.Join("..", "..")+string(filepath.Separator)))
		if e.IsDir() && strings.HasPrefix(e.Name(), ".") && e.Name() != ".." {
			return filepath.SkipDir
		}
		if e.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || mayCompareChannels(name) {
			return nil
		}
		examined++
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, pos := range findChannelComparisons(file) {
			t.Errorf("%s:%d depends on the name of a channel; add a trait to adapters/traits.go", name, fset.Position(pos).Line)
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

func mayCompareChannels(name string) bool {
	for prefix := range channelComparisons {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
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
