// Package dnstest gives tests a DNS server that behaves as CoreDNS does in a
// cluster, and a worker node with two of them behind a cluster IP.
package dnstest

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Server is a DNS server that behaves as CoreDNS does: it knows some names, is
// the authority for cluster.local, and passes others on or not.
type Server struct {
	Records  map[string]string // names with their addresses
	Forward  bool              // it knows whom to ask for the rest, and is answered
	Upstream time.Duration     // how long it waits for those whom it forwards to, in vain
	Long     bool              // answers are too long for UDP
}

// Records are what the DNS of a cluster knows: the address of its API server,
// and that of one Service beside it.
func Records(kubernetes string) map[string]string {
	return map[string]string{"kubernetes.default.svc.cluster.local.": kubernetes, "web.shop.svc.cluster.local.": "10.32.0.102"}
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	name := strings.ToLower(q.Question[0].Name)
	address, known := s.Records[name]
	switch {
	case known:
		n := 1
		if s.Long {
			n = 100
		}
		for range n {
			m.Answer = append(m.Answer, record(q.Question[0], address)...)
		}
	case dns.IsSubDomain("cluster.local.", name):
		m.Rcode = dns.RcodeNameError
	case s.Forward:
		m.Answer = record(q.Question[0], "192.0.2.80")
	default:
		time.Sleep(s.Upstream)
		m.Rcode = dns.RcodeServerFailure // "no next plugin found", or nobody answers
	}
	if w.RemoteAddr().Network() == "udp" {
		m.Truncate(dns.MinMsgSize)
	}
	_ = w.WriteMsg(m) // who asked may have gone
}

func record(q dns.Question, address string) []dns.RR {
	h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 5}
	ip := net.ParseIP(address)
	switch {
	case q.Qtype == dns.TypeA && ip.To4() != nil:
		return []dns.RR{&dns.A{Hdr: h, A: ip}}
	case q.Qtype == dns.TypeAAAA && ip.To4() == nil:
		return []dns.RR{&dns.AAAA{Hdr: h, AAAA: ip}}
	}
	return nil
}

// Serve has s answer on two sockets until the test ends, or until the function
// that it returns is called. l may be nil: nobody answers over TCP then.
func (s *Server) Serve(t testing.TB, c net.PacketConn, l net.Listener) (stop func()) {
	t.Helper()
	servers := []*dns.Server{{PacketConn: c, Handler: s}}
	if l != nil {
		servers = append(servers, &dns.Server{Listener: l, Handler: s})
	}
	for _, srv := range servers {
		started, ended := make(chan struct{}), make(chan error, 1)
		srv.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- srv.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			_ = srv.Shutdown() // it may have ended
			if err := <-ended; err != nil {
				t.Errorf("the DNS server of the test: %v", err)
			}
		})
	}
	return func() {
		for _, srv := range servers {
			_ = srv.Shutdown()
		}
	}
}
