package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Verdict is what a report comes to.
type Verdict string

// The verdicts. In JSON they are these words.
const (
	Right   Verdict = "right"   // every name was answered, from the right address
	Wrong   Verdict = "wrong"   // one was not
	Unknown Verdict = "unknown" // nothing could be asked
)

// Finding is one thing that is to be known, or done.
type Finding struct {
	Cause    Cause    `json:"cause"`
	Breaks   bool     `json:"breaks"` // names are not answered for it; else it is a note
	Sentence string   `json:"sentence"`
	Next     string   `json:"next"`
	Lines    []string `json:"lines,omitempty"` // to add to a Corefile
}

// Row is what came of one name at one server. Of the candidates of a search
// there are those up to the one where a resolver stops.
type Row struct {
	Server  netip.AddrPort `json:"server"`
	Role    Role           `json:"role"`
	Name    string         `json:"name"`
	Purpose Purpose        `json:"purpose"`
	Right   bool           `json:"right"` // of a candidate of a search: that there was a reply
	Asked   int            `json:"asked"`
	Results map[string]int `json:"results"` // how many by rcode, where the server replied, else by outcome
	Sources []string       `json:"sources"` // other addresses that replied
	Usec    int64          `json:"usec"`    // the median of the replies, in microseconds; 0 without any
}

// Diagnosis is what a report says.
type Diagnosis struct {
	Verdict  Verdict   `json:"verdict"`
	Summary  string    `json:"summary"`
	Rows     []Row     `json:"rows"`
	Findings []Finding `json:"findings"`
}

// diagnosis is one in the making.
type diagnosis struct {
	*Report
	Diagnosis
	base string // the cluster's name, by which servers are judged
}

// Diagnose judges a report with a Service and a name of the cluster. It names
// a cause only where the report tells it from the others.
func Diagnose(r *Report) Diagnosis {
	d := &diagnosis{Report: r, Diagnosis: Diagnosis{Findings: []Finding{}, Rows: []Row{}}}
	for _, q := range r.Questions {
		if q.Purpose == Cluster {
			d.base = q.Name
		}
	}
	d.rows()
	if t := r.asked(r.service(), d.base); t.count(Unsent) == t.Asked {
		d.finding(CannotAsk, false, fmt.Sprintf("%s could not be asked from here: %s", r.service(), t.why[Unsent]),
			"run it where there is a route to that address: on a node or in a pod")
		d.Verdict, d.Summary = Unknown, r.service().String()+" could not be asked"
		return d.Diagnosis
	}
	d.sources()
	d.silence()
	d.broken()
	d.cluster()
	d.external()
	d.given()
	d.rest()
	d.from()
	d.judge()
	return d.Diagnosis
}

func (d *diagnosis) finding(c Cause, breaks bool, sentence, next string, lines ...string) {
	d.Findings = append(d.Findings, Finding{c, breaks, sentence, next, lines})
}

func (d *diagnosis) judge() {
	d.Verdict = Right
	var causes []string
	for _, f := range d.Findings {
		if f.Breaks {
			d.Verdict = Wrong
			causes = append(causes, f.Cause.words())
		}
	}
	d.Summary = d.service().String() + " answers, from its own address"
	if d.Verdict == Wrong {
		d.Summary = d.service().String() + ": " + strings.Join(causes, "; ")
	}
}

func (d *diagnosis) rows() {
	reached := d.reached()
	for _, s := range d.Servers {
		for _, q := range d.Questions {
			t := d.asked(s.Address, q.Name)
			if t.Asked == 0 || q.Purpose == Given && !slices.Contains(reached, q.Name) {
				continue
			}
			row := Row{
				Server: s.Address, Role: s.Role, Name: q.Name, Purpose: q.Purpose,
				Asked: t.Asked, Results: t.Results, Sources: []string{}, Usec: t.median().Microseconds(),
			}
			good := t.Results[noError]
			if q.Purpose == Given {
				good = t.Results[noError] + t.Results[nxDomain]
			}
			row.Right = good == t.Asked
			for _, a := range t.Sources {
				row.Sources = append(row.Sources, a.String())
			}
			d.Rows = append(d.Rows, row)
		}
	}
}

// key is the sysctl that has the bridge hand packets of an address to netfilter.
func key(a netip.Addr) string {
	if a.Is6() {
		return "net.bridge.bridge-nf-call-ip6tables"
	}
	return "net.bridge.bridge-nf-call-iptables"
}

// sources explains replies of the wrong source at the Service. That is the
// bridge only where the source is on the link of who asked, and answers from
// its right address when it is asked by it.
func (d *diagnosis) sources() {
	t := d.asked(d.service(), d.base)
	var bridged, others []netip.AddrPort
	for _, s := range t.Sources {
		if d.asked(s, d.base).Replied > 0 && d.onLink(s.Addr(), d.service().Addr()) {
			bridged = append(bridged, s)
		} else {
			others = append(others, s)
		}
	}
	answered := func(by []netip.AddrPort) string {
		n := 0
		for _, s := range by {
			n += t.by[s]
		}
		return fmt.Sprintf("%s was asked, and %s answered %d of %d times", d.service(), list(by), n, t.Asked)
	}
	if len(bridged) > 0 {
		d.finding(BridgeNetfilter, true,
			fmt.Sprintf("%s: reply from unexpected source. Asked by %s, %s: a reply that crosses the bridge without passing through netfilter "+
				"keeps the pod's address, which nothing turns back into the cluster IP",
				answered(bridged), its(bridged), word(bridged, "it answers rightly", "they answer rightly")),
			fmt.Sprintf("nfguard check says why %s is not in effect on this node, nfguard apply sets it once", key(d.service().Addr())))
	}
	if len(others) > 0 {
		d.finding(OtherSource, true,
			answered(others)+"; nothing shows that a bridge is why",
			"look for what rewrites addresses between here and there, or for a server with several: it has to reply from the one that was asked")
	}
}

// word is the one for a list of one, or of several.
func word(list []netip.AddrPort, one, several string) string {
	if len(list) > 1 {
		return several
	}
	return one
}

func its(list []netip.AddrPort) string { return word(list, "its own address", "their own addresses") }

func list(addrs []netip.AddrPort) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
	return strings.Join(words, "")
}

// broken explains replies that could not be used.
func (d *diagnosis) broken() {
	for _, s := range d.Servers {
		for _, q := range d.Questions {
			t := d.asked(s.Address, q.Name)
			if n := t.count(Malformed); n > 0 {
				d.finding(Broken, true, fmt.Sprintf("%s replies to %s with what is no DNS: %s", s.Address, q.Name, t.why[Malformed]),
					"is it a DNS server that listens there?")
				break
			}
			if n := t.count(Truncated); n > 0 {
				d.finding(Broken, true, fmt.Sprintf("the reply of %s to %s is too long for UDP, and TCP brought none: %s", s.Address, q.Name, t.why[Truncated]),
					"DNS needs TCP on port 53, too: is it in the Service's ports, and does a NetworkPolicy leave it out?")
				break
			}
		}
	}
}

// cluster explains what replies say of the cluster's name. One server of those
// that say the same stands for all.
func (d *diagnosis) cluster() {
	told := map[string]bool{noError: true, "": true}
	for _, s := range d.Servers {
		rcode := d.heard(s.Address, d.base).rcode()
		if told[rcode] {
			continue
		}
		told[rcode] = true
		switch rcode {
		case nxDomain, refusal:
			d.finding(NotTheCluster, true,
				fmt.Sprintf("%s answers %s for %s: it does not serve the cluster's domain, or that has another name", s.Address, rcode, d.base),
				"ask the cluster's own DNS by --server (kubectl -n kube-system get service kube-dns), and name its domain by --domain")
		default:
			d.finding(ClusterFails, true,
				fmt.Sprintf("%s answers %s for %s: CoreDNS does so while it has not read the cluster's Services from the API server", s.Address, rcode, d.base),
				"kubectl -n kube-system logs -l k8s-app=kube-dns: can it reach the API server?")
		}
	}
}

// rest tells of what went wrong in some asks, and that nothing above explains.
func (d *diagnosis) rest() {
	for _, f := range d.Findings {
		if f.Breaks {
			return
		}
	}
	for _, row := range d.Rows {
		if row.Right {
			continue
		}
		d.finding(Lossy, true,
			fmt.Sprintf("%s was asked %d times for %s: %s", row.Server, row.Asked, row.Name, row.Outcome()),
			"ask more often (--tries), and each replica by its own address (--replica): "+findReplicas)
	}
}

// from says what a node's own asks do not show.
func (d *diagnosis) from() {
	if len(d.Bridges) == 0 {
		return
	}
	d.finding(FromNode, false,
		fmt.Sprintf("this was asked where the bridges are (%s): such asks pass through netfilter whatever a bridge does with those of pods", strings.Join(d.Bridges, ", ")),
		fmt.Sprintf("to ask as a pod does: nfguard probe dns --bridge %s --server %s", d.Bridges[0], d.service().Addr()))
}
