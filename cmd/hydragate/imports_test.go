package main

import (
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport is the map of the house: what each package may know of the others. What
// is missing here is a mistake in the code, or a decision to write down. A test suite
// (a package whose name ends in "test") may know the package it stands in, too.
var mayImport = map[string]string{
	"adapters":              "",
	"adapters/adaptertest":  "",
	"adapters/simulator":    "adapters",
	"adapters/slack":        "adapters",
	"adapters/sms":          "adapters",
	"adapters/telegram":     "adapters",
	"identity":              "",
	"identity/identitytest": "",
	"claim":                 "identity",
	"claim/claimtest":       "identity",
	"claim/redisproof":      "claim identity",
	"gateway":               "adapters claim gateway/spool identity",
	"gateway/spool":         "",
	"gateway/delivery":      "gateway adapters claim identity",
	"migrations":            "",
	"store":                 "adapters claim gateway httpapi identity migrations",
	"httpapi":               "adapters claim gateway identity",
	"cmd":                   "*",
}

// onlyIn says which packages may know a part of the world, by the beginning of its
// path. What is not here is for everybody. The benchmark measures the databases bare, to
// compare.
var onlyIn = map[string]string{
	"database/sql":                 "store cmd/hydrabench",
	"github.com/jackc/pgx/":        "store cmd/hydrabench",
	"github.com/pressly/goose/":    "store",
	"modernc.org/sqlite":           "store cmd/hydrabench",
	"github.com/redis/go-redis/":   "claim/redisproof cmd",
	"github.com/alicebob/":         "claim/redisproof",
	"github.com/go-telegram/":      "adapters/telegram adapters/simulator",
	"github.com/twilio/":           "adapters/sms adapters/simulator",
	"github.com/slack-go/":         "adapters/slack adapters/simulator",
	"github.com/gorilla/websocket": "adapters/slack adapters/simulator",
	"github.com/danielgtaylor/":    "httpapi",
	"github.com/alecthomas/kong":   "cmd",
	"github.com/coreos/go-oidc/":   "cmd",
	"github.com/go-jose/":          "cmd",
	"go.opentelemetry.io/otel/sdk": "cmd",
	"go.opentelemetry.io/otel/exp": "cmd",
	"go.opentelemetry.io/contrib/": "cmd",
	"github.com/nyaruka/":          "identity",
	"github.com/standard-webhooks": "gateway/delivery cmd",
	"math/rand":                    "adapters gateway cmd", // never where keys and codes are made
}

// TestImports holds every package to the map. Tests may import what they like.
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
		t.Fatalf("go list says nothing of the store: %s", out)
	}
	for _, wrong := range trespasses(imports) {
		t.Error(wrong)
	}
}

// trespasses gives what the map forbids, in order. Keys of imports are packages.
func trespasses(imports map[string][]string) []string {
	var wrong []string
	for _, pkg := range slices.Sorted(maps.Keys(imports)) {
		name := strings.TrimPrefix(pkg, "hydragate/")
		allowed, known := mayImport[room(name)]
		if !known {
			wrong = append(wrong, name+" is not on the map")
		}
		for _, imp := range imports[pkg] {
			of, ours := strings.CutPrefix(imp, "hydragate/")
			if ours && !mayKnow(name, of, allowed) || !ours && !mayKnowOfTheWorld(name, imp) {
				wrong = append(wrong, fmt.Sprintf("%s may not import %s", name, of))
			}
		}
	}
	return wrong
}

// room gives the entry of the map that a package stands under: its own, but for cmd,
// where there is one for all.
func room(pkg string) string {
	if strings.HasPrefix(pkg, "cmd/") {
		return "cmd"
	}
	return pkg
}

func mayKnow(pkg, imp, allowed string) bool {
	suite := strings.HasSuffix(pkg, "test") && strings.HasPrefix(pkg, imp+"/")
	return allowed == "*" || suite || slices.Contains(strings.Fields(allowed), imp)
}

func mayKnowOfTheWorld(pkg, imp string) bool {
	for world, rooms := range onlyIn {
		if strings.HasPrefix(imp, world) && !slices.ContainsFunc(strings.Fields(rooms), func(room string) bool {
			return pkg == room || strings.HasPrefix(pkg, room+"/")
		}) {
			return false
		}
	}
	return true
}

// TestTrespasses shows that the check sees what it is there for.
func TestTrespasses(t *testing.T) {
	for name, c := range map[string]struct {
		pkg, imp string
		want     string // empty: allowed
	}{
		"AsOnTheMap":            {"gateway", "hydragate/claim", ""},
		"SuiteOfItsParent":      {"claim/claimtest", "hydragate/claim", ""},
		"SuiteOfAnother":        {"claim/claimtest", "hydragate/store", "claim/claimtest may not import store"},
		"AgainstTheArrow":       {"identity", "hydragate/claim", "identity may not import claim"},
		"AdapterKnowsGateway":   {"adapters/sms", "hydragate/gateway", "adapters/sms may not import gateway"},
		"AdapterKnowsAnother":   {"adapters/sms", "hydragate/adapters/slack", "adapters/sms may not import adapters/slack"},
		"SurfaceKnowsStore":     {"httpapi", "hydragate/store", "httpapi may not import store"},
		"CommandKnowsAll":       {"cmd/hydragate", "hydragate/store", ""},
		"NotOnTheMap":           {"helpers", "fmt", "helpers is not on the map"},
		"StandardLibrary":       {"identity", "net/url", ""},
		"DriverInStore":         {"store", "github.com/jackc/pgx/v5/pgxpool", ""},
		"DriverElsewhere":       {"gateway", "github.com/jackc/pgx/v5", "gateway may not import github.com/jackc/pgx/v5"},
		"SQLElsewhere":          {"httpapi", "database/sql", "httpapi may not import database/sql"},
		"RedisInProofs":         {"claim/redisproof", "github.com/redis/go-redis/v9", ""},
		"RedisBesideProofs":     {"claim", "github.com/redis/go-redis/v9", "claim may not import github.com/redis/go-redis/v9"},
		"SDKInAnotherAdapter":   {"adapters/sms", "github.com/slack-go/slack", "adapters/sms may not import github.com/slack-go/slack"},
		"GuessableRandomInCode": {"claim", "math/rand/v2", "claim may not import math/rand/v2"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(trespasses(map[string][]string{"hydragate/" + c.pkg: {c.imp}}), "\n")
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
