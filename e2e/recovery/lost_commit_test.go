package recovery

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hydragate/e2e/harness"
)

// TestLostCommit_AppliedOnce lets Postgres commit, swallows what it says to that and hangs
// up, whatever was being written, again and again. Nobody knows then whether it
// happened: all the same every message is stored once, handed over as one effect and
// answered once. With HYDRAGATE_TEST_LONG=1: two hundred answers.
func TestLostCommit_AppliedOnce(t *testing.T) {
	harness.ParallelUnlessFull(t)
	lost := harness.Scaled(25, 200)
	s, _ := harness.Start(t, harness.Options{})
	f := insertCommitLossProxy(t, s.Proxies["postgres"])
	r := s.NewLoad(4)
	hush := r.SendInBackground(100 * time.Millisecond)
	f.loseCommits(t, lost)
	hush()
	if !s.WaitIdle(time.Minute) {
		t.Errorf("it is not quiet a minute after\n%s", s.LogTail())
	}
	t.Logf("answers swallowed, by the first thing that was written: %v", f.lostCounts())
	if f.lostCounts()["INSERT"] == 0 || f.lostCounts()["UPDATE"] == 0 {
		t.Errorf("not all kinds of write lost their answer: %v", f.lostCounts())
	}
	r.RequireComplete(lost, 0)
	s.CheckLog()

	t.Run("control: without the keys of messages", func(t *testing.T) {
		s.Exec(`drop index messages_key`)
		s.Exec(`drop index messages_alt_key`)
		r := s.NewLoad(4)
		hush := r.SendInBackground(50 * time.Millisecond)
		f.loseCommits(t, 40)
		hush()
		s.WaitIdle(time.Minute)
		r.RequireFault(func(v harness.LoadReport) int { return v.StoredTwice })
	})
}

// A commitLossProxy way to Postgres loses the answer to a commit when it is told to: the
// server has committed, and the client meets a closed connection. It counts what the
// server refuses, also when nobody is there any more to be told.
type commitLossProxy struct {
	target      string
	armed       atomic.Int64
	mu          sync.Mutex
	lostCommits map[string]int
	rejected    map[string]int // by the fence
}

// fenceConstraints are the checks that a write trips whose lease is lost.
var fenceConstraints = []string{"lanes_lease", "endpoints_poll"}

// insertCommitLossProxy puts a lossy way behind a wire.
func insertCommitLossProxy(t *testing.T, w *harness.Proxy) *commitLossProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &commitLossProxy{target: w.Targets[0], lostCommits: map[string]int{}, rejected: map[string]int{}}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go f.forward(near)
		}
	}()
	w.SetTargets(l.Addr().String())
	w.SetState(harness.ProxyCut) // who is connected comes again, by the new way
	w.SetState(harness.ProxyUp)
	return f
}

func (f *commitLossProxy) forward(near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial("tcp", f.target)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	go func() {
		_, _ = io.Copy(far, near)
		_ = far.(*net.TCPConn).CloseWrite() // what was said before is still heard
	}()
	for {
		answer, wrote, err := readUntilReady(far)
		if err != nil || wrote != "" && f.dropCommit(wrote) {
			return
		}
		f.countRejections(answer)
		_, _ = near.Write(answer)
	}
}

// countRejections counts the fences that an answer says were tripped.
func (f *commitLossProxy) countRejections(answer []byte) {
	for _, fence := range fenceConstraints {
		if bytes.Contains(answer, []byte("\x00n"+fence+"\x00")) { // the name of a constraint
			f.mu.Lock()
			f.rejected[fence]++
			f.mu.Unlock()
		}
	}
}

// readUntilReady reads what the server says until it is ready for the next query, which
// is after it has committed, and tells what the first write in it was.
func readUntilReady(server io.Reader) (answer []byte, wrote string, err error) {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(server, head); err != nil {
			return nil, "", err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return nil, "", err
		}
		answer = append(append(answer, head...), body...)
		switch head[0] {
		case 'C':
			for _, tag := range []string{"INSERT", "UPDATE"} {
				if wrote == "" && bytes.HasPrefix(body, []byte(tag)) && !bytes.HasSuffix(body, []byte(" 0\x00")) {
					wrote = tag
				}
			}
		case 'R', 'Z': // the server waits: for a password perhaps, or for a query
			return answer, wrote, nil
		}
	}
}

// dropCommit takes one of the answers that are to be lost, not each that could be.
func (f *commitLossProxy) dropCommit(wrote string) bool {
	for n := f.armed.Load(); n > 0; n = f.armed.Load() {
		if f.armed.CompareAndSwap(n, n-1) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.lostCommits[wrote]++
			return true
		}
	}
	return false
}

func (f *commitLossProxy) lostCounts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.lostCommits)
}

// rejectedCounts gives how often each fence was tripped.
func (f *commitLossProxy) rejectedCounts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.rejected)
}

// loseCommits loses n answers, one after the other.
func (f *commitLossProxy) loseCommits(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		f.armed.Add(1)
		harness.Eventually(t, fmt.Sprintf("answer %d is swallowed", i), func() bool { return f.armed.Load() == 0 })
		harness.EveryInterval(50*time.Millisecond)(t.Context(), 0)
	}
}
