package dns

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// server is a DNS server that behaves as CoreDNS does: it knows some names, is
// the authority for cluster.local, and passes others on or not.
type server struct {
	records  map[string]string // names with their addresses
	forward  bool              // it knows whom to ask for the rest, and is answered
	upstream time.Duration     // how long it waits for those whom it forwards to, in vain
	long     bool              // answers are too long for UDP
}

func (s *server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	name := strings.ToLower(q.Question[0].Name)
	address, known := s.records[name]
	switch {
	case known:
		n := 1
		if s.long {
			n = 100
		}
		for range n {
			m.Answer = append(m.Answer, record(q.Question[0], address)...)
		}
	case dns.IsSubDomain("cluster.local.", name):
		m.Rcode = dns.RcodeNameError
	case s.forward:
		m.Answer = record(q.Question[0], "192.0.2.80")
	default:
		time.Sleep(s.upstream)
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

// serve has s answer on two sockets until the test ends, or until the function
// returned is called. l may be nil: nobody answers over TCP then.
func (s *server) serve(t *testing.T, c net.PacketConn, l net.Listener) (stop func()) {
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

// records are what the DNS of a cluster knows, and one Service beside it.
func records(kubernetes string) map[string]string {
	return map[string]string{clusterName: kubernetes, "web.shop.svc.cluster.local.": "10.32.0.102"}
}
