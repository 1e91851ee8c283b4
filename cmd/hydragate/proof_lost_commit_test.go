//go:build unix

package main

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
)

// TestLostCommitAnswer lets Postgres commit, swallows what it says to that and hangs
// up, whatever was being written, again and again. Nobody knows then whether it
// happened: all the same every message is stored once, handed over as one effect and
// answered once. With HYDRAGATE_TEST_LONG=1: two hundred answers.
func TestLostCommitAnswer(t *testing.T) {
	alongside(t)
	lost := share(25, 200)
	s, _ := newStorm(t, climate{})
	f := loseAnswers(t, s.wires["postgres"])
	r := s.gather(4)
	hush := r.murmur(100 * time.Millisecond)
	f.swallow(t, lost)
	hush()
	if !s.quiet(time.Minute) {
		t.Errorf("it is not quiet a minute after\n%s", s.tail())
	}
	t.Logf("answers swallowed, by the first thing that was written: %v", f.counts())
	if f.counts()["INSERT"] == 0 || f.counts()["UPDATE"] == 0 {
		t.Errorf("not all kinds of write lost their answer: %v", f.counts())
	}
	r.holds(lost, 0)
	s.healthy()

	t.Run("control: without the keys of messages", func(t *testing.T) {
		s.exec(`drop index messages_key`)
		s.exec(`drop index messages_alt_key`)
		r := s.gather(4)
		hush := r.murmur(50 * time.Millisecond)
		f.swallow(t, 40)
		hush()
		s.quiet(time.Minute)
		r.failing(func(v verdict) int { return v.stacked })
	})
}

// A lossy way to Postgres loses the answer to a commit when it is told to: the
// server has committed, and the client meets a closed connection. It counts what the
// server refuses, also when nobody is there any more to be told.
type lossy struct {
	to      string
	armed   atomic.Int64
	mu      sync.Mutex
	lost    map[string]int
	refused map[string]int // by the fence
}

// fences are the checks that a write trips whose lease is lost.
var fences = []string{"lanes_lease", "endpoints_poll"}

// loseAnswers puts a lossy way behind a wire.
func loseAnswers(t *testing.T, w *wire) *lossy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &lossy{to: w.to[0], lost: map[string]int{}, refused: map[string]int{}}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go f.join(near)
		}
	}()
	w.lead(l.Addr().String())
	w.set(cut) // who is connected comes again, by the new way
	w.set(whole)
	return f
}

func (f *lossy) join(near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial("tcp", f.to)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	go func() {
		_, _ = io.Copy(far, near)
		_ = far.(*net.TCPConn).CloseWrite() // what was said before is still heard
	}()
	for {
		answer, wrote, err := readyAnswer(far)
		if err != nil || wrote != "" && f.loses(wrote) {
			return
		}
		f.note(answer)
		_, _ = near.Write(answer)
	}
}

// note counts the fences that an answer says were tripped.
func (f *lossy) note(answer []byte) {
	for _, fence := range fences {
		if bytes.Contains(answer, []byte("\x00n"+fence+"\x00")) { // the name of a constraint
			f.mu.Lock()
			f.refused[fence]++
			f.mu.Unlock()
		}
	}
}

// readyAnswer reads what the server says until it is ready for the next query, which
// is after it has committed, and tells what the first write in it was.
func readyAnswer(server io.Reader) (answer []byte, wrote string, err error) {
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

// loses takes one of the answers that are to be lost, not each that could be.
func (f *lossy) loses(wrote string) bool {
	for n := f.armed.Load(); n > 0; n = f.armed.Load() {
		if f.armed.CompareAndSwap(n, n-1) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.lost[wrote]++
			return true
		}
	}
	return false
}

func (f *lossy) counts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.lost)
}

// refusals gives how often each fence was tripped.
func (f *lossy) refusals() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.refused)
}

// swallow loses n answers, one after the other.
func (f *lossy) swallow(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		f.armed.Add(1)
		eventually(t, fmt.Sprintf("answer %d is swallowed", i), func() bool { return f.armed.Load() == 0 })
		each(50*time.Millisecond)(t.Context(), 0)
	}
}
