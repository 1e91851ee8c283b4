package app

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"hydragate/store/keyring"
)

var update = flag.Bool("update", false, "write the README's table of settings anew")

// settingsTable is the README's table of settings, from the one table there is.
func settingsTable() string {
	var b strings.Builder
	b.WriteString("| variable | default | meaning |\n|---|---|---|\n")
	for f := range reflect.TypeFor[Settings]().Fields() {
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

func TestREADME_SettingsTable(t *testing.T) {
	const file, begin, end = "../../../docs/operations.md", "<!-- settings -->\n", "<!-- /settings -->"
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
		t.Errorf("the README's table of settings is not that of the program; go test ./cmd/hydragate/app -run SettingsTable -update writes it anew")
	}
}

// validSettings are settings that pass.
func validSettings() Settings {
	return Settings{Listen: "127.0.0.1:0", DataDir: "x", LogLevel: "info"}
}

func TestSettings_Validate(t *testing.T) {
	long := strings.Repeat("k", 32)
	for name, c := range map[string]struct {
		change func(*Settings)
		names  string // "": nothing is wrong
	}{
		"Nothing":            {func(*Settings) {}, ""},
		"Listen":             {func(s *Settings) { s.Listen = "8080" }, "HYDRAGATE_LISTEN"},
		"PublicPath":         {func(s *Settings) { s.PublicURL = "https://a.example/x" }, "HYDRAGATE_PUBLIC_URL"},
		"PublicScheme":       {func(s *Settings) { s.PublicURL = "hooks.example.com" }, "HYDRAGATE_PUBLIC_URL"},
		"PublicUser":         {func(s *Settings) { s.PublicURL = "https://u:secret@a.example" }, "HYDRAGATE_PUBLIC_URL"},
		"PublicSlash":        {func(s *Settings) { s.PublicURL = "https://a.example/" }, ""},
		"MySQL":              {func(s *Settings) { s.DatabaseURL = "mysql://u:secret@h/d" }, "HYDRAGATE_DATABASE_URL"},
		"Memcached":          {func(s *Settings) { s.RedisURL = "redis://a,memcached://b" }, "HYDRAGATE_REDIS_URL"},
		"Cluster":            {func(s *Settings) { s.RedisURL = "redis://a:1,redis://b:2" }, ""},
		"NoKeysWithPostgres": {func(s *Settings) { s.DatabaseURL = "postgres://h/d" }, "HYDRAGATE_MASTER_KEYS"},
		"Postgres":           {func(s *Settings) { s.DatabaseURL, s.MasterKeys = "postgres://h/d", keyring.GenerateKey("a") }, ""},
		"KeyTooShort":        {func(s *Settings) { s.MasterKeys = "a:c2VjcmV0" }, "HYDRAGATE_MASTER_KEYS"},
		"KeyTwice":           {func(s *Settings) { s.MasterKeys = keyring.GenerateKey("a") + "," + keyring.GenerateKey("a") }, "HYDRAGATE_MASTER_KEYS"},
		"KeyWithoutID":       {func(s *Settings) { s.MasterKeys = strings.TrimPrefix(keyring.GenerateKey("a"), "a:") }, "HYDRAGATE_MASTER_KEYS"},
		"AdminShort":         {func(s *Settings) { s.AdminKey = long[1:] }, "HYDRAGATE_ADMIN_KEY"},
		"Admin":              {func(s *Settings) { s.AdminKey = long }, ""},
		"TelegramPath":       {func(s *Settings) { s.TelegramAPIURL = "https://a/bot" }, "HYDRAGATE_TELEGRAM_API_URL"},
		"TwilioWord":         {func(s *Settings) { s.TwilioAPIURL = "twilio" }, "HYDRAGATE_TWILIO_API_URL"},
		"SlackNoAPI":         {func(s *Settings) { s.SlackAPIURL = "https://slack.com/" }, "HYDRAGATE_SLACK_API_URL"},
		"Slack":              {func(s *Settings) { s.SlackAPIURL = "http://127.0.0.1:1/api/" }, ""},
		"Collector":          {func(s *Settings) { s.OTLPEndpoint = "http://127.0.0.1:4318" }, ""},
		"CollectorNoURL":     {func(s *Settings) { s.OTLPEndpoint = "127.0.0.1:4317" }, "OTEL_EXPORTER_OTLP_ENDPOINT"},
		"IssuerAlone":        {func(s *Settings) { s.OIDCIssuer = "https://login.example.com" }, "HYDRAGATE_OIDC_AUDIENCE"},
		"AudienceAlone":      {func(s *Settings) { s.OIDCAudience = "hydragate" }, "HYDRAGATE_OIDC_ISSUER"},
		"IssuerOpen":         {func(s *Settings) { s.OIDCIssuer, s.OIDCAudience = "http://login.example.com", "hydragate" }, "HYDRAGATE_OIDC_ISSUER"},
		"IssuerUser":         {func(s *Settings) { s.OIDCIssuer, s.OIDCAudience = "https://u:secret@login.example.com", "hydragate" }, "HYDRAGATE_OIDC_ISSUER"},
		"Issuer":             {func(s *Settings) { s.OIDCIssuer, s.OIDCAudience = "https://login.example.com/", "hydragate" }, ""},
		"IssuerHere":         {func(s *Settings) { s.OIDCIssuer, s.OIDCAudience = "http://127.0.0.1:9000/realms/staff", "hydragate" }, ""},
		"Private":            {func(s *Settings) { s.AgentAllowPrivate = "maybe" }, "HYDRAGATE_AGENT_ALLOW_PRIVATE"},
		"Level":              {func(s *Settings) { s.LogLevel = "loud" }, "HYDRAGATE_LOG_LEVEL"},
		"Format":             {func(s *Settings) { s.LogFormat = "xml" }, "HYDRAGATE_LOG_FORMAT"},
	} {
		t.Run(name, func(t *testing.T) {
			s := validSettings()
			c.change(&s)
			err := s.Check()
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

func TestSettings_KeyRingCreatedOnce(t *testing.T) {
	s := validSettings()
	s.DataDir = t.TempDir()
	if _, err := s.KeyRing(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.DataDir, "master.key")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v; want mode 0600", info, err)
	}
	before, _ := os.ReadFile(file)
	if _, err := s.KeyRing(); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
		t.Error("the key was made twice")
	}
}

// Whatever the settings are, they are good or there is one line that says what is wrong,
// without the value: that may be a secret.
func FuzzSettings(f *testing.F) {
	fields := reflect.TypeFor[Settings]().NumField()
	for _, s := range []string{
		"", "127.0.0.1:0", ":8080", "[::1]:8080", "https://hooks.example.com", "https://hooks.example.com/x", "http://steve:secretsecretsecret@host/", "postgres://steve:secretsecretsecret@host/db", "redis://:secretsecretsecret@host:1,rediss://b",
		"k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "deadbeefdeadbeefdeadbeefdeadbeef", "k1:c2VjcmV0c2VjcmV0c2VjcmV0", "k1:x,k1:x", "short-admin-key", "https://issuer.example", "true", "1", "maybe", "debug", "text", "\x00", "\xff", "://", "https://[::1", "%zz",
	} {
		for i := range fields {
			f.Add(byte(i), s, "")
		}
	}
	f.Fuzz(func(t *testing.T, which byte, value, other string) {
		s := Settings{Listen: "127.0.0.1:8080", LogLevel: "info"}
		v := reflect.ValueOf(&s).Elem()
		i := int(which) % fields
		v.Field(i).SetString(value)
		v.Field((i + 1) % fields).SetString(other)
		err := s.Check()
		if err == nil {
			if _, err := s.allowPrivateAgents(); err != nil {
				t.Errorf("good, and then %v", err)
			}
			return
		}
		said := err.Error()
		if !strings.Contains(said, "HYDRAGATE_") && !strings.Contains(said, "OTEL_") {
			t.Errorf("%q is wrong, and it is not said which: %s", value, said)
		}
		if strings.ContainsAny(said, "\n\r\x00") {
			t.Errorf("%q is wrong in more than a line: %q", value, said)
		}
		// Longer than any word of ours, so not found by chance.
		if len(value) > 80 && strings.Contains(said, value) || value == "deadbeefdeadbeefdeadbeefdeadbeef" && strings.Contains(said, value) {
			t.Errorf("the value is told: %s", said)
		}
	})
}
