package delivery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hydragate/gateway"
)

// errDialed ends a connection before a packet is sent.
var errDialed = errors.New("dialed")

// A fakeNetwork is the network of a client: a DNS server, and connections that are recorded and
// not made, except to a server on loopback that stands for every public address.
type fakeNetwork struct {
	lookup func(name string, asked int) []string // addresses of a name, by the number of queries for it
	server *httptest.Server

	mu      sync.Mutex
	lookups map[string]int
	dialed  []string
	posts   atomic.Int64
}

// newFakeNetwork returns a network whose server calls answer, unless it is nil.
func newFakeNetwork(
	t *testing.T, answer http.HandlerFunc, lookup func(name string, asked int) []string,
) *fakeNetwork {
	s := &fakeNetwork{lookup: lookup, lookups: map[string]int{}}
	s.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.posts.Add(1)
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(s.server.Close)
	return s
}

// client returns the package's client in this network.
func (s *fakeNetwork) client(allowPrivate bool) *http.Client {
	d := &net.Dialer{Timeout: 5 * time.Second, Resolver: &net.Resolver{PreferGo: true, Dial: s.dialResolver}}
	c := newClient(d, allowPrivate)
	check := d.ControlContext
	d.ControlContext = func(ctx context.Context, network, address string, conn syscall.RawConn) error {
		if check != nil {
			if err := check(ctx, network, address, conn); err != nil {
				return err
			}
		}
		return s.recordDial(address)
	}
	return s.redirectDials(c, d.DialContext)
}

// redirectDials makes c use dial, and connects it to the server where a connection would have been
// made.
func (s *fakeNetwork) redirectDials(
	c *http.Client, dial func(ctx context.Context, network, address string) (net.Conn, error),
) *http.Client {
	tr := c.Transport.(*http.Transport)
	tr.TLSClientConfig = s.server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	tr.TLSClientConfig.ServerName = "example.com"
	tr.DisableKeepAlives = true
	tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if errors.Is(err, errDialed) {
			return new(net.Dialer).DialContext(ctx, "tcp", s.server.Listener.Addr().String())
		}
		return conn, err
	}
	return c
}

func (s *fakeNetwork) recordDial(address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialed = append(s.dialed, address)
	return errDialed
}

// privateDials returns the private addresses that were dialed.
func (s *fakeNetwork) privateDials() (wrong []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.dialed {
		if ap, err := netip.ParseAddrPort(o); err != nil || !gateway.IsPublicAddr(ap.Addr()) {
			wrong = append(wrong, o)
		}
	}
	return wrong
}

// dialResolver returns a connection to a DNS server that speaks the protocol for TCP.
func (s *fakeNetwork) dialResolver(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go s.serveDNS(server)
	return client, nil
}

// serveDNS answers the queries on a connection with an A or AAAA record for each address of the name
// that is of the requested type.
func (s *fakeNetwork) serveDNS(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	var size [2]byte
	for {
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, question); err != nil {
			return
		}
		const header = 12
		name, at := "", header
		for question[at] != 0 {
			next := at + 1 + int(question[at])
			name += string(question[at+1:next]) + "."
			at = next
		}
		kind := binary.BigEndian.Uint16(question[at+1:])
		addresses := s.addresses(strings.TrimSuffix(name, "."), kind)
		reply := append([]byte{}, question[:at+5]...) // root label, type and class
		binary.BigEndian.PutUint16(reply[2:], 0x8180)
		binary.BigEndian.PutUint16(reply[6:], uint16(len(addresses)))
		binary.BigEndian.PutUint32(reply[8:], 0)
		for _, a := range addresses {
			raw := a.AsSlice()
			reply = append(reply, 0xc0, header, byte(kind>>8), byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(raw)))
			reply = append(reply, raw...)
		}
		_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
	}
}

// addresses returns the addresses of a name that are of the requested type of record.
func (s *fakeNetwork) addresses(name string, kind uint16) (all []netip.Addr) {
	const typeA, typeAAAA = 1, 28
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprint(name, kind)
	s.lookups[key]++
	for _, text := range s.lookup(name, s.lookups[key]) {
		if a := netip.MustParseAddr(text); a.Is4() && kind == typeA || !a.Is4() && kind == typeAAAA {
			all = append(all, a)
		}
	}
	return all
}

func (s *fakeNetwork) post(c *http.Client, to string) (int, error) {
	res, err := c.Post(to, "application/json", strings.NewReader(`{}`))
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// TestClient_AllowsPublicAddresses checks that public addresses are called, also those next to the
// ranges that are not public.
func TestClient_AllowsPublicAddresses(t *testing.T) {
	publicAddrs := strings.FieldsSeq(`
		1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255
		169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
		203.0.114.0 223.255.255.255 2606:4700::1111 2a00::1 2001:4860:4860::8888 2003::1 2400::1`)
	for address := range publicAddrs {
		if !gateway.IsPublicAddr(netip.MustParseAddr(address)) {
			t.Errorf("IsPublicAddr(%s) = false, want true", address)
		}
		s := newFakeNetwork(t, nil, func(string, int) []string { return []string{address} })
		c := s.client(false)
		for _, host := range []string{net.JoinHostPort(address, "443"), "agent.example.com", "agent.example.com:8443"} {
			if status, err := s.post(c, "https://"+host+"/events"); err != nil || status != 200 {
				if errors.Is(err, syscall.EAFNOSUPPORT) {
					continue // no IPv6 on this machine
				}
				t.Errorf("%s: %d %v", host, status, err)
			}
		}
		if s.posts.Load() != int64(len(s.dialed)) {
			t.Errorf("%s: %d requests by %v", address, s.posts.Load(), s.dialed)
		}
	}
}

// TestClient_CheckBeforeDialControl is the control: a client that resolves a name, checks the
// addresses, and then dials the name must connect to a private address.
func TestClient_CheckBeforeDialControl(t *testing.T) {
	s := newFakeNetwork(t, nil, func(_ string, asked int) []string {
		if asked == 1 {
			return []string{"93.184.216.34"}
		}
		return []string{"127.0.0.1"}
	})
	resolver := &net.Resolver{PreferGo: true, Dial: s.dialResolver}
	d := &net.Dialer{
		Resolver:       resolver,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error { return s.recordDial(address) },
	}
	naive := s.redirectDials(
		newClient(&net.Dialer{}, true),
		func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(address)
			found, err := resolver.LookupNetIP(ctx, "ip4", host)
			if err != nil || !gateway.IsPublicAddr(found[0]) {
				return nil, ErrPrivateAddress
			}
			return d.DialContext(ctx, network, address)
		},
	)
	if _, err := s.post(naive, "https://rebinding.example.com/"); err != nil {
		t.Fatal(err)
	}
	if len(s.privateDials()) == 0 {
		t.Error("the naive client dialed no private address")
	}
}
