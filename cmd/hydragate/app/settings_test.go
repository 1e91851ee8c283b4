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

var update = flag.Bool("update", false, "update the table of settings in docs/operations.md")

// settingsTable returns the table of settings in docs/operations.md.
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

// TestSettingsTable_Documented compares the table of settings in docs/operations.md with Settings.
func TestSettingsTable_Documented(t *testing.T) {
	const file, begin, end = "../../../docs/operations.md", "<!-- settings -->\n", "<!-- /settings -->"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := bytes.Cut(b, []byte(begin))
	table, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		t.Fatal("docs/operations.md has no marks around its table of settings")
	}
	if *update {
		updated := bytes.Join([][]byte{head, []byte(begin), []byte(settingsTable()), []byte(end), tail}, nil)
		if err := os.WriteFile(file, updated, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(table) != settingsTable() {
		t.Errorf("the table of settings in docs/operations.md is outdated: " +
			"run go test ./cmd/hydragate/app -run SettingsTable -update")
	}
}

// validSettings returns settings that pass Check.
func validSettings() Settings {
	return Settings{Listen: "127.0.0.1:0", DataDir: "x", LogLevel: "info"}
}

func TestSettings_Check(t *testing.T) {
	const long = "9f86d081884c7d659a2feaa0c55ad015"
	masterKey := keyring.GenerateKey("a")
	staff := func(issuer string) func(*Settings) {
		return func(s *Settings) { s.OIDCIssuer, s.OIDCAudience = issuer, "hydragate" }
	}
	for name, c := range map[string]struct {
		change func(*Settings)
		want   string // setting that the error names, without HYDRAGATE_; empty if the settings are valid
	}{
		"valid":                       {func(*Settings) {}, ""},
		"listen without host":         {func(s *Settings) { s.Listen = "8080" }, "LISTEN"},
		"public URL with path":        {func(s *Settings) { s.PublicURL = "https://a.example/x" }, "PUBLIC_URL"},
		"public URL without scheme":   {func(s *Settings) { s.PublicURL = "hooks.example.com" }, "PUBLIC_URL"},
		"public URL with user":        {func(s *Settings) { s.PublicURL = "https://u:secret@a.example" }, "PUBLIC_URL"},
		"public URL with slash":       {func(s *Settings) { s.PublicURL = "https://a.example/" }, ""},
		"database not PostgreSQL":     {func(s *Settings) { s.DatabaseURL = "mysql://u:secret@h/d" }, "DATABASE_URL"},
		"Redis URL of another scheme": {func(s *Settings) { s.RedisURL = "redis://a,memcached://b" }, "REDIS_URL"},
		"Redis cluster":               {func(s *Settings) { s.RedisURL = "redis://a:1,redis://b:2" }, ""},
		"PostgreSQL, no master keys":  {func(s *Settings) { s.DatabaseURL = "postgres://h/d" }, "MASTER_KEYS"},
		"PostgreSQL":                  {func(s *Settings) { s.DatabaseURL, s.MasterKeys = "postgres://h/d", masterKey }, ""},
		"master key too short":        {func(s *Settings) { s.MasterKeys = "a:c2VjcmV0" }, "MASTER_KEYS"},
		"duplicate master key id":     {func(s *Settings) { s.MasterKeys = masterKey + "," + masterKey }, "MASTER_KEYS"},
		"master key without id":       {func(s *Settings) { s.MasterKeys = masterKey[len("a:"):] }, "MASTER_KEYS"},
		"admin key too short":         {func(s *Settings) { s.AdminKey = long[1:] }, "ADMIN_KEY"},
		"admin key":                   {func(s *Settings) { s.AdminKey = long }, ""},
		"Telegram URL with path":      {func(s *Settings) { s.TelegramAPIURL = "https://a/bot" }, "TELEGRAM_API_URL"},
		"Twilio URL without scheme":   {func(s *Settings) { s.TwilioAPIURL = "twilio" }, "TWILIO_API_URL"},
		"Slack URL without /api/":     {func(s *Settings) { s.SlackAPIURL = "https://slack.com/" }, "SLACK_API_URL"},
		"Slack URL":                   {func(s *Settings) { s.SlackAPIURL = "http://127.0.0.1:1/api/" }, ""},
		"collector":                   {func(s *Settings) { s.OTLPEndpoint = "http://127.0.0.1:4318" }, ""},
		"collector without scheme": {
			func(s *Settings) { s.OTLPEndpoint = "127.0.0.1:4317" }, "OTEL_EXPORTER_OTLP_ENDPOINT",
		},
		"issuer without audience":   {func(s *Settings) { s.OIDCIssuer = "https://login.example.com" }, "OIDC_AUDIENCE"},
		"audience without issuer":   {func(s *Settings) { s.OIDCAudience = "hydragate" }, "OIDC_ISSUER"},
		"issuer without TLS":        {staff("http://login.example.com"), "OIDC_ISSUER"},
		"issuer with user":          {staff("https://u:secret@login.example.com"), "OIDC_ISSUER"},
		"issuer":                    {staff("https://login.example.com/"), ""},
		"issuer on loopback":        {staff("http://127.0.0.1:9000/realms/staff"), ""},
		"proxies":                   {func(s *Settings) { s.TrustedProxies = "10.0.0.0/8, fd00::/8,192.0.2.1" }, ""},
		"proxy by name":             {func(s *Settings) { s.TrustedProxies = "10.0.0.0/8,proxy" }, "TRUSTED_PROXIES"},
		"every address is a proxy":  {func(s *Settings) { s.TrustedProxies = "0.0.0.0/0" }, "TRUSTED_PROXIES"},
		"mapped network of proxies": {func(s *Settings) { s.TrustedProxies = "::ffff:10.0.0.0/104" }, "TRUSTED_PROXIES"},
		"invalid boolean":           {func(s *Settings) { s.AgentAllowPrivate = "maybe" }, "AGENT_ALLOW_PRIVATE"},
		"unknown log level":         {func(s *Settings) { s.LogLevel = "loud" }, "LOG_LEVEL"},
		"unknown log format":        {func(s *Settings) { s.LogFormat = "xml" }, "LOG_FORMAT"},
	} {
		t.Run(name, func(t *testing.T) {
			s := validSettings()
			c.change(&s)
			err := s.Check()
			if (err == nil) != (c.want == "") {
				t.Fatalf("Check = %v, want an error about %q", err, c.want)
			}
			if err == nil {
				return
			}
			if !strings.HasPrefix(strings.TrimPrefix(err.Error(), "HYDRAGATE_"), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Check = %q, want one line that starts with %s", err, c.want)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c2VjcmV0") {
				t.Errorf("Check = %q, which contains the value", err)
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
		t.Fatalf("Stat(%s) = %v, %v, want mode 0600", file, info, err)
	}
	before, _ := os.ReadFile(file)
	if _, err := s.KeyRing(); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
		t.Error("the second call replaced the key")
	}
}

// FuzzSettings checks arbitrary settings. An error must be one line that names a setting and does not
// contain its value, which may be a secret.
func FuzzSettings(f *testing.F) {
	fields := reflect.TypeFor[Settings]().NumField()
	for _, s := range []string{
		"", "127.0.0.1:0", ":8080", "[::1]:8080", "https://hooks.example.com", "https://hooks.example.com/x",
		"http://steve:secretsecretsecret@host/", "postgres://steve:secretsecretsecret@host/db",
		"redis://:secretsecretsecret@host:1,rediss://b", "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
		"deadbeefdeadbeefdeadbeefdeadbeef", "k1:c2VjcmV0c2VjcmV0c2VjcmV0", "k1:x,k1:x", "short-admin-key",
		"https://issuer.example", "true", "1", "maybe", "debug", "text", "\x00", "\xff", "://", "https://[::1", "%zz",
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
				t.Errorf("Check = nil, but allowPrivateAgents = %v", err)
			}
			return
		}
		text := err.Error()
		if !strings.Contains(text, "HYDRAGATE_") && !strings.Contains(text, "OTEL_") {
			t.Errorf("Check(%q) = %q, which names no setting", value, text)
		}
		if strings.ContainsAny(text, "\n\r\x00") {
			t.Errorf("Check(%q) = %q, want one line", value, text)
		}
		// Longer than any word of an error text, so it cannot occur by chance.
		if len(value) > 80 && strings.Contains(text, value) ||
			value == "deadbeefdeadbeefdeadbeefdeadbeef" && strings.Contains(text, value) {
			t.Errorf("Check(%q) = %q, which contains the value", value, text)
		}
	})
}

// TestSettings_CodeStore tests that claim codes are kept in the process only if no other gateway can
// use the database, or the operator says so.
func TestSettings_CodeStore(t *testing.T) {
	for name, c := range map[string]struct {
		database, redis, single string
		want                    bool
	}{
		"embedded":                        {"", "", "", true},
		"embedded, several replicas":      {"", "", "false", true},
		"PostgreSQL and Redis":            {"postgres://h/d", "redis://h", "", true},
		"PostgreSQL and Redis, single":    {"postgres://h/d", "redis://h", "true", true},
		"PostgreSQL, single":              {"postgres://h/d", "", "TRUE", true},
		"PostgreSQL":                      {"postgres://h/d", "", "", false},
		"PostgreSQL, several replicas":    {"postgres://h/d", "", "false", false},
		"PostgreSQL, single misspelled":   {"postgres://h/d", "", "yes", false},
		"PostgreSQL, single is not false": {"postgres://h/d", "", "0", false},
	} {
		s := validSettings()
		s.DatabaseURL, s.RedisURL, s.SingleReplica = c.database, c.redis, c.single
		if err := s.checkCodeStore(); (err == nil) != c.want {
			t.Errorf("%s: checkCodeStore() = %v, want accepted = %v", name, err, c.want)
		}
	}
}
