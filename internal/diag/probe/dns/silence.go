package dns

import (
	"fmt"
	"net/netip"
	"strings"
)

const findReplicas = "kubectl -n kube-system get pods -o wide -l k8s-app=kube-dns"

// traceIt is the step where something is lost on the way.
const traceIt = "nfguard trace follows a question and says where it dies"

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
	case all && t.count(Refused) > 0 && len(dead) == 0: // the kernel sends six such errors, then one a second
		d.finding(NoEndpoints, true,
			fmt.Sprintf("%s refuses: kube-proxy does so for a Service without ready endpoints, or nobody listens there", d.service()),
			"kubectl -n kube-system get endpointslices -l k8s-app=kube-dns; "+findReplicas)
	case all && len(alive) > 0:
		d.finding(NoPath, true,
			fmt.Sprintf("%s does not answer (%s), although %s, asked by %s, %s: the way from the cluster IP to there is broken",
				d.service(), t.what(), list(alive), its(alive), word(alive, "does", "do")),
			"nfguard check says what Services need on this node and what of it is missing; a NetworkPolicy or a firewall may drop what comes through: "+traceIt)
	case all && len(dead) > 0:
		d.finding(Down, true, fmt.Sprintf("neither %s answers (%s) nor, by %s, %s", d.service(), t.what(), its(dead), list(dead)),
			"are the pods ready, and are they reached from here? "+findReplicas+"; "+traceIt)
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
	effect := fmt.Sprintf("%d of %d asks to %s fail, those that are led there", service.silent(), service.Asked, d.service())
	switch service.silent() {
	case 0:
		effect = fmt.Sprintf("no ask to %s was led there", d.service())
	case service.Asked:
		effect = fmt.Sprintf("all asks to %s fail", d.service())
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
