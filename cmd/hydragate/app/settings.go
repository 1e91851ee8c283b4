package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/mattn/go-isatty"

	"hydragate/gateway/ingest/spool"
	"hydragate/httpapi/oidc"
	"hydragate/identity"
	"hydragate/store"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// Settings are all settings of the program. This one table is read by the command
// line, the environment and --help; the README repeats it.
type Settings struct {
	Listen            string `env:"HYDRAGATE_LISTEN" default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address to listen on; port 0 picks a free one."`
	PublicURL         string `name:"public-url" env:"HYDRAGATE_PUBLIC_URL" placeholder:"URL" help:"The https origin that providers call. Default: the listen address."`
	DatabaseURL       string `name:"database-url" env:"HYDRAGATE_DATABASE_URL" placeholder:"URL" help:"postgres://… for production. Default: an SQLite file in the data folder."`
	RedisURL          string `name:"redis-url" env:"HYDRAGATE_REDIS_URL" placeholder:"URL" help:"redis://… or rediss://…; several, comma-separated, are a cluster. Default: inside this process."`
	DataDir           string `name:"data-dir" env:"HYDRAGATE_DATA_DIR" default:"./hydragate-data" placeholder:"DIR" help:"Folder of this machine for messages that wait while the database is away, and for the embedded database and generated keys."`
	MasterKeys        string `name:"master-keys" env:"HYDRAGATE_MASTER_KEYS" placeholder:"ID:BASE64" help:"Keys that seal secrets: the first seals, all open. Required with Postgres. Default: generated into the data folder."`
	AdminKey          string `name:"admin-key" env:"HYDRAGATE_ADMIN_KEY" placeholder:"KEY" help:"First API key, with every right; at least 32 characters. Required with an empty Postgres; another one, at a later start, revokes it. Default: generated and printed once."`
	OIDCIssuer        string `name:"oidc-issuer" env:"HYDRAGATE_OIDC_ISSUER" placeholder:"URL" help:"Accept staff bearer tokens (JWT) of this OpenID Connect issuer. Their claim hydragate_scopes lists scopes; without it roles or role names admin, staff or viewer. Default: off."`
	OIDCAudience      string `name:"oidc-audience" env:"HYDRAGATE_OIDC_AUDIENCE" placeholder:"NAME" help:"The audience that staff tokens must be for. Required with an issuer."`
	TelegramAPIURL    string `name:"telegram-api-url" env:"HYDRAGATE_TELEGRAM_API_URL" placeholder:"URL" help:"Another Bot API server."`
	TwilioAPIURL      string `name:"twilio-api-url" env:"HYDRAGATE_TWILIO_API_URL" placeholder:"URL" help:"Another Twilio API server, such as a regional one."`
	SlackAPIURL       string `name:"slack-api-url" env:"HYDRAGATE_SLACK_API_URL" placeholder:"URL" help:"Another Slack API, a URL that ends in /api/."`
	AgentAllowPrivate string `name:"agent-allow-private" env:"HYDRAGATE_AGENT_ALLOW_PRIVATE" placeholder:"BOOL" help:"Allow agent URLs on loopback and private addresses. Default: only with the embedded database."`
	LogLevel          string `name:"log-level" env:"HYDRAGATE_LOG_LEVEL" default:"info" placeholder:"LEVEL" help:"debug, info, warn or error."`
	LogFormat         string `name:"log-format" env:"HYDRAGATE_LOG_FORMAT" placeholder:"FORMAT" help:"json or text. Default: text on a terminal, else json."`
	OTLPEndpoint      string `name:"otlp-endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL" help:"Send traces to this collector, by OTLP over HTTP. Default: off."`
}

// InvalidSetting says which setting is wrong and what would be right, in one line. It never
// holds the value: that may be a secret.
func InvalidSetting(name, right string) error { return fmt.Errorf("%s %s", name, right) }

// Check returns an error for the first invalid setting. It is not named Validate because kong would
// call a method of that name and prefix the error with the command.
func (s *Settings) Check() error {
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		return InvalidSetting("HYDRAGATE_LISTEN", "must be host:port, such as 127.0.0.1:8080 or :8080")
	}
	if err := s.validateURLs(); err != nil {
		return err
	}
	if s.DatabaseURL != "" && !sqldb.IsPostgres(s.DatabaseURL) {
		return InvalidSetting("HYDRAGATE_DATABASE_URL", "must begin with postgres://, or be unset for the embedded database")
	}
	for _, u := range strings.Split(s.RedisURL, ",") {
		if s.RedisURL != "" && !strings.HasPrefix(u, "redis://") && !strings.HasPrefix(u, "rediss://") {
			return InvalidSetting("HYDRAGATE_REDIS_URL", "must begin with redis:// or rediss://, or be unset for the embedded one")
		}
	}
	if s.MasterKeys != "" {
		if _, err := keyring.Parse(s.MasterKeys); err != nil {
			return InvalidSetting("HYDRAGATE_MASTER_KEYS:", err.Error())
		}
	}
	switch {
	case s.usesPostgres() && s.MasterKeys == "":
		return InvalidSetting("HYDRAGATE_MASTER_KEYS", "is required with Postgres: hydragate masterkey new prints one")
	case s.AdminKey != "" && len(s.AdminKey) < 32:
		return InvalidSetting("HYDRAGATE_ADMIN_KEY", "must have at least 32 characters")
	case s.OIDCIssuer == "" && s.OIDCAudience != "":
		return InvalidSetting("HYDRAGATE_OIDC_ISSUER", "is required with HYDRAGATE_OIDC_AUDIENCE: tokens of an issuer are accepted, or none")
	case s.OIDCIssuer != "" && s.OIDCAudience == "":
		return InvalidSetting("HYDRAGATE_OIDC_AUDIENCE", "is required with HYDRAGATE_OIDC_ISSUER: tokens for other programs must not be accepted")
	case s.OIDCIssuer != "" && !oidc.IsSafeIssuerURL(s.OIDCIssuer):
		return InvalidSetting("HYDRAGATE_OIDC_ISSUER", "must be a URL that begins with https://, as the issuer's own documents write it")
	}
	if _, err := s.allowPrivateAgents(); err != nil {
		return err
	}
	return s.validateLog()
}

func (s *Settings) validateURLs() error {
	for _, c := range []struct {
		name, value, right string
		ok                 func(*url.URL) bool
	}{
		{"HYDRAGATE_PUBLIC_URL", s.PublicURL, "must be an origin without a path, such as https://hooks.example.com", isOrigin},
		{"HYDRAGATE_TELEGRAM_API_URL", s.TelegramAPIURL, "must be an origin without a path, such as https://api.telegram.org", isOrigin},
		{"HYDRAGATE_TWILIO_API_URL", s.TwilioAPIURL, "must be an origin without a path, such as https://api.twilio.com", isOrigin},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", s.OTLPEndpoint, "must be the URL of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318", func(*url.URL) bool { return true }},
		{"HYDRAGATE_SLACK_API_URL", s.SlackAPIURL, "must be a URL that ends in /api/, such as https://slack.com/api/", func(u *url.URL) bool { return strings.HasSuffix(u.Path, "/api/") }},
	} {
		if c.value == "" {
			continue
		}
		u, err := url.Parse(c.value)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !c.ok(u) {
			return InvalidSetting(c.name, c.right)
		}
	}
	s.PublicURL = strings.TrimSuffix(s.PublicURL, "/")
	return nil
}

func isOrigin(u *url.URL) bool { return u.Path == "" || u.Path == "/" }

func (s *Settings) validateLog() error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return InvalidSetting("HYDRAGATE_LOG_LEVEL", "must be debug, info, warn or error")
	}
	switch s.LogFormat {
	case "", "json", "text":
		return nil
	}
	return InvalidSetting("HYDRAGATE_LOG_FORMAT", "must be json or text")
}

func (s *Settings) usesPostgres() bool { return s.DatabaseURL != "" }

// allowPrivateAgents says whether agent URLs may lead to private addresses.
func (s *Settings) allowPrivateAgents() (bool, error) {
	switch strings.ToLower(s.AgentAllowPrivate) {
	case "":
		return !s.usesPostgres(), nil
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, InvalidSetting("HYDRAGATE_AGENT_ALLOW_PRIVATE", "must be true or false")
}

// databaseFileName is the embedded database, in the data folder.
const databaseFileName = "hydragate.db"

// DSN is what store.Open takes. It makes the data folder when it is needed.
func (s *Settings) DSN() (string, error) {
	if s.usesPostgres() {
		return s.DatabaseURL, nil
	}
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return "", InvalidSetting("HYDRAGATE_DATA_DIR", "must be a folder that can be written: "+err.Error())
	}
	return filepath.Join(s.DataDir, databaseFileName), nil
}

// RequireData refuses to go on where no gateway keeps anything. What works on a gateway's data
// makes no empty database in a folder that was a mistake.
func (s *Settings) RequireData() error {
	if s.usesPostgres() {
		return nil
	}
	if _, err := os.Stat(filepath.Join(s.DataDir, databaseFileName)); errors.Is(err, fs.ErrNotExist) {
		return InvalidSetting("HYDRAGATE_DATA_DIR", "must be the folder of a gateway's data, and "+s.DataDir+" holds none: run this where the gateway runs, or name its folder")
	}
	return nil
}

// openSpool makes the folder where messages wait while the database is away.
func (s *Settings) openSpool(log *slog.Logger) (*spool.Spool, error) {
	sp, err := spool.Open(filepath.Join(s.DataDir, "spool"), spool.DefaultLimit, log)
	if err != nil {
		return nil, InvalidSetting("HYDRAGATE_DATA_DIR", "must be a folder that can be written, for messages that wait in its folder spool while the database is away: "+err.Error())
	}
	return sp, nil
}

// KeyRing gives the master keys: those of the settings, or the ones in the data
// folder, which are made when there are none and followed when they change.
func (s *Settings) KeyRing() (*keyring.Ring, error) {
	if s.MasterKeys != "" {
		return keyring.Parse(s.MasterKeys)
	}
	return s.KeyFile().keyRing()
}

// writeNewFile writes a secret to a file that must not exist yet.
func writeNewFile(file string, b []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Logger writes to w as the settings say.
func (s *Settings) Logger(w io.Writer) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(s.LogLevel)) // checked before
	format := s.LogFormat
	if f, ok := w.(*os.File); format == "" && ok && isatty.IsTerminal(f.Fd()) {
		format = "text"
	}
	opts := &slog.HandlerOptions{Level: l}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

// OpenStore opens the store of a command that runs beside a gateway.
func OpenStore(ctx context.Context, s *Settings) (*store.Store, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	dsn, err := s.DSN()
	if err != nil {
		return nil, err
	}
	keys, err := s.KeyRing()
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, dsn, keys)
}

// CommandActor is the actor of what is done at the command line.
const CommandActor identity.Actor = "command"

// SpoolHasRecords reports whether gateways that ended left messages behind: they are sealed
// too.
func (s *Settings) SpoolHasRecords() (bool, error) {
	sp, err := s.openSpool(slog.New(slog.DiscardHandler))
	if err != nil {
		return false, err
	}
	defer sp.Close()
	_, err = sp.TakeOver()
	return sp.HasRecords(), err
}

// masterKeySource names where the master keys come from.
func (s *Settings) masterKeySource() string {
	if s.UsesKeyFile() {
		return fmt.Sprintf("HYDRAGATE_MASTER_KEYS (not set: %s)", s.KeyFile().Path)
	}
	return "HYDRAGATE_MASTER_KEYS"
}

// MigrationDSN gives what a migration needs: settings in order, and the address.
func (s *Settings) MigrationDSN() (string, error) {
	if s.usesPostgres() && s.MasterKeys == "" {
		s.MasterKeys = keyring.GenerateKey("unused") // migrating seals nothing
	}
	if err := s.Check(); err != nil {
		return "", err
	}
	return s.DSN()
}
