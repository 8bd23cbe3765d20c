package dns

import (
	"bufio"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// ResolvConf is what resolv.conf(5) says. The zero value is that of an empty
// file but for NDots, which is 1 there.
type ResolvConf struct {
	Servers []netip.Addr `json:"servers,omitempty"`
	Domains []string     `json:"domains"` // the search list, each without a trailing dot
	NDots   int          `json:"ndots"`
	From    string       `json:"from"` // where it is from, for people
}

// maxNDots is the highest that the resolvers of glibc and musl take.
const maxNDots = 15

// ParseResolvConf reads a resolv.conf as glibc does: what it does not know, and a
// line that begins with a blank, is passed over, and the last of search and
// domain counts. The error is the reader's.
func ParseResolvConf(r io.Reader) (ResolvConf, error) {
	c := ResolvConf{NDots: 1}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 || strings.ContainsAny(lines.Text()[:1], "#; \t") {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil {
				c.Servers = append(c.Servers, a)
			}
		case "domain":
			c.Domains = domains(f[1:2])
		case "search":
			c.Domains = domains(f[1:])
		case "options":
			for _, o := range f[1:] {
				if n, ok := strings.CutPrefix(o, "ndots:"); ok {
					if n, err := strconv.Atoi(n); err == nil && n >= 0 {
						c.NDots = min(n, maxNDots)
					}
				}
			}
		}
	}
	return c, lines.Err()
}

func domains(words []string) []string {
	var list []string
	for _, w := range words {
		if w = strings.TrimSuffix(w, "."); w != "" {
			list = append(list, w)
		}
	}
	return list
}

// PodConf is what the kubelet writes for a pod with dnsPolicy ClusterFirst: the
// domains of its namespace and its cluster, then those of the node.
func PodConf(namespace, domain string, node ResolvConf) ResolvConf {
	domain = strings.TrimSuffix(domain, ".")
	return ResolvConf{
		Domains: append([]string{namespace + ".svc." + domain, "svc." + domain, domain}, node.Domains...),
		NDots:   5,
		From:    "as the kubelet writes it for a pod in the namespace " + namespace,
	}
}

// Candidates are the names that are asked for name, in order: with fewer dots
// than NDots first those of the search list, else first name itself. The
// resolver stops at the first that there is; that of musl does not search at
// all for a name with enough dots. A trailing dot leaves only name itself.
func (c *ResolvConf) Candidates(name string) []string {
	if strings.HasSuffix(name, ".") {
		return []string{name}
	}
	var list []string
	for _, d := range c.Domains {
		list = append(list, name+"."+d+".")
	}
	if strings.Count(name, ".") >= c.NDots {
		return append([]string{name + "."}, list...)
	}
	return append(list, name+".")
}
