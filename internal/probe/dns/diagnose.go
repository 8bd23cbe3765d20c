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

// Cause is why a name is not answered rightly.
type Cause string

// The causes. In JSON they are these words.
const (
	BridgeNetfilter Cause = "bridge_netfilter" // replies cross the bridge and bypass kube-proxy's rules
	OtherSource     Cause = "other_source"     // a reply of the wrong source, and no bridge in sight
	DeadReplica     Cause = "dead_replica"     // one does not answer, others do
	Down            Cause = "down"             // nobody answers
	NoEndpoints     Cause = "no_endpoints"     // refused before anybody was asked
	NoPath          Cause = "no_path"          // the replicas answer, the cluster IP does not
	Lossy           Cause = "lossy"            // a share of the asks gets no answer
	Broken          Cause = "broken"           // a reply that is malformed, or too long without TCP
	NotTheCluster   Cause = "not_the_cluster"  // it answers, and does not know the cluster's name
	ClusterFails    Cause = "cluster_fails"    // it answers with an error for the cluster's name
	NoForward       Cause = "no_forward"       // it has nobody to ask for names of the world
	UpstreamFails   Cause = "upstream_fails"   // it asks somebody, in vain
	NoExternalName  Cause = "no_external_name" // somebody says that there is no such name
	SearchFails     Cause = "search_fails"     // a name fails that the search list made
	SearchList      Cause = "search_list"      // a name is found after others that there are not
	NoSuchName      Cause = "no_such_name"     // whatever the search list makes of it
	NameFails       Cause = "name_fails"       // the name that was given, for whatever reason
	FromNode        Cause = "from_node"        // asked from a node, and not as a pod
	CannotAsk       Cause = "cannot_ask"       // nothing left this machine
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
		d.finding(CannotAsk, false, fmt.Sprintf("%s could not be asked from here: %s", r.service(), t.detail),
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

// words are a cause as it stands in a summary.
func (c Cause) words() string {
	switch c {
	case BridgeNetfilter:
		return "replies bypass netfilter on the bridge"
	case OtherSource:
		return "replies come from another address"
	case DeadReplica:
		return "a replica does not answer"
	case Down:
		return "nobody answers"
	case NoEndpoints:
		return "asks are refused"
	case NoPath:
		return "no answer, although replicas answer"
	case Lossy:
		return "a share of the asks gets no answer"
	case Broken:
		return "replies are broken"
	case NotTheCluster:
		return "it does not know the cluster"
	case ClusterFails:
		return "the cluster's names fail"
	case NoForward:
		return "external names are passed to nobody"
	case UpstreamFails:
		return "external names fail"
	case NoExternalName:
		return "an external name is said not to be"
	case SearchFails:
		return "a name made by the search list fails"
	case SearchList:
		return "a name is found after others"
	case NoSuchName:
		return "there is no such name"
	case NameFails:
		return "the name fails"
	case FromNode:
		return "a node asked"
	case CannotAsk:
		return "it could not be asked"
	}
	return string(c)
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

// replicas returns the servers behind the Service, those that anything came
// from and those that nothing came from.
func (d *diagnosis) replicas() (alive, dead []netip.AddrPort) {
	for _, s := range d.Servers[1:] {
		t := d.asked(s.Address, d.base)
		switch {
		case t.Replied > 0:
			alive = append(alive, s.Address)
		case t.dead():
			dead = append(dead, s.Address)
		}
	}
	return alive, dead
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
			"look for what rewrites addresses between here and there: nfguard trace follows a connection on this node")
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

const findReplicas = "kubectl -n kube-system get pods -o wide -l k8s-app=kube-dns"

// silence explains asks that brought nothing from anybody.
func (d *diagnosis) silence() {
	t := d.asked(d.service(), d.base)
	alive, dead := d.replicas()
	lost, all := t.silent(), t.dead()
	if len(alive) > 0 && len(dead) > 0 {
		d.deadReplicas(alive, dead, t)
		if !all {
			return
		}
	}
	switch {
	case all && t.count(Refused) > 0: // the kernel sends six such errors, then one a second
		d.finding(NoEndpoints, true,
			fmt.Sprintf("%s refuses: kube-proxy does so for a Service without ready endpoints, or nobody listens there", d.service()),
			"kubectl -n kube-system get endpointslices -l k8s-app=kube-dns; "+findReplicas)
	case all && len(alive) > 0:
		d.finding(NoPath, true,
			fmt.Sprintf("%s does not answer (%s), although %s, asked by %s, %s: the way from the cluster IP to there is broken",
				d.service(), t.what(), list(alive), its(alive), word(alive, "does", "do")),
			"nfguard check says whether kube-proxy has written its rules here; a NetworkPolicy or a firewall may drop what they let through")
	case all && len(dead) > 0:
		d.finding(Down, true, fmt.Sprintf("neither %s answers (%s) nor, by %s, %s", d.service(), t.what(), its(dead), list(dead)),
			"are the pods ready, and are they reached from here? "+findReplicas)
	case all:
		d.finding(Down, true, fmt.Sprintf("%s does not answer (%s); without the addresses of its replicas it can't be told whether they are dead or the way is broken", d.service(), t.what()),
			"give them by --replica: "+findReplicas)
	case lost > 0 && len(alive) > 0:
		d.finding(Lossy, true,
			fmt.Sprintf("%d of %d asks to %s get no answer (%s), although %s, asked by %s, %s: kube-proxy's rules may still lead to a replica that is gone, or datagrams are lost",
				lost, t.Asked, d.service(), t.what(), list(alive), its(alive), word(alive, "does", "do")),
			"give every replica that the rules lead to by --replica: "+findReplicas)
	case lost > 0:
		d.finding(Lossy, true,
			fmt.Sprintf("%d of %d asks to %s get no answer (%s): so it is where one of several replicas is dead", lost, t.Asked, d.service(), t.what()),
			"give the addresses of the replicas by --replica: "+findReplicas)
	case len(dead) > 0 && t.Replied > 0:
		d.finding(DeadReplica, true,
			fmt.Sprintf("%s answers, and by %s %s: dead, not behind that Service, or nobody may ask there directly (NetworkPolicy)",
				d.service(), its(dead), list(dead)+word(dead, " does not", " do not")),
			findReplicas)
	}
}

// deadReplicas says which are dead, and what it does to those who ask the
// Service.
func (d *diagnosis) deadReplicas(alive, dead []netip.AddrPort, service *tally) {
	effect := fmt.Sprintf("no ask to %s was led there", d.service())
	if n := service.silent(); n > 0 && n < service.Asked {
		effect = fmt.Sprintf("%d of %d asks to %s fail, those that are led there", n, service.Asked, d.service())
	}
	for _, a := range dead {
		t := d.asked(a, d.base)
		d.finding(DeadReplica, true,
			fmt.Sprintf("the replica %s does not answer (%s), and %s %s: %s", a, t.what(), list(alive), word(alive, "does", "do"), effect),
			"is the pod with that address ready? if there is none, kube-proxy's rules are stale: "+findReplicas)
	}
}

// what tells in words how asks ended that brought nothing.
func (t *tally) what() string {
	var words []string
	for _, o := range []Outcome{Timeout, Refused, Unreachable} {
		if n := t.count(o); n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, o))
		}
	}
	if len(words) == 1 && t.silent() == t.Asked {
		return strings.TrimLeft(words[0], "0123456789 ")
	}
	return strings.Join(words, ", ")
}

// broken explains replies that could not be used.
func (d *diagnosis) broken() {
	for _, s := range d.Servers {
		for _, q := range d.Questions {
			t := d.asked(s.Address, q.Name)
			if n := t.count(Malformed); n > 0 {
				d.finding(Broken, true, fmt.Sprintf("%s replies to %s with what is no DNS: %s", s.Address, q.Name, t.detail),
					"is it a DNS server that listens there?")
				break
			}
			if n := t.count(Truncated); n > 0 {
				d.finding(Broken, true, fmt.Sprintf("the reply of %s to %s is too long for UDP, and TCP brought none: %s", s.Address, q.Name, t.detail),
					"DNS needs TCP on port 53, too: is it in the Service's ports, and does a NetworkPolicy leave it out?")
				break
			}
		}
	}
}

// cluster explains what replies say of the cluster's name.
func (d *diagnosis) cluster() {
	for _, s := range d.Servers {
		rcode := d.heard(s.Address, d.base).rcode()
		switch rcode {
		case noError, "":
			continue
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
			fmt.Sprintf("%s was asked %d times for %s, with unequal results: %s", row.Server, row.Asked, row.Name, row.Outcome()),
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
		"to ask as a pod does: nsenter -t PID -n nfguard probe dns --server "+d.service().Addr().String()+", with the PID of a process of a pod")
}
