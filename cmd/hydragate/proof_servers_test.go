//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// freePort gives a port of 127.0.0.1 that nobody listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// An ownPostgres is a server that the test may crash.
type ownPostgres struct {
	bin, data string
	port      int
	as        *syscall.Credential // nil: who runs the test
	around    []string            // a command that runs the server's, if any
}

// startPostgres makes and starts a server.
func startPostgres(t *testing.T) *ownPostgres {
	t.Helper()
	p := makePostgres(t)
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// makePostgres makes a server that is to be started, with more options of initdb.
func makePostgres(t *testing.T, options ...string) *ownPostgres {
	t.Helper()
	dir, err := os.MkdirTemp("", "proof-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &ownPostgres{bin: postgresBin(t), data: filepath.Join(dir, "data"), port: freePort(t)}
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal("PostgreSQL does not run as root, and there is no user postgres to run it as")
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.run("initdb", append([]string{"-D", p.data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"}, options...)...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.halt() })
	return p
}

// postgresBin gives the folder of the newest PostgreSQL there is, be it where Debian
// keeps them or in the path.
func postgresBin(t *testing.T) string {
	t.Helper()
	newest, bin := 0, ""
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, b := range bins {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(b)))
		if _, there := os.Stat(filepath.Join(b, "initdb")); err == nil && there == nil && version > newest {
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
		t.Fatalf("no PostgreSQL of one's own to crash, neither in /usr/lib/postgresql nor in the path: %v", err)
	}
	return filepath.Dir(server)
}

func (p *ownPostgres) run(name string, args ...string) error {
	words := slices.Concat(p.around, []string{filepath.Join(p.bin, name)}, args)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir, cmd.SysProcAttr = filepath.Dir(p.data), &syscall.SysProcAttr{Credential: p.as}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// start starts the server. What it has committed outlives a crash of the server:
// the machine keeps what was written, so nobody waits for the disk.
func (p *ownPostgres) start() error {
	options := fmt.Sprintf("-p %d -k %s -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=100", p.port, filepath.Dir(p.data))
	return p.run("pg_ctl", "-D", p.data, "-w", "-l", filepath.Join(filepath.Dir(p.data), "log"), "-o", options, "start")
}

// crash stops the server in the middle of whatever it does and starts it again.
func (p *ownPostgres) crash() error {
	if err := p.halt(); err != nil {
		return err
	}
	return p.start()
}

// halt stops the server in the middle of whatever it does.
func (p *ownPostgres) halt() error { return p.run("pg_ctl", "-D", p.data, "-m", "immediate", "stop") }

func (p *ownPostgres) url(port int) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
}

// startRedis starts a server that the test may empty.
func startRedis(t *testing.T) (address string, client *redis.Client) {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("no Redis of one's own to empty: %v", err)
	}
	port := strconv.Itoa(freePort(t))
	cmd := exec.Command(bin, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	client = redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
	t.Cleanup(func() { _ = client.Close() })
	eventually(t, "redis answers", func() bool { return client.Ping(t.Context()).Err() == nil })
	return "redis://127.0.0.1:" + port, client
}

// eventually waits until is says so, for as long as a busy machine may take.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(2 * time.Minute)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not so within two minutes: %s", what)
		}
	}
}

// A copied is what a Redis held at some moment, with the time each key had left.
type copied struct {
	keys, values []string
	left         []time.Duration
}

func copyRedis(ctx context.Context, client *redis.Client) (c copied, err error) {
	keys, err := client.Keys(ctx, "*").Result()
	if err != nil {
		return c, err
	}
	for _, k := range keys {
		v, err := client.Dump(ctx, k).Result()
		if err != nil {
			continue // it was dropped meanwhile
		}
		c.keys, c.values, c.left = append(c.keys, k), append(c.values, v), append(c.left, max(time.Millisecond, client.PTTL(ctx, k).Val()))
	}
	return c, nil
}

// restore makes client hold c and nothing else, from one moment to the next: what a
// failover to a replica that lags behind does.
func (c copied) restore(ctx context.Context, client *redis.Client) error {
	_, err := client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.FlushDB(ctx)
		for i, k := range c.keys {
			p.Restore(ctx, k, c.left[i], c.values[i])
		}
		return nil
	})
	return err
}

// slowly forwards connections to a port and holds every answer back for a while, so
// that what happens between two statements takes as long as over a network.
func slowly(t *testing.T, to int, delay time.Duration) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
			if err != nil {
				_ = near.Close()
				continue
			}
			both := func() { _, _ = near.Close(), far.Close() }
			all.Go(func() {
				defer both()
				_, _ = io.Copy(far, near)
			})
			all.Go(func() {
				defer both()
				_, _ = io.Copy(near, lateReader{far, delay})
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

type lateReader struct {
	io.Reader
	delay time.Duration
}

func (r lateReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	<-time.After(r.delay)
	return n, err
}
