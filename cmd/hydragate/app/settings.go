package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hydragate/gateway/ingest/spool"
	"hydragate/httpapi/oidc"
	"hydragate/httpapi/operation"
	"hydragate/identity"
	"hydragate/store"
	"hydragate/store/keyring"
	"hydragate/store/sqldb"
)

// Settings are the settings of the program. This struct defines the flags, the environment
// variables and --help. docs/operations.md repeats it; TestSettingsTable_Documented compares them.
type Settings struct {
	Listen            string `env:"HYDRAGATE_LISTEN" default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address to listen on. Port 0 picks a free port."`
	AdminListen       string `name:"admin-listen" env:"HYDRAGATE_ADMIN_LISTEN" placeholder:"ADDR" help:"Second address, for /metrics, /healthz, /readyz and /debug/pprof. /metrics is then not served on the first. It needs no key, so it must not be public. Default: off."`
	PublicURL         string `name:"public-url" env:"HYDRAGATE_PUBLIC_URL" placeholder:"URL" help:"https origin at which providers reach the gateway. Default: the listen address."`
	DatabaseURL       string `name:"database-url" env:"HYDRAGATE_DATABASE_URL" placeholder:"URL" help:"PostgreSQL database (postgres://…). Default: SQLite in the data directory."`
	RedisURL          string `name:"redis-url" env:"HYDRAGATE_REDIS_URL" placeholder:"URL" help:"Redis server (redis://… or rediss://…). Several URLs, separated by commas, form a cluster. Required with PostgreSQL, unless HYDRAGATE_SINGLE_REPLICA is true. Default: inside the process."`
	SingleReplica     string `name:"single-replica" env:"HYDRAGATE_SINGLE_REPLICA" default:"false" placeholder:"BOOL" help:"Run with PostgreSQL and without Redis: true or false. Claim codes are then kept in the process, so that only one gateway may use the database, and codes end with it."`
	DataDir           string `name:"data-dir" env:"HYDRAGATE_DATA_DIR" default:"./hydragate-data" placeholder:"DIR" help:"Local directory for the message spool, the embedded database and generated keys."`
	MasterKeys        string `name:"master-keys" env:"HYDRAGATE_MASTER_KEYS" placeholder:"ID:BASE64" help:"Encryption keys, separated by commas. The first encrypts; all can decrypt. Required with PostgreSQL. Default: generated in the data directory."`
	TrustedProxies    string `name:"trusted-proxies" env:"HYDRAGATE_TRUSTED_PROXIES" placeholder:"CIDR" help:"Networks of proxies whose X-Forwarded-For is believed, separated by commas, such as 10.0.0.0/8. Failed authentications are limited per client network. Default: none."`
	AdminKey          string `name:"admin-key" env:"HYDRAGATE_ADMIN_KEY" placeholder:"KEY" help:"API key with all scopes, at least 32 characters. Required at the first start with PostgreSQL. Starting with another key revokes the previous one. Default: generated and printed once."`
	OIDCIssuer        string `name:"oidc-issuer" env:"HYDRAGATE_OIDC_ISSUER" placeholder:"URL" help:"Accept staff tokens (JWT) of this OpenID Connect issuer. The claim hydragate_scopes lists their scopes; without it, the roles admin, staff and viewer apply. Default: off."`
	OIDCAudience      string `name:"oidc-audience" env:"HYDRAGATE_OIDC_AUDIENCE" placeholder:"NAME" help:"Audience that staff tokens must have. Required with HYDRAGATE_OIDC_ISSUER."`
	TelegramAPIURL    string `name:"telegram-api-url" env:"HYDRAGATE_TELEGRAM_API_URL" placeholder:"URL" help:"Telegram Bot API server. Default: https://api.telegram.org."`
	TwilioAPIURL      string `name:"twilio-api-url" env:"HYDRAGATE_TWILIO_API_URL" placeholder:"URL" help:"Twilio API server, such as a regional one. Default: https://api.twilio.com."`
	SlackAPIURL       string `name:"slack-api-url" env:"HYDRAGATE_SLACK_API_URL" placeholder:"URL" help:"Slack API, ending in /api/. Default: https://slack.com/api/."`
	AgentAllowPrivate string `name:"agent-allow-private" env:"HYDRAGATE_AGENT_ALLOW_PRIVATE" placeholder:"BOOL" help:"Allow agent URLs on loopback and private addresses: true or false. Default: true with SQLite, false with PostgreSQL."`
	SendLimits        string `name:"send-limits" env:"HYDRAGATE_SEND_LIMITS" default:"true" placeholder:"BOOL" help:"Keep within the numbers of messages that Telegram and Slack accept from a bot and in a chat: true or false. false sends until they refuse, for bots with raised limits; their waiting times are kept in any case."`
	CheckInterval     string `name:"check-interval" env:"HYDRAGATE_CHECK_INTERVAL" default:"5m" placeholder:"TIME" help:"How often the providers are asked whether a channel works, from 1s to 1h. A webhook that is refused and a notice of the provider cause a check at once."`
	LogLevel          string `name:"log-level" env:"HYDRAGATE_LOG_LEVEL" default:"info" placeholder:"LEVEL" help:"Least severe level to log: debug, info, warn or error."`
	LogFormat         string `name:"log-format" env:"HYDRAGATE_LOG_FORMAT" placeholder:"FORMAT" help:"json or text. Default: text on a terminal, otherwise json."`
	OTLPEndpoint      string `name:"otlp-endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL" help:"Collector that receives traces by OTLP over HTTP. Default: off."`
}

// InvalidSetting returns an error of one line that names a setting and says what to do. It must
// not contain the value, which may be a secret.
func InvalidSetting(name, text string) error { return fmt.Errorf("%s %s", name, text) }

// Check returns an error for the first invalid setting. It removes a trailing slash from PublicURL.
// It is not named Validate because kong would call a method of that name and prefix the error with
// the command.
func (s *Settings) Check() error {
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		return InvalidSetting("HYDRAGATE_LISTEN", "must be host:port, such as 127.0.0.1:8080 or :8080")
	}
	if _, _, err := net.SplitHostPort(s.AdminListen); err != nil && s.AdminListen != "" {
		return InvalidSetting("HYDRAGATE_ADMIN_LISTEN", "must be host:port, such as 127.0.0.1:9090")
	}
	if err := s.validateURLs(); err != nil {
		return err
	}
	if s.DatabaseURL != "" && !sqldb.IsPostgres(s.DatabaseURL) {
		return InvalidSetting("HYDRAGATE_DATABASE_URL",
			"must start with postgres://; leave it unset to use the embedded database")
	}
	for u := range strings.SplitSeq(s.RedisURL, ",") {
		if s.RedisURL != "" && !strings.HasPrefix(u, "redis://") && !strings.HasPrefix(u, "rediss://") {
			return InvalidSetting("HYDRAGATE_REDIS_URL",
				"must start with redis:// or rediss://; leave it unset to use the embedded Redis")
		}
	}
	if _, err := s.proxies(); err != nil {
		return err
	}
	if s.MasterKeys != "" {
		if _, err := keyring.Parse(s.MasterKeys); err != nil {
			return InvalidSetting("HYDRAGATE_MASTER_KEYS:", err.Error())
		}
	}
	switch {
	case s.usesPostgres() && s.MasterKeys == "":
		return InvalidSetting("HYDRAGATE_MASTER_KEYS",
			"is required with PostgreSQL: run hydragate masterkey new to create a key")
	case s.AdminKey != "" && len(s.AdminKey) < minAdminKeyLength:
		return InvalidSetting("HYDRAGATE_ADMIN_KEY", "must have at least 32 characters")
	case s.AdminKey != "" && isGuessable(s.AdminKey):
		return InvalidSetting("HYDRAGATE_ADMIN_KEY",
			"is easy to guess: set it to at least 32 random characters, such as the output of openssl rand -hex 24")
	case s.OIDCIssuer == "" && s.OIDCAudience != "":
		return InvalidSetting("HYDRAGATE_OIDC_ISSUER", "is required with HYDRAGATE_OIDC_AUDIENCE: set both, or neither")
	case s.OIDCIssuer != "" && s.OIDCAudience == "":
		return InvalidSetting("HYDRAGATE_OIDC_AUDIENCE", "is required with HYDRAGATE_OIDC_ISSUER: set both, or neither")
	case s.OIDCIssuer != "" && !oidc.IsSafeIssuerURL(s.OIDCIssuer):
		return InvalidSetting("HYDRAGATE_OIDC_ISSUER",
			"must be the issuer URL exactly as the issuer publishes it, starting with https://")
	}
	if _, err := s.allowPrivateAgents(); err != nil {
		return err
	}
	if _, err := s.isSingleReplica(); err != nil {
		return err
	}
	if _, err := s.limitsSends(); err != nil {
		return err
	}
	if _, err := s.checkInterval(); err != nil {
		return err
	}
	return s.validateLog()
}

// checkCodeStore returns an error if the claim codes would be kept in the process although several
// gateways may use the database: each would reject the codes that another has issued.
func (s *Settings) checkCodeStore() error {
	single, err := s.isSingleReplica()
	if err == nil && s.usesPostgres() && s.RedisURL == "" && !single {
		err = InvalidSetting("HYDRAGATE_REDIS_URL", "is required with PostgreSQL, so that all replicas know the claim "+
			"codes: set it, or set HYDRAGATE_SINGLE_REPLICA=true if only this gateway uses the database")
	}
	return err
}

// validateURLs checks the URLs except those of the database and Redis.
func (s *Settings) validateURLs() error {
	const origin = "must be an origin without a path, such as "
	anyPath := func(*url.URL) bool { return true }
	slackAPI := func(u *url.URL) bool { return strings.HasSuffix(u.Path, "/api/") }
	for _, c := range []struct {
		name, value, message string
		valid                func(*url.URL) bool
	}{
		{"HYDRAGATE_PUBLIC_URL", s.PublicURL, origin + "https://hooks.example.com", isOrigin},
		{"HYDRAGATE_TELEGRAM_API_URL", s.TelegramAPIURL, origin + "https://api.telegram.org", isOrigin},
		{"HYDRAGATE_TWILIO_API_URL", s.TwilioAPIURL, origin + "https://api.twilio.com", isOrigin},
		{
			"HYDRAGATE_SLACK_API_URL", s.SlackAPIURL,
			"must be a URL that ends in /api/, such as https://slack.com/api/", slackAPI,
		},
		{
			"OTEL_EXPORTER_OTLP_ENDPOINT", s.OTLPEndpoint,
			"must be the URL of a collector that accepts OTLP over HTTP, such as http://127.0.0.1:4318", anyPath,
		},
	} {
		if c.value == "" {
			continue
		}
		u, err := url.Parse(c.value)
		if err != nil || !isPlainHTTP(u) || !c.valid(u) {
			return InvalidSetting(c.name, c.message)
		}
	}
	s.PublicURL = strings.TrimSuffix(s.PublicURL, "/")
	return nil
}

// isPlainHTTP reports whether u is an HTTP URL without credentials, query and fragment.
func isPlainHTTP(u *url.URL) bool {
	return (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && u.RawQuery == "" &&
		u.Fragment == ""
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

// allowPrivateAgents reports whether agent URLs may point to private addresses.
func (s *Settings) allowPrivateAgents() (bool, error) {
	return parseBool("HYDRAGATE_AGENT_ALLOW_PRIVATE", s.AgentAllowPrivate, !s.usesPostgres())
}

// isSingleReplica reports whether the operator says that only this gateway uses the database.
func (s *Settings) isSingleReplica() (bool, error) {
	return parseBool("HYDRAGATE_SINGLE_REPLICA", s.SingleReplica, false)
}

func (s *Settings) limitsSends() (bool, error) {
	return parseBool("HYDRAGATE_SEND_LIMITS", s.SendLimits, true)
}

// checkInterval returns the time between checks of a channel, or zero for the default.
func (s *Settings) checkInterval() (time.Duration, error) {
	if s.CheckInterval == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s.CheckInterval)
	if err != nil || d < time.Second || d > time.Hour {
		return 0, InvalidSetting("HYDRAGATE_CHECK_INTERVAL", "must be a time from 1s to 1h, such as 5m")
	}
	return d, nil
}

// parseBool returns the value of a setting, or unset if it is empty.
func parseBool(name, value string, unset bool) (bool, error) {
	switch strings.ToLower(value) {
	case "":
		return unset, nil
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, InvalidSetting(name, "must be true or false")
}

// proxies returns the networks of trusted proxies.
func (s *Settings) proxies() (operation.Proxies, error) {
	var all operation.Proxies
	for text := range strings.SplitSeq(s.TrustedProxies, ",") {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		network, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
			network, err = addr.Unmap().Prefix(addr.Unmap().BitLen())
		}
		if err != nil || network.Bits() == 0 || network.Addr().Is4In6() {
			return nil, InvalidSetting("HYDRAGATE_TRUSTED_PROXIES",
				"must list the networks of your proxies, separated by commas, such as 10.0.0.0/8,fd00::/8")
		}
		all = append(all, network.Masked())
	}
	return all, nil
}

// databaseFileName is the name of the embedded database in the data directory.
const databaseFileName = "hydragate.db"

// DSN returns the database URL or file for store.Open. With the embedded database it creates the
// data directory.
func (s *Settings) DSN() (string, error) {
	if s.usesPostgres() {
		return s.DatabaseURL, nil
	}
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return "", InvalidSetting("HYDRAGATE_DATA_DIR", "must be a writable directory: "+err.Error())
	}
	return filepath.Join(s.DataDir, databaseFileName), nil
}

// requireData returns an error if the data directory contains no database. It prevents commands
// from creating an empty database in a mistyped directory.
func (s *Settings) requireData() error {
	if s.usesPostgres() {
		return nil
	}
	if _, err := os.Stat(filepath.Join(s.DataDir, databaseFileName)); errors.Is(err, fs.ErrNotExist) {
		return InvalidSetting("HYDRAGATE_DATA_DIR", fmt.Sprintf("must be the data directory of a gateway, and %s "+
			"contains no database: set it, or run hydragate serve to create one", s.DataDir))
	}
	return nil
}

// openSpool opens the spool in the data directory, for messages that arrive while the database is
// unavailable.
func (s *Settings) openSpool(log *slog.Logger) (*spool.Spool, error) {
	sp, err := spool.Open(filepath.Join(s.DataDir, "spool"), spool.DefaultLimit, log)
	if err != nil {
		return nil, InvalidSetting("HYDRAGATE_DATA_DIR", "must be a writable directory, also for its subdirectory spool: "+
			err.Error())
	}
	return sp, nil
}

// KeyRing returns the master keys: those of the settings, or else those of the key file. It
// creates the key file if it does not exist, and the ring follows its changes.
func (s *Settings) KeyRing() (*keyring.Ring, error) {
	if s.MasterKeys != "" {
		return keyring.Parse(s.MasterKeys)
	}
	return s.KeyFile().keyRing()
}

// Logger returns a logger that writes to w in the format and at the level of the settings.
func (s *Settings) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // checked by Check
	format := s.LogFormat
	if format == "" && IsTerminal(w) {
		format = "text"
	}
	opts := &slog.HandlerOptions{Level: level}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

// OpenStore opens the database of a gateway for a command, which may run while the gateway does.
// It returns an error if there is no database yet.
func OpenStore(ctx context.Context, s *Settings) (*store.Store, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if err := s.requireData(); err != nil {
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
	st, err := store.Open(ctx, dsn, keys)
	if err != nil {
		return nil, databaseError(s, err)
	}
	return st, nil
}

// databaseError names the setting that is the cause of an error of store.Open.
func databaseError(s *Settings, err error) error {
	var mismatch *store.KeyMismatchError
	switch {
	case errors.As(err, &mismatch):
		return InvalidSetting(s.masterKeySource(), fmt.Sprintf("key %q differs from the key %q of this database: "+
			"restore the original key, or give the new key another id", mismatch.ID, mismatch.ID))
	case s.usesPostgres():
		return InvalidSetting("HYDRAGATE_DATABASE_URL", "names a database that cannot be used: "+err.Error())
	}
	return InvalidSetting("HYDRAGATE_DATA_DIR", "contains a database that cannot be used: "+err.Error())
}

// CommandActor is the actor in the audit log of what was done on the command line.
const CommandActor identity.Actor = "command"

// spoolHasRecords reports whether gateways that have stopped left messages in the spool. These
// messages are encrypted with a master key.
func (s *Settings) spoolHasRecords() (bool, error) {
	sp, err := s.openSpool(slog.New(slog.DiscardHandler))
	if err != nil {
		return false, err
	}
	defer sp.Close()
	_, err = sp.TakeOver()
	return sp.HasRecords(), err
}

// masterKeySource describes where the master keys come from, for errors.
func (s *Settings) masterKeySource() string {
	if s.usesKeyFile() {
		return fmt.Sprintf("HYDRAGATE_MASTER_KEYS (not set, so %s applies)", s.KeyFile().Path)
	}
	return "HYDRAGATE_MASTER_KEYS"
}
