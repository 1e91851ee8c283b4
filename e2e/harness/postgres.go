//go:build unix

package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// freePort returns an unused port of 127.0.0.1 for a server that is also restarted. It is below the
// ports that the system assigns to connections, one of which could take it in between.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		port := 10_000 + rand.N(20_000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		return port
	}
}

// A PostgresServer is a server that the test can stop and crash.
type PostgresServer struct {
	bin, Data  string
	Port       int
	credential *syscall.Credential // nil: the user who runs the test
	Wrapper    []string            // a command that runs the tools of the server; may be empty
}

// StartPostgres creates and starts a server.
func StartPostgres(t *testing.T) *PostgresServer {
	t.Helper()
	p := NewPostgres(t)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// NewPostgres creates a server without starting it. options are passed to initdb.
func NewPostgres(t *testing.T, options ...string) *PostgresServer {
	t.Helper()
	//nolint:usetesting // the path of a socket is limited to 107 bytes, and T.TempDir contains the name of the test
	dir, err := os.MkdirTemp("", "hydragate-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &PostgresServer{bin: postgresBinDir(t), Data: filepath.Join(dir, "data"), Port: freePort(t)}
	if os.Getuid() == 0 { // PostgreSQL does not run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal("PostgreSQL does not run as root, and there is no user postgres")
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		p.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-D", p.Data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"}
	if err := p.runTool("initdb", append(args, options...)...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.StopImmediately() })
	return p
}

// postgresBinDir returns the directory of the newest PostgreSQL in Debian's directories, or else of
// the one in the PATH.
func postgresBinDir(t *testing.T) string {
	t.Helper()
	newest, bin := 0, ""
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, b := range bins {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(b)))
		if _, statErr := os.Stat(filepath.Join(b, "initdb")); err == nil && statErr == nil && version > newest {
			newest, bin = version, b
		}
	}
	if bin != "" {
		return bin
	}
	server, err := exec.LookPath("postgres")
	if err == nil {
		server, err = filepath.EvalSymlinks(server)
	}
	if err == nil {
		_, err = os.Stat(filepath.Join(filepath.Dir(server), "initdb"))
	}
	if err != nil {
		t.Fatalf("PostgreSQL not found in /usr/lib/postgresql or in the PATH: %v", err)
	}
	return filepath.Dir(server)
}

// runTool runs a program of the server. The error contains its output.
func (p *PostgresServer) runTool(name string, args ...string) error {
	words := slices.Concat(p.Wrapper, []string{filepath.Join(p.bin, name)}, args)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.SysProcAttr = filepath.Dir(p.Data), &syscall.SysProcAttr{Credential: p.credential}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// Start starts the server without fsync. Commits survive a crash of the server, because the operating
// system keeps what was written.
func (p *PostgresServer) Start() error {
	options := fmt.Sprintf(
		"-p %d -k %s -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=100",
		p.Port,
		filepath.Dir(p.Data),
	)
	log := filepath.Join(filepath.Dir(p.Data), "log")
	return p.runTool("pg_ctl", "-D", p.Data, "-w", "-l", log, "-o", options, "start")
}

// crash stops the server immediately and starts it again.
func (p *PostgresServer) crash() error {
	if err := p.StopImmediately(); err != nil {
		return err
	}
	return p.Start()
}

// StopImmediately stops the server without a checkpoint.
func (p *PostgresServer) StopImmediately() error {
	return p.runTool("pg_ctl", "-D", p.Data, "-m", "immediate", "stop")
}

// URL returns the URL of the database at a port of this machine.
func (p *PostgresServer) URL(port int) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
}
