package gateway

import (
	"net/netip"
	"slices"
)

// specialPurposePrefixes are the ranges that the IANA special-purpose address registries do not
// list as globally reachable, and the ranges that embed another address.
var specialPurposePrefixes = mustParsePrefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
	"2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)

// IsPublicAddr reports whether a is a global unicast address that is reachable on the internet.
// By default, applications are called at such addresses only.
func IsPublicAddr(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsValid() || !a.IsGlobalUnicast() || a.Zone() != "" {
		return false
	}
	return !slices.ContainsFunc(specialPurposePrefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// privatePrefixes are the ranges of this machine and of private networks, in which applications are
// called if the operator allows it.
var privatePrefixes = mustParsePrefixes(
	"0.0.0.0/32", "127.0.0.0/8", "::/127", // unspecified and loopback
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
	"100.64.0.0/10", "198.18.0.0/15", // used by overlay networks and virtual machines
)

// metadataPrefixes are the addresses outside the link-local ranges at which cloud providers serve
// the credentials and the configuration of a machine.
var metadataPrefixes = mustParsePrefixes(
	"100.100.100.200/32",     // Alibaba Cloud
	"168.63.129.16/32",       // Azure
	"192.0.0.192/32",         // Oracle Cloud
	"fd00:ec2::/32",          // Amazon EC2
	"fd20:ce::/32",           // Google Cloud
	"fd00:c1::a9fe:a9fe/128", // Oracle Cloud
	"fd00:42::42/128",        // Scaleway
)

func mustParsePrefixes(prefixes ...string) (ps []netip.Prefix) {
	for _, s := range prefixes {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// IsAgentAddr reports whether applications may be called at a: at public addresses, and if
// allowPrivate at those of this machine and of private networks. Link-local addresses, those of the
// metadata services of cloud providers, and IPv6 addresses that embed an address of another kind
// are never allowed.
func IsAgentAddr(a netip.Addr, allowPrivate bool) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	contains := func(p netip.Prefix) bool { return p.Contains(a) }
	if slices.ContainsFunc(metadataPrefixes, contains) {
		return false
	}
	return IsPublicAddr(a) || allowPrivate && slices.ContainsFunc(privatePrefixes, contains)
}

// IsAgentPort reports whether applications may be called at port: 80, 443, and all ports from 1024,
// below which are those of system services, such as SSH and mail.
func IsAgentPort(port uint16) bool { return port == 80 || port == 443 || port >= 1024 }
