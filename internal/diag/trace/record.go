package trace

import (
	"net/netip"
	"time"

	"github.com/nfguard/nfguard/internal/printable"
)

// Record is what was collected of a connection: what [New] makes a path of.
type Record struct {
	Query       Query
	Host        string
	Kernel      string // its release
	Started     time.Time
	Lasted      time.Duration
	Events      []Event // in the order of their arrival
	Connections []Connection
	Devices     []Device
	Handing     Handing
	Drops       []KernelDrop // that the kernel told of, also of other connections
	Facts       *Facts       // nil: not looked at
	Sent        *Sent        // nil: the trace sent nothing itself
	Notes       []string     // what could not be found out, a sentence each
}

// Device is a network device that packets came from or went to.
type Device struct {
	Index  int    `json:"index"`
	Name   string `json:"name"`
	Kind   string `json:"kind,omitempty"` // the kernel's word for its driver: "veth", "bridge"
	MAC    string `json:"mac,omitempty"`
	Bridge string `json:"bridge,omitempty"` // the one that it is a port of

	// The other end, as the packets that came in by it tell: the pod's.
	PeerMAC     string     `json:"peer_mac,omitempty"`
	PeerAddress netip.Addr `json:"peer_address,omitzero"`

	// Who is behind it where its other end is in another network namespace,
	// as far as that could be found out.
	Namespace string `json:"namespace,omitempty"` // the name in /run/netns, or the inode
	Pod       string `json:"pod,omitempty"`       // uid
	PodName   string `json:"pod_name,omitempty"`  // "namespace/name", as the node's logs have it
	Process   string `json:"process,omitempty"`   // the first there: "nginx[812]"
}

// Handing is whether the bridges hand packets of the family to netfilter.
type Handing struct {
	Key     string          `json:"key"`     // "net.bridge.bridge-nf-call-iptables"
	Value   string          `json:"value"`   // "0" or "1"; "" where there is no such key: no br_netfilter
	Flag    string          `json:"flag"`    // of a bridge: "nf_call_iptables"
	Bridges map[string]bool `json:"bridges"` // whether the flag of each is set
}

// on reports whether packets that cross the bridge are handed over.
func (h *Handing) on(bridge string) bool {
	return h.Value != "" && (h.Value != "0" || h.Bridges[bridge])
}

// clean makes safe to show what others have named: a process chooses its own
// name, and that can be a sequence that a terminal obeys.
func (r *Record) clean() {
	var names []*string
	for i := range r.Devices {
		d := &r.Devices[i]
		names = append(names, &d.Name, &d.Bridge, &d.Namespace, &d.PodName, &d.Process)
	}
	for i := range r.Events {
		e := &r.Events[i]
		names = append(names, &e.Table, &e.Chain, &e.Verdict)
		if e.Rule != nil {
			names = append(names, &e.Rule.Comment, &e.Rule.Action)
		}
	}
	for i := range r.Drops {
		d := &r.Drops[i]
		names = append(names, &d.Function, &d.Device, &d.Place.Namespace, &d.Place.PodName, &d.Place.Process)
	}
	if r.Sent != nil {
		names = append(names, &r.Sent.Error, &r.Sent.From.Namespace, &r.Sent.From.PodName, &r.Sent.From.Process)
	}
	if r.Facts != nil {
		for i := range r.Facts.Counters {
			p := &r.Facts.Counters[i].Place
			names = append(names, &p.Namespace, &p.PodName, &p.Process)
		}
	}
	for i := range r.Notes {
		r.Notes[i] = printable.Text(r.Notes[i])
	}
	bridges := make(map[string]bool, len(r.Handing.Bridges))
	for name, on := range r.Handing.Bridges { // they are looked for by the devices' names
		bridges[printable.Name(name)] = on
	}
	r.Handing.Bridges = bridges
	for _, s := range names {
		*s = printable.Name(*s)
	}
}
