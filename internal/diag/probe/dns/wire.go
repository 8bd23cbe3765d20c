package dns

import (
	"errors"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// errNotOurs says that a datagram is no reply to the question.
var errNotOurs = errors.New("no reply to the question")

// query is one question as it goes over the wire.
type query struct {
	msg    dns.Msg
	packed []byte
}

// newQuery makes one with a random id, as a libc's resolver asks: recursion
// desired, and no EDNS, so that a reply has 512 bytes at most. v6 asks for
// addresses of IPv6.
func newQuery(name string, v6 bool) (*query, error) {
	kind := dns.TypeA
	if v6 {
		kind = dns.TypeAAAA
	}
	q := &query{}
	q.msg.SetQuestion(name, kind)
	var err error
	q.packed, err = q.msg.Pack()
	return q, err
}

// reply is what a server said.
type reply struct {
	rcode     string
	answers   []string
	truncated bool
}

// read reads a reply. The error is errNotOurs where id or question are not the
// query's, else it says what is malformed.
func (q *query) read(packet []byte) (reply, error) {
	var m dns.Msg
	err := m.Unpack(packet)
	asked := &q.msg.Question[0]
	switch {
	case len(packet) < 2 || m.Id != q.msg.Id || err == nil && !m.Response:
		return reply{}, errNotOurs
	case m.Truncated:
		return reply{truncated: true}, nil // what there is of it may be cut anywhere
	case err != nil:
		return reply{}, err
	case len(m.Question) == 0 && m.Rcode != dns.RcodeSuccess: // a refusal may leave it out
	case len(m.Question) != 1 || m.Question[0].Qtype != asked.Qtype || !strings.EqualFold(m.Question[0].Name, asked.Name):
		return reply{}, errors.New("the reply is to another question")
	}
	r := reply{rcode: dns.RcodeToString[m.Rcode]}
	if r.rcode == "" {
		r.rcode = "RCODE" + strconv.Itoa(m.Rcode)
	}
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			r.answers = append(r.answers, rr.A.String())
		case *dns.AAAA:
			r.answers = append(r.answers, rr.AAAA.String())
		case *dns.CNAME:
			r.answers = append(r.answers, rr.Target)
		}
	}
	return r, nil
}

// ValidName reports whether a name can be asked for, with or without its
// trailing dot.
func ValidName(name string) bool {
	_, ok := dns.IsDomainName(name)
	return ok
}
