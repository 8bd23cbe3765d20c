// Package probe sends real packets and says whether a pod reaches a Service
// whose endpoint is on its own node: in a world of network namespaces that is
// made for it and has this host's settings, or through a real bridge and
// kube-proxy's real rules. It loads no module by itself, writes to no setting of
// the host, and what it makes has no life beyond the process.
package probe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Path is how packets get from the asking pod to the one that answers.
type Path string

// The paths.
const (
	Bridged Path = "bridged" // both are ports of one bridge: the same node
	Routed  Path = "routed"  // through the node's IP stack: another node
	Hairpin Path = "hairpin" // a pod that asks itself
)

// Target is what a pod asks.
type Target string

// The targets.
const (
	PodIP     Target = "pod IP"
	ClusterIP Target = "cluster IP"
)

// Family is a version of IP.
type Family string

// The families.
const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

func familyOf(a netip.Addr) Family {
	if a.Is4() || a.Is4In6() {
		return IPv4
	}
	return IPv6
}

// Protocol is TCP or UDP.
type Protocol string

// The protocols.
const (
	TCP Protocol = "TCP"
	UDP Protocol = "UDP"
)

// Outcome is what came of asking.
type Outcome string

// The outcomes.
const (
	Answered    Outcome = "answered"     // by the address that was asked
	WrongSource Outcome = "wrong source" // by another address: nobody put the Service's back
	Refused     Outcome = "refused"      // a reset, or an ICMP port unreachable
	TimedOut    Outcome = "timeout"      // nothing came
	Failed      Outcome = "error"        // it could not be sent
	Absent      Outcome = "absent"       // there is no such family here; it does not count
)

// Answer is what came of asking once.
type Answer struct {
	Outcome Outcome        `json:"outcome"`
	Source  netip.AddrPort `json:"source,omitzero"` // of the reply; zero where none came
	Took    time.Duration  `json:"took_nsec"`       // until the reply came, or was given up
	Error   string         `json:"error,omitempty"` // of outcome error
	Times   int            `json:"times,omitempty"` // it was asked at once, and this is the worst answer; 0: once
}

// Cell is one question and its answer.
type Cell struct {
	Path     Path           `json:"path"`
	To       Target         `json:"to"`
	Family   Family         `json:"family"`
	Protocol Protocol       `json:"protocol"`
	Service  string         `json:"service,omitempty"` // on a real bridge: namespace/name:port
	Port     string         `json:"port,omitempty"`    // on a real bridge, of path hairpin: how the pod's port is
	Asked    netip.AddrPort `json:"asked"`
	Answer
}

// String is for people: "IPv4 TCP bridged, cluster IP 10.32.0.10:53".
func (c *Cell) String() string {
	return fmt.Sprintf("%s %s %s, %s %s", c.Family, c.Protocol, c.Path, c.To, c.Asked)
}

// Verdict is what the cells say together.
type Verdict string

// The verdicts.
const (
	Works   Verdict = "works"
	Broken  Verdict = "broken"
	Unknown Verdict = "unknown"
)

// Judgement is the verdict with its reason.
type Judgement struct {
	Verdict Verdict `json:"verdict"`
	Meaning string  `json:"meaning"`

	// Hairpin says what came of a pod that asks itself through its Service,
	// where that did not work. It does not count: what it takes beside the
	// keys is a flag of the pod's port, which the CNI plugin sets.
	Hairpin     string `json:"hairpin,omitempty"`
	HairpinNext string `json:"hairpin_next,omitempty"` // what helps there
}

// Judge judges cells. It is Services with an endpoint on the own node, so
// bridged cluster IPs, that decide. For silence or a refusal to count as a
// failure, the pods behind have to have answered; where one has not, another
// Service of the same family and protocol can still tell.
func Judge(cells []Cell) Judgement {
	var j Judgement
	j.Hairpin, j.HairpinNext = hairpin(cells)
	var asked, good int
	var wrong *Cell
	var unclear []*Cell
	var families []string
	told := map[string]bool{} // by family and protocol
	for i := range cells {
		c := &cells[i]
		if c.Path != Bridged || c.To != ClusterIP || c.Outcome == Absent {
			continue
		}
		asked++
		switch {
		case c.Outcome == Answered:
			good++
			told[string(c.Family)+string(c.Protocol)] = true
			if f := string(c.Family); !slices.Contains(families, f) {
				families = append(families, f)
			}
		case c.Outcome == WrongSource, c.Outcome != Failed && unreached(cells, c) == nil:
			if wrong == nil || wrong.Outcome != WrongSource && c.Outcome == WrongSource {
				wrong = c
			}
		default:
			unclear = append(unclear, c)
		}
	}
	unclear = slices.DeleteFunc(unclear, func(c *Cell) bool { return told[string(c.Family)+string(c.Protocol)] })
	switch {
	case wrong != nil:
		j.Verdict, j.Meaning = Broken, failure(wrong, good, asked)
	case len(unclear) > 0:
		j.Verdict = Unknown
		j.Meaning = fmt.Sprintf("%s: %s", unclear[0], unclear[0].What())
		if pod := unreached(cells, unclear[0]); pod != nil {
			j.Meaning += fmt.Sprintf(", and the pod behind it, %s, was not reached either: this says nothing about Services", pod.Asked)
		}
	case asked == 0:
		j.Verdict, j.Meaning = Unknown, "no Service with an endpoint on this node could be asked"
	default:
		j.Verdict = Works
		j.Meaning = "a pod that calls a Service with an endpoint on its own node gets the answer from the cluster IP (" + strings.Join(families, ", ") + ")"
	}
	return j
}

// unreached returns the first of the pods behind c that did not answer by its
// own address, or nil. A real Service may lead to any of its own; those of a
// world have none in common, and one on each path.
func unreached(cells []Cell, c *Cell) *Cell {
	for i := range cells {
		o := &cells[i]
		behind := o.Service == c.Service && (o.Path == c.Path || o.Service != "")
		if behind && o.To == PodIP && o.Family == c.Family && o.Protocol == c.Protocol && o.Outcome != Answered {
			return o
		}
	}
	return nil
}

func failure(c *Cell, good, asked int) string {
	s := "a pod that calls a Service with an endpoint on its own node "
	switch c.Outcome { //nolint:exhaustive // the outcomes of a failure
	case WrongSource:
		s += fmt.Sprintf("gets the reply from %s and not from %s, which it asked (%s %s)", c.Source, c.Asked, c.Family, c.Protocol)
	case Refused:
		s += fmt.Sprintf("is refused by %s (%s %s), although the pod behind it answers", c.Asked, c.Family, c.Protocol)
	default:
		s += fmt.Sprintf("gets no answer from %s (%s %s), although the pod behind it answers", c.Asked, c.Family, c.Protocol)
	}
	if good > 0 {
		s += fmt.Sprintf("; %d of %d questions were answered", good, asked)
	}
	return s
}

// What says the outcome in words: "reply from 192.0.2.3:7".
func (a *Answer) What() string {
	switch a.Outcome {
	case Answered:
		return "answered"
	case WrongSource:
		return "reply from " + a.Source.String()
	case Refused:
		return "refused"
	case TimedOut:
		return "no answer within " + a.Took.Round(100*time.Millisecond).String()
	case Failed:
		return a.Error
	case Absent:
		return "absent"
	}
	return string(a.Outcome)
}

// hairpinNext is what helps a pod to reach itself where bridged packets pass
// netfilter: then its frame goes back by the port that it came from.
const hairpinNext = "its port needs hairpin mode: hairpinMode: true of the CNI plugin bridge, for pods that are made from then on; " +
	"for all, hairpin = \"keep\" under [bridges] in nfguard.toml; for one, ip link set VETH type bridge_slave hairpin on"

// hairpin says what came of a pod that asked itself, where that did not work, and
// what helps.
func hairpin(cells []Cell) (what, next string) {
	var without, with, unasked *Cell // that were not answered
	for i := range cells {
		c := &cells[i]
		switch {
		case c.Path != Hairpin || c.Outcome == Answered:
		case c.Outcome == Absent:
			if c.Port != "" {
				unasked = c
			}
		case c.Port == InHairpin && with == nil:
			with = c
		case c.Port != InHairpin && without == nil:
			without = c
		}
	}
	failed := func(c *Cell) string { return fmt.Sprintf("(%s %s: %s)", c.Family, c.Protocol, c.What()) }
	switch {
	case with != nil:
		return "a pod that calls its own Service does not reach itself, although its port is in hairpin mode " + failed(with),
			"nfguard trace shows where the packets of a pod of such a Service are lost"
	case without == nil && unasked != nil:
		return "whether a pod reaches itself by its own Service could not be asked: " + unasked.Error, ""
	case without == nil:
		return "", ""
	case without.Port == NoHairpin:
		return "a pod that calls its own Service does not reach itself as long as its port is not in hairpin mode " + failed(without), hairpinNext
	}
	return "a pod that calls its own Service does not reach itself " + failed(without), hairpinNext
}

// judge is [Judge] for a world with those settings. Where FORWARD drops what pods
// send each other, their silence is its doing, and counts. What the world does not
// have of this host is said with the verdict.
func (s *Settings) judge(cells []Cell) Judgement {
	j := Judge(cells)
	if j.Verdict == Unknown {
		for i := range cells {
			c := &cells[i]
			if by := s.Dropped.of(c.Family); by != "" && c.Path == Bridged && c.silent() {
				j.Verdict = Broken
				j.Meaning = fmt.Sprintf("a pod reaches neither another on its own node nor a Service with an endpoint there (%s): FORWARD drops what it sends, as on this host (%s)", c.Family, by)
				break
			}
		}
	}
	if s.Apart != "" {
		if j.Verdict == Works && s.ApartFails {
			j.Verdict = Unknown
		}
		j.Meaning += "; the world of the probe routes and filters nothing itself: " + s.Apart
	}
	return j
}
