package delivery

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"hydragate/gateway"
)

func TestIsPublicAddr_Zone(t *testing.T) {
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("2606:4700::1111%eth0"), netip.MustParseAddr("fe80::1%lo")} {
		if gateway.IsPublicAddr(a) {
			t.Errorf("IsPublicAddr(%q) = true, want false", a)
		}
	}
}

// TestClient_RejectsPrivateAddresses calls addresses of this machine and its networks, cloud metadata,
// reserved ranges, and addresses that embed another address: as a literal, by a name, by a name that
// is public first and private later, and by a redirect. None of them may be dialed.
func TestClient_RejectsPrivateAddresses(t *testing.T) {
	privateAddrs := strings.Fields(`
		127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1
		192.168.255.255 169.254.169.254 169.254.170.2 100.64.0.1 100.100.100.200 100.127.255.255 192.0.0.1 192.0.0.192
		192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1
		255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1
		64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:10::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe::1 3fff::1
		5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1`)
	const public = "93.184.216.34"
	calls, rejected := 0, 0
	for _, address := range privateAddrs {
		if gateway.IsPublicAddr(netip.MustParseAddr(address)) {
			t.Errorf("IsPublicAddr(%s) = true, want false", address)
		}
		literal := net.JoinHostPort(address, "443")
		redirect := func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+literal+"/latest/meta-data/", http.StatusTemporaryRedirect)
		}
		s := newFakeNetwork(t, redirect, func(name string, asked int) []string {
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
		for _, host := range []string{literal, "named.example.com", "both.example.com"} {
			calls++
			if status, err := s.post(c, "https://"+host+"/events"); err == nil {
				t.Errorf("%s called as %s: %d", address, host, status)
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
	t.Logf("%d addresses, %d calls, %d rejected as private", len(privateAddrs), calls, rejected)
}

// TestClient_ForbiddenAddresses calls link-local and metadata addresses, forms of other addresses
// that embed them, and privileged ports, with private addresses allowed and not. None may be
// dialed, also not by a name. Their neighbors and other private addresses may.
func TestClient_ForbiddenAddresses(t *testing.T) {
	forbidden := strings.Fields(`
		169.254.169.254:80 169.254.170.2:80 169.254.0.1:8080 [::ffff:169.254.169.254]:80 [::ffff:a9fe:a9fe]:443
		[::169.254.169.254]:80 [64:ff9b::a9fe:a9fe]:80 [2002:a9fe:a9fe::1]:80 [fe80::1]:8080 [fe80::a9fe:a9fe]:80
		[fd00:ec2::254]:80 [fd00:ec2::23]:80 [fd20:ce::254]:80 [fd00:c1::a9fe:a9fe]:80 [fd00:42::42]:80
		100.100.100.200:80 [::ffff:100.100.100.200]:80 168.63.129.16:80 168.63.129.16:32526 192.0.0.192:80
		[ff02::1]:8080 224.0.0.1:8080 255.255.255.255:8080 240.0.0.1:8080 192.0.2.1:8080
		127.0.0.1:22 127.0.0.1:25 10.0.0.1:22 [::1]:22 [fd12::1]:1023 93.184.216.34:22 93.184.216.34:1023`)
	allowed := strings.Fields(`
		127.0.0.1:9000 [::1]:9000 [::ffff:127.0.0.1]:9000 0.0.0.0:9000 10.0.0.1:80 172.16.0.1:443 192.168.0.1:1024
		100.64.0.1:80 100.100.100.201:80 [fd12::1]:8080 [fd00:ec3::254]:80 169.253.255.255:80 93.184.216.34:80
		93.184.216.34:443 93.184.216.34:65535 198.19.249.3:8080`)
	call := func(address, host string, private bool) (dialed int, err error) {
		addr := netip.MustParseAddrPort(address)
		s := newFakeNetwork(t, nil, func(string, int) []string { return []string{addr.Addr().String()} })
		if host != "" {
			address = net.JoinHostPort(host, strconv.Itoa(int(addr.Port())))
		}
		_, err = s.post(s.client(private), "https://"+address+"/events")
		return len(s.dialed), err
	}
	for _, address := range forbidden {
		for _, host := range []string{"", "agent.example.com"} {
			for _, private := range []bool{true, false} {
				dialed, err := call(address, host, private)
				if err == nil || dialed > 0 {
					t.Errorf("POST %s named %q, private = %v: %v with %d dials, want an error", address, host, private, err, dialed)
				}
			}
		}
	}
	for _, address := range allowed {
		dialed, err := call(address, "", true)
		if errors.Is(err, syscall.EAFNOSUPPORT) {
			continue // no IPv6 on this machine
		}
		if err != nil || dialed == 0 {
			t.Errorf("POST %s = %v with %d dials, want success", address, err, dialed)
		}
	}
	t.Logf("%d forbidden addresses called in 4 ways, 0 dialed; %d others called", len(forbidden), len(allowed))
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
		"2130706433", "0x7f000001", "0x7f.0x0.0x0.0x1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "127.0.0.1.", "0",
		"0.0.0.0", "127.00.00.01", "127.0.0.01", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]",
		"[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::1]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[fe80::1%25lo]",
		"[::1%25lo]", "localhost", "LOCALHOST", "localhost.", "localhost.localdomain", "ip6-localhost", "runsc",
		"localtest.me", "127.0.0.1.nip.io", "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "user@127.0.0.1",
		"1.1.1.1@127.0.0.1", "127.0.0.1\\@1.1.1.1", "1.1.1.1 @127.0.0.1", "127.0.0.1%2f@1.1.1.1", "127.0.0.1%00",
		"127.0.0.1;1.1.1.1",
	}
	for _, direct := range []bool{true, false} {
		for _, host := range hosts {
			s := newFakeNetwork(t, nil, func(string, int) []string { return []string{"127.0.0.1", "::1"} })
			c := s.client(false)
			if direct { // with the system resolver and real connections
				c = NewClient(false)
			}
			u := "https://" + host + ":" + port + "/events"
			if !direct && strings.Contains(host, "1.1.1.1") {
				continue
			}
			bare, _, _ := strings.Cut(strings.ToLower(strings.Trim(host, "[].")), "%")
			if _, err := netip.ParseAddr(bare); direct && err != nil && bare != "localhost" {
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

// TestRedactURL checks that no error contains the URL.
func TestRedactURL(t *testing.T) {
	s := newFakeNetwork(t, nil, func(string, int) []string { return nil })
	for _, to := range []string{
		"https://127.0.0.1/secret-path?token=secret", "https://unknown.example.com/secret-path",
		"https://[::1]/secret-path", "http://127.0.0.1:1/secret-path",
	} {
		for _, private := range []bool{false, true} {
			c := s.client(private)
			if private {
				c = NewClient(true)
			}
			if private && strings.Contains(to, "example.com") {
				continue // the query would leave the machine
			}
			_, err := s.post(c, to)
			if _, ok := errors.AsType[*url.Error](err); !ok {
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
