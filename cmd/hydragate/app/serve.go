package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	readHeaderTimeout = 2 * time.Second
	readTimeout       = 4 * time.Second // of a whole request: hooks and calls are small
	writeTimeout      = 2 * time.Minute // of a whole answer, with what a call waits for; what is poured takes its own
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10

	httpShutdownTimeout = 5 * time.Second // for requests in work when the process is to end
	workShutdownTimeout = 8 * time.Second // for messages, events and replies in work
	shutdownTimeout     = 9500 * time.Millisecond
)

// Serve runs the gateway until ctx ends, and then until its work is finished or
// finishAll is over. up, when not nil, is called once connections are accepted.
func Serve(ctx context.Context, s *Settings, con Console, log *slog.Logger, up func(url, key string)) error {
	unlock, err := LockDataDir(s)
	if err != nil {
		return err
	}
	defer unlock()
	l, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return InvalidSetting("HYDRAGATE_LISTEN", "names an address that cannot be listened on: "+err.Error())
	}
	defer func() { _ = l.Close() }()
	listening := "http://" + l.Addr().String()
	publicURL := s.PublicURL
	if publicURL == "" {
		publicURL = listening
	}
	stopTraces, err := startTracing(ctx, s.OTLPEndpoint, log)
	if err != nil {
		return err
	}
	defer stopTraces()
	p, err := New(ctx, s, publicURL, log)
	if err != nil {
		return err
	}
	key, err := p.prepare(ctx, s)
	if err != nil {
		p.Close()
		return err
	}
	finished, err := p.Run(ctx, l, func() {
		AnnounceListening(con.Out, listening, publicURL, p.Store.Engine(), key)
		if up != nil {
			up(listening, key)
		}
	})
	// Closing waits for everybody who holds a connection, which would be for ever.
	if finished {
		p.Close()
	}
	return err
}

// AnnounceListening writes the first line on standard output: the gateway accepts connections.
// A key is there only when it was just made.
func AnnounceListening(w io.Writer, listening, publicURL, engine, key string) {
	_ = json.NewEncoder(w).Encode(struct {
		Listening string `json:"listening"`
		PublicURL string `json:"public_url"`
		Engine    string `json:"engine"`
		Version   string `json:"version"`
		AdminKey  string `json:"admin_key,omitempty"`
	}{listening, publicURL, engine, Version(), key})
}

// newServer answers with h, and waits for nobody longer than a genuine caller would need:
// neither for who is slow to ask nor for who does not read the answer.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// waitTimeout reports whether everything in wg ended in time.
func waitTimeout(wg *sync.WaitGroup, d time.Duration) bool {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// LockDataDir makes sure that one process alone uses a data folder: the embedded Redis
// is in that process, so codes issued by another would be unknown to it.
func LockDataDir(s *Settings) (unlock func(), err error) {
	if s.usesPostgres() {
		return func() {}, nil
	}
	if _, err := s.DSN(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.DataDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		return nil, InvalidSetting("HYDRAGATE_DATA_DIR", fmt.Sprintf("is in use by another process: stop it, or choose another folder than %s", s.DataDir))
	}
	return func() { _ = f.Close() }, nil
}
