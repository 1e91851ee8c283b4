package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"hydragate/store"
)

var update = flag.Bool("update", false, "write the README's table of settings anew")

// settingsTable is the README's table of settings, from the one table there is.
func settingsTable() string {
	var b strings.Builder
	b.WriteString("| variable | default | meaning |\n|---|---|---|\n")
	for f := range reflect.TypeFor[settings]().Fields() {
		if _, hidden := f.Tag.Lookup("hidden"); hidden {
			continue
		}
		help, def := f.Tag.Get("help"), f.Tag.Get("default")
		if def == "" {
			help, def, _ = strings.Cut(help, " Default: ")
			def = strings.TrimSuffix(def, ".")
		} else {
			def = "`" + def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Tag.Get("env"), def, strings.ReplaceAll(help, "|", "\\|"))
	}
	return b.String()
}

func TestREADMEHasTheSettings(t *testing.T) {
	const file, begin, end = "../../README.md", "<!-- settings -->\n", "<!-- /settings -->"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := bytes.Cut(b, []byte(begin))
	table, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		t.Fatal("the README has no marks around its table of settings")
	}
	if *update {
		if err := os.WriteFile(file, bytes.Join([][]byte{head, []byte(begin), []byte(settingsTable()), []byte(end), tail}, nil), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(table) != settingsTable() {
		t.Errorf("the README's table of settings is not that of the program; go test ./cmd/hydragate -run README -update writes it anew")
	}
}

// valid are settings that pass.
func valid() settings {
	return settings{Listen: "127.0.0.1:0", DataDir: "x", LogLevel: "info"}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	long := strings.Repeat("k", 32)
	for name, c := range map[string]struct {
		change func(*settings)
		names  string // "": nothing is wrong
	}{
		"Nothing":            {func(*settings) {}, ""},
		"Listen":             {func(s *settings) { s.Listen = "8080" }, "HYDRAGATE_LISTEN"},
		"PublicPath":         {func(s *settings) { s.PublicURL = "https://a.example/x" }, "HYDRAGATE_PUBLIC_URL"},
		"PublicScheme":       {func(s *settings) { s.PublicURL = "hooks.example.com" }, "HYDRAGATE_PUBLIC_URL"},
		"PublicUser":         {func(s *settings) { s.PublicURL = "https://u:secret@a.example" }, "HYDRAGATE_PUBLIC_URL"},
		"PublicSlash":        {func(s *settings) { s.PublicURL = "https://a.example/" }, ""},
		"MySQL":              {func(s *settings) { s.DatabaseURL = "mysql://u:secret@h/d" }, "HYDRAGATE_DATABASE_URL"},
		"Memcached":          {func(s *settings) { s.RedisURL = "redis://a,memcached://b" }, "HYDRAGATE_REDIS_URL"},
		"Cluster":            {func(s *settings) { s.RedisURL = "redis://a:1,redis://b:2" }, ""},
		"NoKeysWithPostgres": {func(s *settings) { s.DatabaseURL = "postgres://h/d" }, "HYDRAGATE_MASTER_KEYS"},
		"Postgres":           {func(s *settings) { s.DatabaseURL, s.MasterKeys = "postgres://h/d", store.NewMasterKey("a") }, ""},
		"KeyTooShort":        {func(s *settings) { s.MasterKeys = "a:c2VjcmV0" }, "HYDRAGATE_MASTER_KEYS"},
		"KeyTwice":           {func(s *settings) { s.MasterKeys = store.NewMasterKey("a") + "," + store.NewMasterKey("a") }, "HYDRAGATE_MASTER_KEYS"},
		"KeyWithoutID":       {func(s *settings) { s.MasterKeys = strings.TrimPrefix(store.NewMasterKey("a"), "a:") }, "HYDRAGATE_MASTER_KEYS"},
		"AdminShort":         {func(s *settings) { s.AdminKey = long[1:] }, "HYDRAGATE_ADMIN_KEY"},
		"Admin":              {func(s *settings) { s.AdminKey = long }, ""},
		"TelegramPath":       {func(s *settings) { s.TelegramAPIURL = "https://a/bot" }, "HYDRAGATE_TELEGRAM_API_URL"},
		"TwilioWord":         {func(s *settings) { s.TwilioAPIURL = "twilio" }, "HYDRAGATE_TWILIO_API_URL"},
		"SlackNoAPI":         {func(s *settings) { s.SlackAPIURL = "https://slack.com/" }, "HYDRAGATE_SLACK_API_URL"},
		"Slack":              {func(s *settings) { s.SlackAPIURL = "http://127.0.0.1:1/api/" }, ""},
		"Collector":          {func(s *settings) { s.OTLPEndpoint = "http://127.0.0.1:4318" }, ""},
		"CollectorNoURL":     {func(s *settings) { s.OTLPEndpoint = "127.0.0.1:4317" }, "OTEL_EXPORTER_OTLP_ENDPOINT"},
		"IssuerAlone":        {func(s *settings) { s.OIDCIssuer = "https://login.example.com" }, "HYDRAGATE_OIDC_AUDIENCE"},
		"AudienceAlone":      {func(s *settings) { s.OIDCAudience = "hydragate" }, "HYDRAGATE_OIDC_ISSUER"},
		"IssuerOpen":         {func(s *settings) { s.OIDCIssuer, s.OIDCAudience = "http://login.example.com", "hydragate" }, "HYDRAGATE_OIDC_ISSUER"},
		"IssuerUser":         {func(s *settings) { s.OIDCIssuer, s.OIDCAudience = "https://u:secret@login.example.com", "hydragate" }, "HYDRAGATE_OIDC_ISSUER"},
		"Issuer":             {func(s *settings) { s.OIDCIssuer, s.OIDCAudience = "https://login.example.com/", "hydragate" }, ""},
		"IssuerHere":         {func(s *settings) { s.OIDCIssuer, s.OIDCAudience = "http://127.0.0.1:9000/realms/staff", "hydragate" }, ""},
		"Private":            {func(s *settings) { s.AgentAllowPrivate = "maybe" }, "HYDRAGATE_AGENT_ALLOW_PRIVATE"},
		"Level":              {func(s *settings) { s.LogLevel = "loud" }, "HYDRAGATE_LOG_LEVEL"},
		"Format":             {func(s *settings) { s.LogFormat = "xml" }, "HYDRAGATE_LOG_FORMAT"},
	} {
		t.Run(name, func(t *testing.T) {
			s := valid()
			c.change(&s)
			err := s.check()
			if (err == nil) != (c.names == "") {
				t.Fatalf("%v; want it to name %q", err, c.names)
			}
			if err == nil {
				return
			}
			if !strings.HasPrefix(err.Error(), c.names) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q does not name %s in one line", err, c.names)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c2VjcmV0") {
				t.Errorf("%q tells the value", err)
			}
		})
	}
}

func TestMasterKeyIsMadeOnce(t *testing.T) {
	s := valid()
	s.DataDir = t.TempDir()
	if _, err := s.keyRing(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.DataDir, "master.key")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v; want mode 0600", info, err)
	}
	before, _ := os.ReadFile(file)
	if _, err := s.keyRing(); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
		t.Error("the key was made twice")
	}
}
