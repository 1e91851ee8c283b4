package main

import (
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

	"hydragate/gateway/spool"
	"hydragate/store"
)

// settings are all settings of the program. This one table is read by the command
// line, the environment and --help; the README repeats it.
type settings struct {
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

// wrong says which setting is wrong and what would be right, in one line. It never
// holds the value: that may be a secret.
func wrong(name, right string) error { return fmt.Errorf("%s %s", name, right) }

// check gives the first thing that is wrong with the settings.
func (s *settings) check() error {
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		return wrong("HYDRAGATE_LISTEN", "must be host:port, such as 127.0.0.1:8080 or :8080")
	}
	if err := s.checkURLs(); err != nil {
		return err
	}
	if s.DatabaseURL != "" && !store.IsPostgres(s.DatabaseURL) {
		return wrong("HYDRAGATE_DATABASE_URL", "must begin with postgres://, or be unset for the embedded database")
	}
	for _, u := range strings.Split(s.RedisURL, ",") {
		if s.RedisURL != "" && !strings.HasPrefix(u, "redis://") && !strings.HasPrefix(u, "rediss://") {
			return wrong("HYDRAGATE_REDIS_URL", "must begin with redis:// or rediss://, or be unset for the embedded one")
		}
	}
	if s.MasterKeys != "" {
		if _, err := store.ParseKeyRing(s.MasterKeys); err != nil {
			return wrong("HYDRAGATE_MASTER_KEYS:", err.Error())
		}
	}
	switch {
	case s.postgres() && s.MasterKeys == "":
		return wrong("HYDRAGATE_MASTER_KEYS", "is required with Postgres: hydragate masterkey new prints one")
	case s.AdminKey != "" && len(s.AdminKey) < 32:
		return wrong("HYDRAGATE_ADMIN_KEY", "must have at least 32 characters")
	case s.OIDCIssuer == "" && s.OIDCAudience != "":
		return wrong("HYDRAGATE_OIDC_ISSUER", "is required with HYDRAGATE_OIDC_AUDIENCE: tokens of an issuer are accepted, or none")
	case s.OIDCIssuer != "" && s.OIDCAudience == "":
		return wrong("HYDRAGATE_OIDC_AUDIENCE", "is required with HYDRAGATE_OIDC_ISSUER: tokens for other programs must not be accepted")
	case s.OIDCIssuer != "" && !safeIssuerURL(s.OIDCIssuer):
		return wrong("HYDRAGATE_OIDC_ISSUER", "must be a URL that begins with https://, as the issuer's own documents write it")
	}
	if _, err := s.allowPrivate(); err != nil {
		return err
	}
	return s.checkLog()
}

func (s *settings) checkURLs() error {
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
			return wrong(c.name, c.right)
		}
	}
	s.PublicURL = strings.TrimSuffix(s.PublicURL, "/")
	return nil
}

func isOrigin(u *url.URL) bool { return u.Path == "" || u.Path == "/" }

func (s *settings) checkLog() error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return wrong("HYDRAGATE_LOG_LEVEL", "must be debug, info, warn or error")
	}
	switch s.LogFormat {
	case "", "json", "text":
		return nil
	}
	return wrong("HYDRAGATE_LOG_FORMAT", "must be json or text")
}

func (s *settings) postgres() bool { return s.DatabaseURL != "" }

// allowPrivate says whether agent URLs may lead to private addresses.
func (s *settings) allowPrivate() (bool, error) {
	switch strings.ToLower(s.AgentAllowPrivate) {
	case "":
		return !s.postgres(), nil
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, wrong("HYDRAGATE_AGENT_ALLOW_PRIVATE", "must be true or false")
}

// databaseFile is the embedded database, in the data folder.
const databaseFile = "hydragate.db"

// database is what store.Open takes. It makes the data folder when it is needed.
func (s *settings) database() (string, error) {
	if s.postgres() {
		return s.DatabaseURL, nil
	}
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return "", wrong("HYDRAGATE_DATA_DIR", "must be a folder that can be written: "+err.Error())
	}
	return filepath.Join(s.DataDir, databaseFile), nil
}

// there refuses to go on where no gateway keeps anything. What works on a gateway's data
// makes no empty database in a folder that was a mistake.
func (s *settings) there() error {
	if s.postgres() {
		return nil
	}
	if _, err := os.Stat(filepath.Join(s.DataDir, databaseFile)); errors.Is(err, fs.ErrNotExist) {
		return wrong("HYDRAGATE_DATA_DIR", "must be the folder of a gateway's data, and "+s.DataDir+" holds none: run this where the gateway runs, or name its folder")
	}
	return nil
}

// openSpool makes the folder where messages wait while the database is away.
func (s *settings) openSpool(log *slog.Logger) (*spool.Spool, error) {
	sp, err := spool.Open(filepath.Join(s.DataDir, "spool"), spool.Limit, log)
	if err != nil {
		return nil, wrong("HYDRAGATE_DATA_DIR", "must be a folder that can be written, for messages that wait in its folder spool while the database is away: "+err.Error())
	}
	return sp, nil
}

// keyRing gives the master keys: those of the settings, or the ones in the data
// folder, which are made when there are none and followed when they change.
func (s *settings) keyRing() (*store.KeyRing, error) {
	if s.MasterKeys != "" {
		return store.ParseKeyRing(s.MasterKeys)
	}
	return s.keyFile().ring()
}

// writeNew writes a secret to a file that must not exist yet.
func writeNew(file string, b []byte) error {
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

// logger writes to w as the settings say.
func (s *settings) logger(w io.Writer) *slog.Logger {
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
