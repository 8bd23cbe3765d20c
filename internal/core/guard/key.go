package guard

import "strings"

// Key names a sysctl in dotted form, as sysctl(8) prints it:
// "net.bridge.bridge-nf-call-iptables". A path component that itself
// contains a dot carries a slash in its place, as in sysctl.d(5):
// "net.ipv4.conf.eth0/100.rp_filter".
type Key string

// The three keys of br_netfilter that decide whether bridged packets are
// handed to iptables, ip6tables and arptables.
const (
	IPTables  Key = "net.bridge.bridge-nf-call-iptables"
	IP6Tables Key = "net.bridge.bridge-nf-call-ip6tables"
	ARPTables Key = "net.bridge.bridge-nf-call-arptables"
)

// BridgeNF reports whether k is registered by br_netfilter, and so appears
// and vanishes with that module.
func (k Key) BridgeNF() bool { return strings.HasPrefix(string(k), "net.bridge.bridge-nf-") }

// ByFlag reports whether each bridge has a flag of its own that does the same
// as k: with scope "bridges" the flags are kept, and k is at 0 or left alone.
func (k Key) ByFlag() bool { return k == IPTables || k == IP6Tables || k == ARPTables }

// Path returns the file of k below /proc/sys.
func (k Key) Path() string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, string(k))
}

// File returns the path of the file of k, by which a [record.Write] names it.
func (k Key) File() string { return "/proc/sys/" + k.Path() }

// Device returns the name of the network device that k is of, and comes and goes
// with, or "": "eth0.100" of net.ipv4.conf.eth0/100.rp_filter.
func (k Key) Device() string {
	f := strings.Split(k.Path(), "/")
	if len(f) < 5 || f[0] != "net" || f[2] != "conf" && f[2] != "neigh" || f[3] == "all" || f[3] == "default" {
		return ""
	}
	return f[3]
}

// SameValue reports whether the kernel's text for a sysctl and the wanted
// text mean the same: the kernel separates the numbers of a vector by tabs,
// people by blanks.
func SameValue(have, want string) bool {
	if have == want {
		return true
	}
	h, w := strings.Fields(have), strings.Fields(want)
	if len(h) != len(w) {
		return false
	}
	for i := range h {
		if h[i] != w[i] {
			return false
		}
	}
	return true
}
