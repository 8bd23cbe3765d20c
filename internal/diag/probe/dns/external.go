package dns

import (
	"fmt"
	"time"
)

// corefile is what a server block of a Corefile needs for names of the world,
// as Kubernetes ships it.
var corefile = [...]string{
	"forward . /etc/resolv.conf {",
	"    max_concurrent 1000",
	"}",
}

const editCorefile = "kubectl -n kube-system edit configmap coredns: add to the block of the Corefile that begins with .:53"

// soon is how much longer than for a name of its own a server may take for an
// error that it makes itself, where the fastest asks for both are compared. Who
// asks others needs a round trip more.
const soon = 2 * time.Millisecond

// external explains why names of the world fail, where the cluster's name does
// not. One server of those that fail alike stands for all.
func (d *diagnosis) external() {
	for _, q := range d.Questions {
		if q.Purpose != External {
			continue
		}
		told := map[Cause]bool{}
		for _, s := range d.Servers {
			base, t := d.heard(s.Address, d.base), d.heard(s.Address, q.Name)
			if base.rcode() != noError {
				continue // that is told elsewhere
			}
			c := t.whyExternal(base, d.heard(s.Address, d.Fresh...))
			if c == "" || told[c] {
				continue
			}
			told[c] = true
			d.explain(c, s, q.Name, t)
		}
	}
}

// whyExternal is why a name of the world got no answer, or "". fresh is for
// names that no cache has: CoreDNS keeps an error for five seconds. CoreDNS 1.15
// has SERVFAIL ("no next plugin found" in its log) where the kubernetes plugin
// is the last one, and REFUSED where no server block has the name.
func (t *tally) whyExternal(base, fresh *tally) Cause {
	switch rcode := t.rcode(); rcode {
	case noError:
	case nxDomain:
		return NoExternalName
	case "":
		if base.silent() == 0 && t.silent() > 0 {
			return UpstreamFails
		}
	default:
		if fresh.rcode() == rcode && fresh.fastest() <= base.fastest()+soon {
			return NoForward
		}
		return UpstreamFails
	}
	return ""
}

func (d *diagnosis) explain(c Cause, s Server, name string, t *tally) {
	switch c { //nolint:exhaustive // those of whyExternal
	case NoExternalName:
		d.finding(c, true, fmt.Sprintf("%s answers NXDOMAIN for %s: whoever it asks says that there is no such name", s.Address, name),
			"name one by --external that this network should know; --external= leaves it out")
	case NoForward:
		d.finding(c, true,
			fmt.Sprintf("%s answers %s for %s as soon as a name of its own, so it seems to ask nobody: its Corefile has no forward "+
				"(its log then has \"no next plugin found\"), or one to a server that is out of reach or refuses at once", s.Address, t.rcode(), name),
			editCorefile, corefile[:]...)
	case UpstreamFails:
		what := t.rcode()
		if what == "" {
			what = "nothing (" + t.what() + ")"
		}
		if fresh := d.heard(s.Address, d.Fresh...); fresh.Replied > 0 {
			name += fmt.Sprintf(" (and takes %v for a name that is in no cache)", fresh.fastest())
		} else if fresh.Asked > 0 {
			name += " (and nothing for a name that is in no cache)"
		}
		d.finding(c, true,
			fmt.Sprintf("%s answers %s for %s, and the cluster's names rightly: those whom its Corefile forwards to do not answer it, or answer so themselves", s.Address, what, name),
			"kubectl -n kube-system logs -l k8s-app=kube-dns names them; can a pod reach them? forward . /etc/resolv.conf takes the node's own")
	}
}
