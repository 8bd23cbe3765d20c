package services

import (
	"bufio"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// The chains of kube-proxy's mode iptables (pkg/proxy/iptables/proxier.go).
const (
	servicesChain  = "KUBE-SERVICES"
	serviceChain   = "KUBE-SVC-" // one for each port of a Service: jumps to a random endpoint
	localChain     = "KUBE-SVL-" // the same with internalTrafficPolicy: Local, for endpoints on this node
	endpointChain  = "KUBE-SEP-" // one for each endpoint: translates to it
	clusterIPWords = " cluster IP"
)

// maxLine is the longest line that is read: a rule has a few hundred bytes.
const maxLine = 64 << 10

// ParseIPTables reads the Services from the output of "iptables-save -t nat", of
// either backend and family. It skips lines that are not about Services or that it
// does not understand, and leaves out Services without any known endpoint.
func ParseIPTables(r io.Reader) ([]Service, error) {
	type head struct {
		Service
		chain string
	}
	var heads []head
	endpoints := map[string][]string{} // by KUBE-SVC chain: its KUBE-SEP chains
	targets := map[string]netip.AddrPort{}
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	for in.Scan() {
		if !strings.HasPrefix(in.Text(), "-A KUBE-S") {
			continue
		}
		rule := parseRule(in.Text())
		switch to := rule["-j"]; {
		case rule["-A"] == servicesChain && ofService(to):
			name, ok := strings.CutSuffix(rule["--comment"], clusterIPWords)
			at, atOK := rule.destination()
			if ok && atOK {
				heads = append(heads, head{Service{Name: name, ClusterIP: at, Protocol: Protocol(rule["-p"])}, to})
			}
		case ofService(rule["-A"]) && strings.HasPrefix(to, endpointChain):
			endpoints[rule["-A"]] = append(endpoints[rule["-A"]], to)
		case strings.HasPrefix(rule["-A"], endpointChain) && to == "DNAT":
			if a, ok := endpoint(rule["--to-destination"]); ok {
				targets[rule["-A"]] = a
			}
		}
	}
	if err := in.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return nil, err
	} else if err != nil {
		return nil, errors.New("a line is longer than any rule of kube-proxy")
	}
	var list []Service
	for _, h := range heads {
		for _, chain := range endpoints[h.chain] {
			if a, ok := targets[chain]; ok {
				h.Endpoints = append(h.Endpoints, a)
			}
		}
		if len(h.Endpoints) > 0 {
			list = append(list, h.Service)
		}
	}
	Sort(list)
	return list, nil
}

func ofService(chain string) bool {
	return strings.HasPrefix(chain, serviceChain) || strings.HasPrefix(chain, localChain)
}

// rule is a line of iptables-save: each option with the word after it. A negated
// option has a "!" before it.
type rule map[string]string

func parseRule(line string) rule {
	r := rule{}
	words := words(line)
	for i := 0; i < len(words); i++ {
		option := words[i]
		if option == "!" && i+1 < len(words) {
			i++
			option = "!" + words[i]
		}
		if !strings.HasPrefix(strings.TrimPrefix(option, "!"), "-") || i+1 == len(words) {
			continue
		}
		i++
		r[option] = words[i]
	}
	return r
}

// destination is the address of -d and the port of --dport.
func (r rule) destination() (netip.AddrPort, bool) {
	p, err := netip.ParsePrefix(r["-d"])
	if err != nil {
		a, err := netip.ParseAddr(r["-d"])
		if err != nil {
			return netip.AddrPort{}, false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	port, err := strconv.ParseUint(r["--dport"], 10, 16)
	return netip.AddrPortFrom(p.Addr(), uint16(port)), err == nil && port > 0 && p.IsSingleIP()
}

// words splits a line at blanks. A word in double quotes can contain blanks, and
// quotes after a backslash (xtables_save_string in iptables' xtables.c).
func words(line string) []string {
	var list []string
	var word strings.Builder
	quoted, begun := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted && i+1 < len(line):
			i++
			word.WriteByte(line[i])
		case c == '"':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				list = append(list, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		list = append(list, word.String())
	}
	return list
}
