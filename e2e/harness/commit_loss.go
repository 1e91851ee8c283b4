//go:build unix

package harness

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"testing"
	"time"
)

// A CommitLossProxy is a Postgres proxy that drops the response to a commit on request and closes
// the connection. It also counts the writes that the server rejects by a fence, even if the client
// is gone.
type CommitLossProxy struct {
	target      string
	mu          sync.Mutex
	armed       bool
	command     string // whose response is dropped, or "" for any write
	lostCommits map[string]int
	rejected    map[string]int // by fence
}

// fenceConstraints are the check constraints that reject writes after a lease was lost.
var fenceConstraints = []string{"lanes_lease", "endpoints_poll"}

// InsertCommitLossProxy puts a CommitLossProxy between p and its target.
func InsertCommitLossProxy(t *testing.T, p *Proxy) *CommitLossProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &CommitLossProxy{target: p.Targets[0], lostCommits: map[string]int{}, rejected: map[string]int{}}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go f.forward(client)
		}
	}()
	p.SetTargets(l.Addr().String())
	p.SetState(ProxyCut) // clients reconnect through the new proxy
	p.SetState(ProxyUp)
	return f
}

// forward copies between a client and the server until one of them closes or a response is
// dropped.
func (f *CommitLossProxy) forward(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", f.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite() // the server still receives what was sent before
	}()
	for {
		response, write, err := readUntilReady(server)
		if err != nil || write != "" && f.dropCommit(write) {
			return
		}
		f.countRejections(response)
		_, _ = client.Write(response)
	}
}

// countRejections counts the fences named in the errors of a response.
func (f *CommitLossProxy) countRejections(response []byte) {
	for _, fence := range fenceConstraints {
		if bytes.Contains(response, []byte("\x00n"+fence+"\x00")) { // the constraint name field
			f.mu.Lock()
			f.rejected[fence]++
			f.mu.Unlock()
		}
	}
}

// readUntilReady reads from the server until it is ready for the next query, which is after the
// commit. It returns the response and the command tag of the first write in it.
func readUntilReady(server io.Reader) (response []byte, write string, err error) {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(server, head); err != nil {
			return nil, "", err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return nil, "", err
		}
		response = append(append(response, head...), body...)
		switch head[0] {
		case 'C':
			for _, tag := range []string{"INSERT", "UPDATE"} {
				changed := !bytes.HasSuffix(body, []byte(" 0\x00"))
				if write == "" && bytes.HasPrefix(body, []byte(tag)) && changed {
					write = tag
				}
			}
		case 'R', 'Z': // the server waits for authentication or for a query
			return response, write, nil
		}
	}
}

// dropCommit reports whether to drop this response, and counts it.
func (f *CommitLossProxy) dropCommit(write string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.armed || f.command != "" && f.command != write {
		return false
	}
	f.armed = false
	f.lostCommits[write]++
	return true
}

// arm makes the proxy drop the next response to the command, or to any write if command is "".
func (f *CommitLossProxy) arm(command string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.command = true, command
}

// dropped reports whether the proxy has dropped the response it was armed for.
func (f *CommitLossProxy) dropped() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.armed
}

// LostCounts returns the number of dropped responses by command tag.
func (f *CommitLossProxy) LostCounts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.lostCommits)
}

// RejectedCounts returns the number of rejected writes by fence.
func (f *CommitLossProxy) RejectedCounts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.rejected)
}

// LoseCommits drops n responses, one after the other. It drops responses to each of the commands in
// turn, which are INSERT, UPDATE or "" for any write.
func (f *CommitLossProxy) LoseCommits(t *testing.T, n int, commands ...string) {
	t.Helper()
	for i := range n {
		command := commands[i%len(commands)]
		f.arm(command)
		Eventually(t, fmt.Sprintf("response %d to %s is dropped", i, command), f.dropped)
		EveryInterval(50*time.Millisecond)(t.Context(), 0)
	}
}
