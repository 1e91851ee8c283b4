package delivery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hydragate/gateway"
)

// privateAddrs are addresses that must not be called: of this machine and its networks, cloud
// metadata, reserved ranges, and addresses that embed another address.
var privateAddrs = []string{
	"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255",
	"169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
	"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
	"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
	"3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
}

// publicAddrs are public addresses, some of them adjacent to the ranges of privateAddrs.
var publicAddrs = []string{
	"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255",
	"192.169.0.0", "198.17.255.255", "198.20.0.0", "203.0.114.0", "223.255.255.255", "2606:4700::1111", "2a00::1", "2001:4860:4860::8888", "2003::1", "2400::1",
}

func TestIsPublicAddr(t *testing.T) {
	for _, a := range privateAddrs {
		if gateway.IsPublicAddr(netip.MustParseAddr(a)) {
			t.Errorf("%s is public", a)
		}
	}
	for _, a := range publicAddrs {
		if !gateway.IsPublicAddr(netip.MustParseAddr(a)) {
			t.Errorf("%s is not public", a)
		}
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("2606:4700::1111%eth0"), netip.MustParseAddr("fe80::1%lo")} {
		if gateway.IsPublicAddr(a) {
			t.Errorf("%q is public", a)
		}
	}
}

// errDialed ends a connection before a packet is sent.
var errDialed = errors.New("dialed")

// A fakeNetwork is the network of a client: a DNS server, and connections that are recorded and
// not made, except to a server on loopback that stands for every public address.
type fakeNetwork struct {
	t        *testing.T
	lookup   func(name string, asked int) []string // addresses of a name, by the number of queries for it
	server   *httptest.Server
	resolver string

	mu      sync.Mutex
	lookups map[string]int
	dialed  []string
	posts   atomic.Int64
}

func newFakeNetwork(t *testing.T, answer http.HandlerFunc) *fakeNetwork {
	s := &fakeNetwork{t: t, lookups: map[string]int{}}
	s.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.posts.Add(1)
		answer(w, r)
	}))
	t.Cleanup(s.server.Close)
	names, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.serveDNS(names)
	}()
	t.Cleanup(func() {
		_ = names.Close()
		<-ended
	})
	s.resolver = names.LocalAddr().String()
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
	c *http.Client,
	dial func(ctx context.Context, network, address string) (net.Conn, error),
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

func (s *fakeNetwork) dialResolver(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "udp", s.resolver)
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

// serveDNS answers DNS queries with an A or AAAA record for each address of the name that is of
// the requested type.
func (s *fakeNetwork) serveDNS(on net.PacketConn) {
	question := make([]byte, 512)
	for {
		n, from, err := on.ReadFrom(question)
		if err != nil {
			return
		}
		const header = 12
		name, at := "", header
		for at < n && question[at] != 0 {
			next := at + 1 + int(question[at])
			name += string(question[at+1:next]) + "."
			at = next
		}
		end := at + 5 // root label, type and class
		kind := binary.BigEndian.Uint16(question[at+1:])
		reply := append([]byte{}, question[:end]...)
		binary.BigEndian.PutUint16(reply[2:], 0x8180)
		var answers uint16
		for _, a := range s.addresses(name, kind) {
			raw := a.AsSlice()
			reply = append(reply, 0xc0, header, byte(kind>>8), byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(raw)))
			reply = append(reply, raw...)
			answers++
		}
		binary.BigEndian.PutUint16(reply[6:], answers)
		binary.BigEndian.PutUint16(reply[8:], 0)
		binary.BigEndian.PutUint16(reply[10:], 0)
		_, _ = on.WriteTo(reply, from)
	}
}

const typeA, typeAAAA = 1, 28

// setNames sets the function that resolves names.
func (s *fakeNetwork) setNames(names func(name string, asked int) []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookup = names
}

func (s *fakeNetwork) addresses(name string, kind uint16) (all []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprint(name, kind)
	s.lookups[key]++
	for _, text := range s.lookup(strings.TrimSuffix(name, "."), s.lookups[key]) {
		a := netip.MustParseAddr(text)
		if a.Is4() == (kind == typeA) && (kind == typeA || kind == typeAAAA) {
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

func hostOf(address string) string {
	if strings.Contains(address, ":") {
		return "[" + address + "]"
	}
	return address
}

func respondOK(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

// TestClient_RejectsPrivateAddresses calls each private address as a literal, by a name, by a name
// that is public first and private later, and by a redirect. No private address may be dialed.
func TestClient_RejectsPrivateAddresses(t *testing.T) {
	const public = "93.184.216.34"
	calls, rejected := 0, 0
	for _, address := range privateAddrs {
		s := newFakeNetwork(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+hostOf(address)+"/latest/meta-data/", http.StatusTemporaryRedirect)
		})
		s.setNames(func(name string, asked int) []string {
			switch {
			case strings.HasPrefix(name, "rebinding") && asked == 1:
				return []string{public}
			case strings.HasPrefix(name, "redirecting"):
				return []string{public}
			case strings.HasPrefix(name, "both"):
				return []string{address, address}
			}
			return []string{address}
		})
		c := s.client(false)
		for way, host := range map[string]string{"literal": hostOf(address), "name": "named.example.com", "two addresses": "both.example.com"} {
			calls++
			if status, err := s.post(c, "https://"+host+"/events"); err == nil {
				t.Errorf("%s, %s: %d", address, way, status)
			} else if errors.Is(err, ErrPrivateAddress) {
				rejected++
			}
		}
		calls += 2
		for range 4 {
			_, _ = s.post(c, "https://rebinding.example.com/events")
		}
		if status, err := s.post(c, "https://redirecting.example.com/events"); err != nil ||
			status != http.StatusTemporaryRedirect {
			t.Errorf("%s: redirect: %d %v", address, status, err)
		}
		if wrong := s.privateDials(); len(wrong) > 0 {
			t.Errorf("%s: dialed %v", address, wrong)
		}
		if s.posts.Load() < 2 {
			t.Errorf("%s: no request while the name was public", address)
		}
	}
	if rejected < len(privateAddrs)*2 {
		t.Errorf("%d calls, %d rejected as private", calls, rejected)
	}
	t.Logf(
		"%d addresses, %d calls, none dialed a private address, %d rejected as private",
		len(privateAddrs),
		calls,
		rejected,
	)
}

// TestClient_AllowsPublicAddresses checks that public addresses are called.
func TestClient_AllowsPublicAddresses(t *testing.T) {
	for _, address := range publicAddrs {
		s := newFakeNetwork(t, respondOK)
		s.setNames(func(string, int) []string { return []string{address} })
		c := s.client(false)
		for _, host := range []string{hostOf(address), "agent.example.com", "agent.example.com:8443"} {
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

// TestClient_RejectsUnusualHosts calls hosts that some programs interpret as this machine, with a
// resolver that returns its address for every name.
func TestClient_RejectsUnusualHosts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	t.Setenv("HTTP_PROXY", "http://"+l.Addr().String())
	t.Setenv("HTTPS_PROXY", "http://"+l.Addr().String())
	t.Setenv("ALL_PROXY", "socks5://"+l.Addr().String())
	hosts := []string{
		"2130706433", "0x7f000001", "0x7f.0x0.0x0.0x1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "127.0.0.1.", "0", "0.0.0.0", "127.00.00.01", "127.0.0.01", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]",
		"[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::1]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[fe80::1%25lo]", "[::1%25lo]", "localhost", "LOCALHOST", "localhost.", "localhost.localdomain", "ip6-localhost", "runsc", "localtest.me", "127.0.0.1.nip.io",
		"①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "user@127.0.0.1", "1.1.1.1@127.0.0.1", "127.0.0.1\\@1.1.1.1", "1.1.1.1 @127.0.0.1", "127.0.0.1%2f@1.1.1.1", "127.0.0.1%00", "127.0.0.1;1.1.1.1",
	}
	for _, direct := range []bool{true, false} {
		for _, host := range hosts {
			s := newFakeNetwork(t, respondOK)
			s.setNames(func(string, int) []string { return []string{"127.0.0.1", "::1"} })
			c := s.client(false)
			if direct { // with the system resolver and real connections
				c = NewClient(false)
			}
			u := "https://" + host + ":" + port + "/events"
			if !direct && strings.Contains(host, "1.1.1.1") {
				continue
			}
			if direct && !resolvesLocally(host) {
				continue // the query would leave the machine
			}
			if status, err := s.post(c, u); err == nil {
				t.Errorf("%s: %d", u, status)
			}
			if wrong := s.privateDials(); len(wrong) > 0 {
				t.Errorf("%s: dialed %v", u, wrong)
			}
		}
	}
	if n := connections.Load(); n > 0 {
		t.Errorf("%d connections to this machine", n)
	}
	if _, err := NewClient(true).Get("http://" + l.Addr().String()); err == nil || connections.Load() == 0 {
		t.Error("the listener received no connection from a client that may connect")
	}
	t.Logf("%d hosts, no connection", len(hosts))
}

// resolvesLocally reports whether a host is an address or a name of this machine, so that
// resolving it sends no query.
func resolvesLocally(host string) bool {
	host = strings.ToLower(strings.Trim(host, "[]."))
	host, _, _ = strings.Cut(host, "%")
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost"
}

// TestClient_CheckBeforeDialControl is the control: a client that resolves a name, checks the
// addresses, and then dials the name must connect to a private address.
func TestClient_CheckBeforeDialControl(t *testing.T) {
	s := newFakeNetwork(t, respondOK)
	s.setNames(func(_ string, asked int) []string {
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

// TestRedactURL checks that no error contains the URL.
func TestRedactURL(t *testing.T) {
	s := newFakeNetwork(t, respondOK)
	s.setNames(func(string, int) []string { return nil })
	for _, to := range []string{"https://127.0.0.1/secret-path?token=secret", "https://unknown.example.com/secret-path", "https://[::1]/secret-path", "http://127.0.0.1:1/secret-path"} {
		for _, private := range []bool{false, true} {
			c := s.client(private)
			if private {
				c = NewClient(true)
			}
			if private && strings.Contains(to, "example.com") {
				continue // the query would leave the machine
			}
			_, err := s.post(c, to)
			var ue *url.Error
			if !errors.As(err, &ue) {
				t.Errorf("%s: %v", to, err)
				continue
			}
			if text := redactURL(err).Error(); strings.Contains(text, "secret") {
				t.Errorf("%s: %s", to, text)
			}
		}
	}
}

// TestClient_HeaderLimit checks that the headers of a response are limited.
func TestClient_HeaderLimit(t *testing.T) {
	for length, want := range map[int]int{maxHeaderBytes / 2: 200, 4 * maxHeaderBytes: 0} {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", length))
		}))
		t.Cleanup(app.Close)
		res, err := NewClient(true).Post(app.URL, "application/json", strings.NewReader(`{}`))
		status := 0
		if err == nil {
			status = res.StatusCode
			_ = res.Body.Close()
		}
		if status != want {
			t.Errorf("headers of %d bytes: %d, %v, want %d", length, status, err, want)
		}
	}
}
