package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hydragate/identity"
)

type serveCmd struct {
	settings `group:"Settings:"`
}

func (c *serveCmd) Run(ctx context.Context, con console) error {
	if err := c.check(); err != nil {
		return err
	}
	return serve(ctx, &c.settings, con, c.logger(con.err), nil)
}

const (
	readHeaderTime = 2 * time.Second
	readTime       = 4 * time.Second // of a whole request: hooks and calls are small
	writeTime      = 2 * time.Minute // of a whole answer, with what a call waits for; what is poured takes its own
	idleTime       = 2 * time.Minute
	maxHeader      = 16 << 10

	finishHTTP = 5 * time.Second // for requests in work when the process is to end
	finishWork = 8 * time.Second // for messages, events and replies in work
	finishAll  = 9500 * time.Millisecond
)

// serve runs the gateway until ctx ends, and then until its work is finished or
// finishAll is over. up, when not nil, is called once connections are accepted.
func serve(ctx context.Context, s *settings, con console, log *slog.Logger, up func(url, key string)) error {
	unlock, err := lockData(s)
	if err != nil {
		return err
	}
	defer unlock()
	l, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return wrong("HYDRAGATE_LISTEN", "names an address that cannot be listened on: "+err.Error())
	}
	defer func() { _ = l.Close() }()
	listening := "http://" + l.Addr().String()
	publicURL := s.PublicURL
	if publicURL == "" {
		publicURL = listening
	}
	stopTraces, err := startTraces(ctx, s.OTLPEndpoint, log)
	if err != nil {
		return err
	}
	defer stopTraces()
	p, err := build(ctx, s, publicURL, log)
	if err != nil {
		return err
	}
	key, err := p.begin(ctx, s)
	if err != nil {
		p.closeAll()
		return err
	}
	finished, err := p.run(ctx, l, func() {
		announce(con.out, listening, publicURL, p.store.Engine(), key)
		if up != nil {
			up(listening, key)
		}
	})
	// Closing waits for everybody who holds a connection, which would be for ever.
	if finished {
		p.closeAll()
	}
	return err
}

// announce writes the first line on standard output: the gateway accepts connections.
// A key is there only when it was just made.
func announce(w io.Writer, listening, publicURL, engine, key string) {
	_ = json.NewEncoder(w).Encode(struct {
		Listening string `json:"listening"`
		PublicURL string `json:"public_url"`
		Engine    string `json:"engine"`
		Version   string `json:"version"`
		AdminKey  string `json:"admin_key,omitempty"`
	}{listening, publicURL, engine, versionString(), key})
}

// begin does what a start has to do before anything is taken or worked.
func (p *parts) begin(ctx context.Context, s *settings) (key string, err error) {
	if err := p.keysFit(ctx, s); err != nil {
		return "", err
	}
	if !s.postgres() { // the folder is locked: whoever held a lease is dead
		if err := p.store.Inherit(ctx); err != nil {
			return "", err
		}
	}
	p.spooler.Adopt(ctx)
	return p.ensureAdmin(ctx, s)
}

// ensureAdmin makes sure that somebody can call the API. It gives the key when it was
// made now: it is shown once.
func (p *parts) ensureAdmin(ctx context.Context, s *settings) (key string, err error) {
	if s.AdminKey != "" {
		_, err := p.store.EnsureAPIKey(ctx, identity.DefaultTenant, "bootstrap", s.AdminKey, identity.Scopes)
		return "", err
	}
	n, err := p.store.CountAPIKeys(ctx)
	if err != nil || n > 0 {
		return "", err
	}
	if s.postgres() {
		return "", wrong("HYDRAGATE_ADMIN_KEY", "is required, because the database has no API key yet: set at least 32 random characters")
	}
	key = identity.NewToken("hg_live_")
	_, err = p.store.EnsureAPIKey(ctx, identity.DefaultTenant, "bootstrap", key, identity.Scopes)
	return key, err
}

// run serves and works until ctx ends: then readiness goes, polling and leasing stop,
// requests in work end, what is leased is finished, and leases go back. finished is
// false when something hung and was left behind; its lease runs out by itself.
func (p *parts) run(ctx context.Context, l net.Listener, up func()) (finished bool, err error) {
	taking, stopTaking := context.WithCancel(context.WithoutCancel(ctx))
	hard, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	storing, stopStoring := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer stopTaking()
	defer stopStoring()

	srv := server(p.handler(), p.log)
	failed := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { p.inbox.Run(storing) })
	wg.Go(func() { p.spooler.Run(storing) })
	wg.Go(func() { p.work(taking, hard) })
	wg.Go(func() { failed <- srv.Serve(l) })
	up()

	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	started := time.Now()
	p.log.Info("stopping")
	p.api.Drain()
	stopTaking()
	timer := time.AfterFunc(finishWork, giveUp)
	defer timer.Stop()
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishHTTP)
	defer cancel()
	if serr := srv.Shutdown(finish); serr != nil {
		_ = srv.Close()
	}
	stopStoring()
	finished = waitFor(&wg, finishAll-time.Since(started))
	p.log.Info("stopped", "took", time.Since(started).Round(time.Millisecond), "finished", finished)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return finished, err
}

// server answers with h, and waits for nobody longer than a genuine caller would need:
// neither for who is slow to ask nor for who does not read the answer.
func server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// waitFor reports whether everything in wg ended in time.
func waitFor(wg *sync.WaitGroup, d time.Duration) bool {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// lockData makes sure that one process alone uses a data folder: the embedded Redis
// is in that process, so codes issued by another would be unknown to it.
func lockData(s *settings) (unlock func(), err error) {
	if s.postgres() {
		return func() {}, nil
	}
	if _, err := s.database(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.DataDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		return nil, wrong("HYDRAGATE_DATA_DIR", fmt.Sprintf("is in use by another process: stop it, or choose another folder than %s", s.DataDir))
	}
	return func() { _ = f.Close() }, nil
}
