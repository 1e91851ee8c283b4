package operation

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are the networks of trusted proxies, whose X-Forwarded-For header is believed.
type Proxies []netip.Prefix

// ClientNetwork returns the network that counts as the client of a request: an IPv4 address, also if
// it is mapped to IPv6, or a /64 of IPv6, which is usually assigned to one subscriber. The client is
// the rightmost address of X-Forwarded-For that is not a trusted proxy, or the peer if that is none.
func (p Proxies) ClientNetwork(r *http.Request) netip.Prefix {
	client := parseAddr(r.RemoteAddr)
	if !p.contains(client) {
		return networkOf(client)
	}
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(forwarded) {
		addr := parseAddr(strings.TrimSpace(text))
		if !addr.IsValid() {
			break // the addresses before it were not written by a trusted proxy
		}
		client = addr
		if !p.contains(addr) {
			break
		}
	}
	return networkOf(client)
}

func (p Proxies) contains(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(proxies netip.Prefix) bool { return proxies.Contains(a) })
}

// parseAddr parses an address with or without a port. The result is not valid if that fails.
func parseAddr(text string) netip.Addr {
	host, _, err := net.SplitHostPort(text)
	if err != nil {
		host = strings.Trim(text, "[]")
	}
	a, _ := netip.ParseAddr(host)
	return a.Unmap().WithZone("")
}

func networkOf(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 32
	}
	network, _ := a.Prefix(bits) // the zero prefix if a is not valid, as for Unix sockets
	return network
}
