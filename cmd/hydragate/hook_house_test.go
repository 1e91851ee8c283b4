//go:build linux

package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"hydragate/adapters"
	"hydragate/adapters/simulator"
	"hydragate/gateway"
	"hydragate/identity"
	"hydragate/store"
)

// hookOrigin is what providers call in these tests. Nobody listens there: requests go
// to the program itself, as if a proxy had passed them on.
const hookOrigin = "https://hooks.acme.example"

const hookKey = "an-admin-key-for-the-hooks-0123456789abcd"

// A hookSeat is what there is to know about one instance: enough to sign for it.
type hookSeat struct {
	instance string

	telegramSecret string

	account, token, phone string

	team, app, signing string
}

// A hookHouse is the whole program with everything a stranger may mistake for
// something else: acme; a neighbour with a bot, a number of the same Twilio account and
// an app of its own; a foreigner at another account; and one without any key.
type hookHouse struct {
	t     *testing.T
	addr  string
	sql   *sql.DB
	dsn   string
	spool string     // folder of what waits beside the database
	log   safeBuffer // of a program in this process
	pid   int        // of one in another

	acme, neighbour, foreigner, keyless hookSeat
	secrets                             []string

	counting string // gives the number of rows of all tables
	callers  int
}

// onHookHouses runs test on the whole program, embedded and with servers.
func onHookHouses(t *testing.T, test func(t *testing.T, h *hookHouse)) {
	t.Run("sqlite+embedded", func(t *testing.T) { test(t, newHookHouse(t, settings{}, (*hookHouse).serveHere)) })
	t.Run("postgres+redis", func(t *testing.T) {
		test(t, newHookHouse(t, settings{DatabaseURL: freshDatabase(t, testPostgres(t)), RedisURL: testRedis(t)}, (*hookHouse).serveHere))
	})
}

// newHookHouse runs the program until the test ends: in this process, or as one of its own.
func newHookHouse(t *testing.T, s settings, run func(*hookHouse, *settings)) *hookHouse {
	t.Helper()
	h := &hookHouse{t: t}
	master := store.NewMasterKey("k1")
	s.Listen, s.PublicURL, s.DataDir, s.MasterKeys, s.AdminKey = "127.0.0.1:0", hookOrigin, t.TempDir(), master, hookKey
	s.LogLevel, s.LogFormat, s.AgentAllowPrivate = "debug", "json", "true"
	telegram, twilio, slack := simulator.NewTelegram(), simulator.NewTwilio(), simulator.NewSlack()
	t.Cleanup(telegram.Close)
	t.Cleanup(twilio.Close)
	pretend := func(handler http.Handler) string {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		return server.URL
	}
	s.TelegramAPIURL, s.TwilioAPIURL = pretend(telegram), pretend(twilio)
	slack.SetURL(pretend(slack))
	s.SlackAPIURL = slack.APIURL()
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	run(h, &s)
	h.dsn, h.spool = s.DatabaseURL, filepath.Join(s.DataDir, "spool")
	if h.dsn == "" {
		h.dsn = filepath.Join(s.DataDir, "hydragate.db")
	}
	h.sql = openDatabase(t, h.dsn)
	h.furnish(telegram, twilio, slack, master)
	return h
}

// serveHere runs the program in this process.
func (h *hookHouse) serveHere(s *settings) {
	ctx, stop := context.WithCancel(context.Background())
	up, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		log := slog.New(slog.NewJSONHandler(&h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		ended <- serve(ctx, s, console{out: io.Discard, err: io.Discard}, log, func(u, _ string) { up <- u })
	}()
	select {
	case u := <-up:
		h.addr = strings.TrimPrefix(u, "http://")
	case err := <-ended:
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
	})
}

// serveBeside runs the program as a process of its own.
func (h *hookHouse) serveBeside(s *settings) {
	log, err := os.Create(filepath.Join(h.t.TempDir(), "log"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	var env []string
	for v, i := reflect.ValueOf(*s), 0; i < v.NumField(); i++ {
		if value := v.Field(i).String(); value != "" {
			env = append(env, v.Type().Field(i).Tag.Get("env")+"="+value)
		}
	}
	p, err := startProcess(exec.Command("hydragate", "serve"), h.t.TempDir(), env, log)
	if err != nil {
		h.t.Fatal(err)
	}
	h.addr, h.pid = p.addr, p.cmd.Process.Pid
	h.t.Cleanup(func() {
		if err := p.stop(); err != nil {
			h.t.Error(err)
		}
	})
}

func (h *hookHouse) furnish(telegram *simulator.Telegram, twilio *simulator.Twilio, slack *simulator.Slack, master string) {
	const account, token = "AC0123456789abcdef0123456789abcdef", "fedcba98765432100123456789abcdef"
	const foreignAccount, foreignToken = "ACfedcba98765432100123456789abcdef", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
	h.acme = hookSeat{account: account, token: token, phone: "+14155550100", team: "T0ACME", app: "A0ACME", signing: "8f742231b10e8888abcd99aaabbb85a5"}
	h.neighbour = hookSeat{account: account, token: token, phone: "+14155550109", team: "T0NEXT", app: "A0NEXT", signing: "17c2d8f00000aaaa1111bbbb2222cccc"}
	h.foreigner = hookSeat{account: foreignAccount, token: foreignToken, phone: "+442079460000"}
	twilio.AddAccount(account, token)
	twilio.AddAccount(foreignAccount, foreignToken)
	for i, s := range []*hookSeat{&h.acme, &h.neighbour, &h.foreigner} {
		s.instance = fmt.Sprint(h.api(http.MethodPost, "/v1/instances", map[string]any{"name": fmt.Sprintf("instance %d", i), "unknown_senders": "forward"}, http.StatusCreated)["id"])
		twilio.AddNumber(s.account, s.phone)
		connect := func(channel string, body map[string]any) {
			if c := h.api(http.MethodPost, "/v1/instances/"+s.instance+"/channels/"+channel, body, http.StatusOK); c["status"] != "active" {
				h.t.Fatalf("%s of instance %d: %v", channel, i, c)
			}
		}
		phone := map[string]any{"account_sid": s.account, "auth_token": s.token, "phone_number": s.phone}
		connect("sms", phone)
		connect("whatsapp", phone)
		if s.app == "" {
			continue
		}
		bot, botToken := fmt.Sprintf("bot%d_bot", i), fmt.Sprintf("700000%d:AAE0123456789abcdefghijklmnopqrstuv", i)
		telegram.AddBot(botToken, bot)
		connect("telegram", map[string]any{"bot_token": botToken})
		_, s.telegramSecret = telegram.Webhook(bot)
		slackToken := fmt.Sprintf("xoxb-000000000%d-hooks", i)
		slack.AddApp(simulator.App{AppID: s.app, TeamID: s.team, TeamName: "Acme", BotUserID: fmt.Sprintf("U0BOT%d", i), Token: slackToken, SigningSecret: s.signing})
		connect("slack", map[string]any{"bot_token": slackToken, "signing_secret": s.signing})
		h.secrets = append(h.secrets, s.telegramSecret, botToken, slackToken, s.signing, s.token)
	}
	h.unlock(master)
	h.secrets = append(h.secrets, h.foreigner.token, hookKey)
	var parts []string
	for _, table := range h.tableNames() {
		parts = append(parts, "select '"+table+"' as name, count(*) as n from "+table)
	}
	h.counting = strings.Join(parts, " union all ") + " order by 1"
}

// unlock makes the keyless instance. The API refuses a channel without a key, so its
// seats are put where seats are kept: with empty keys, and with none at all.
func (h *hookHouse) unlock(master string) {
	h.t.Helper()
	keys, err := store.ParseKeyRing(master)
	if err != nil {
		h.t.Fatal(err)
	}
	s, err := store.Open(h.t.Context(), h.dsn, keys)
	if err != nil {
		h.t.Fatal(err)
	}
	defer s.Close()
	h.keyless = hookSeat{account: "AC00000000000000000000000000000000", phone: "+14155550777", team: "T0NONE", app: "A0NONE"}
	h.keyless.instance = fmt.Sprint(h.api(http.MethodPost, "/v1/instances", map[string]any{"name": "keyless"}, http.StatusCreated)["id"])
	for channel, seat := range map[adapters.Channel]adapters.Endpoint{
		adapters.Telegram: {Address: "7000009", Credentials: adapters.Credentials{adapters.BotToken: "7000009:x", adapters.WebhookSecret: ""}},
		adapters.SMS:      {Address: h.keyless.phone, Credentials: adapters.Credentials{adapters.AccountSID: h.keyless.account, adapters.AuthToken: ""}},
		adapters.WhatsApp: {Address: h.keyless.phone, Credentials: adapters.Credentials{adapters.AccountSID: h.keyless.account}},
		adapters.Slack:    {Address: h.keyless.team, Credentials: adapters.Credentials{adapters.BotToken: "xoxb-none", adapters.SigningSecret: ""}},
	} {
		seat.TenantID, seat.InstanceID, seat.Channel, seat.Mode = proofTenant, h.keyless.instance, channel, adapters.Webhook
		kept, err := s.SaveSeat(h.t.Context(), gateway.Seat{Endpoint: seat, Status: gateway.Active}, time.Time{}, identity.System)
		if err != nil || kept.ID == "" {
			h.t.Fatalf("%s without a key: %v", channel, err)
		}
	}
}

// api calls the program's API.
func (h *hookHouse) api(method, path string, body any, want int) map[string]any {
	h.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(h.t.Context(), method, "http://"+h.addr+path, bytes.NewReader(raw))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+hookKey)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var doc map[string]any
	if err := json.NewDecoder(res.Body).Decode(&doc); err != nil || res.StatusCode != want {
		h.t.Fatalf("%s %s: %d %v, %v", method, path, res.StatusCode, doc, err)
	}
	return doc
}

func (h *hookHouse) tableNames() []string {
	h.t.Helper()
	names := "select name from sqlite_master where type = 'table' and name not like 'sqlite%' order by 1"
	if store.IsPostgres(h.dsn) {
		names = "select table_name::text from information_schema.tables where table_schema = 'public' order by 1"
	}
	return (&proofHouse{t: h.t, sql: h.sql}).texts(names)
}

// rows gives the number of rows of every table.
func (h *hookHouse) rows() string {
	h.t.Helper()
	rows, err := h.sql.QueryContext(h.t.Context(), h.counting)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var all strings.Builder
	for rows.Next() {
		var name string
		var n int
		if err := rows.Scan(&name, &n); err != nil {
			h.t.Fatal(err)
		}
		fmt.Fprintln(&all, name, n)
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	return all.String()
}

func (h *hookHouse) messages() (n int) {
	h.t.Helper()
	(&proofHouse{t: h.t, sql: h.sql}).scan(`select count(*) from messages`, nil, &n)
	return n
}

// caller gives an address that nobody has called from yet, so that nobody is refused
// for what another did.
func (h *hookHouse) caller() string {
	h.callers++
	return fmt.Sprintf("127.1.%d.%d", h.callers/250, 1+h.callers%250)
}

// hookURL is where a provider delivers to a seat, as it was told.
func hookURL(channel, hook string, s hookSeat) string { return hookOrigin + hookPath(channel, hook, s) }

func hookPath(channel, hook string, s hookSeat) string {
	path := "/hooks/" + channel + "/" + s.instance
	if hook != "" {
		path += "/" + hook
	}
	return path
}

// fields copies a form, so that it can be changed.
func fields(pairs ...string) url.Values {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return f
}
