package dns

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// FuzzRead reads whatever a server may send: it is no reply, malformed, or a
// reply with an rcode.
func FuzzRead(f *testing.F) {
	q, err := newQuery(clusterName, false)
	if err != nil {
		f.Fatal(err)
	}
	m := new(dns.Msg).SetReply(&q.msg)
	m.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: clusterName, Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: worldName}}
	good, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	if r, err := q.read(good); err != nil || r.rcode != noError || len(r.answers) != 1 || r.answers[0] != worldName {
		f.Fatalf("%+v, %v", r, err)
	}
	f.Add(good)
	f.Add(q.packed)
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, packet []byte) {
		packet = slices.Clone(packet)
		if len(packet) > 1 {
			copy(packet, good[:2]) // the id: without it nothing else is read
		}
		r, err := q.read(packet)
		if (err == nil) != (r.rcode != "" || r.truncated) {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// FuzzResolvConf holds the laws of a search: each name asked for is complete,
// one of them is the name itself, and the rest are that with a domain.
func FuzzResolvConf(f *testing.F) {
	f.Add("search default.svc.cluster.local svc.cluster.local\noptions ndots:5\n", "web.shop")
	f.Add("domain .\nnameserver ::1%lo\noptions ndots:-1\n", "web.")
	f.Fuzz(func(t *testing.T, text, name string) {
		c, err := ParseResolvConf(strings.NewReader(text))
		if err != nil { // a line that is too long
			return
		}
		if c.NDots < 0 || c.NDots > maxNDots {
			t.Errorf("ndots %d", c.NDots)
		}
		list := c.Candidates(name)
		self := strings.TrimSuffix(name, ".") + "."
		found := 0
		for _, n := range list {
			if n == self {
				found++
			}
			if !strings.HasSuffix(n, ".") || n != self && !strings.HasPrefix(n, name+".") {
				t.Errorf("%q is asked for as %q", name, n)
			}
		}
		if found != 1 || !strings.HasSuffix(name, ".") && len(list) != 1+len(c.Domains) {
			t.Errorf("%q is asked for as %q", name, list)
		}
	})
}
