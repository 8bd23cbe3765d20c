package guard

// Presence is what a look found out about a thing. The zero value is
// Unknown: not having looked is never an answer.
type Presence uint8

// The answers.
const (
	Unknown Presence = iota
	Absent
	Present
)

// Observation is what one look at a host found.
type Observation struct {
	Module   Module
	Values   []Value // one for each of the policy's Sysctls, in their order
	Dropins  []Dropin
	Bridges  []Bridge
	Bridging error // why Bridges could not be listed; nil when they were

	// On says for each [Family] whether the sysctl hands bridged frames over,
	// guarded or not.
	On [3]bool

	// Bare are the families whose sysctl waits to be set to 0: [Policy.Bare], until
	// the sysctl is 0 for the first time.
	Bare Flags

	// IPv6Off is true where the kernel was booted without IPv6.
	IPv6Off bool

	// TaggedPass says that br_netfilter leaves VLAN-tagged frames alone:
	// net.bridge.bridge-nf-filter-vlan-tagged is 0.
	TaggedPass bool

	Evidence      *Evidence    // nil: not looked at
	Remembered    []Remembered // the flags that nfguard has set
	RememberedErr error        // why that is not known, or not all of it

	KubeProxy *KubeProxy // nil: not looked at
	NextBoot  *NextBoot  // nil: not looked at
	Needs     *Needs     // nil: not looked at
}

// SetValues sets Values, which were looked at last, and On to agree with them.
func (o *Observation) SetValues(p *Policy, values []Value) {
	o.Values = values
	for i, s := range p.Sysctls {
		for _, f := range allFamilies {
			if s.Key == f.Key() {
				o.On[f] = values[i].State == Present && values[i].Have != "0"
			}
		}
	}
}

// Look says what of a host is looked at besides the module, the sysctls, the
// drop-ins and the bridges, which always are.
type Look uint8

// What takes longer to look at, and changes for reasons of its own.
const (
	LookKubeProxy Look = 1 << iota
	LookNextBoot
	LookNeeds
	LookAll Look = LookKubeProxy | LookNextBoot | LookNeeds
)

// NextBoot is what other files than ours do to the guarded state when the
// host boots.
type NextBoot struct {
	Findings []Finding
}

// Finding is something that is not nfguard's to change and that a person
// should know.
type Finding struct {
	Subject  string `json:"subject"`         // a sysctl key, a module, kube-proxy, a bridge
	Place    string `json:"place,omitempty"` // file:line, where there is one
	Sentence string `json:"sentence"`
	Next     string `json:"next"`
	Breaks   bool   `json:"breaks"` // it will undo what is guarded
	OfNeed   bool   `json:"-"`      // a [Need] says the same

	// Lasting is what stays the same while figures in Sentence change; "" where
	// nothing changes in it.
	Lasting string `json:"-"`

	// Ahead says that it tells what is going to be once the guarded things are as
	// wanted, and is not so yet.
	Ahead bool `json:"-"`
}

// Key is the same for findings that are one, whatever the figures in them.
func (f Finding) Key() Finding {
	if f.Lasting != "" {
		return Finding{Subject: f.Subject, Lasting: f.Lasting}
	}
	return f
}

// Module is what is known of br_netfilter. It is Present where its sysctls
// are, so also where it is built into the kernel.
type Module struct {
	State    Presence
	Err      error     // why State is Unknown
	Obstacle *Obstacle // what is known to keep it from being loaded; nil when nothing is
}

// Obstacle is a reason why something can't be put right by us, and what a
// person can do about it.
type Obstacle struct {
	Reason string
	Next   string
}

// Value is the state of one sysctl.
type Value struct {
	State Presence
	Have  string // the kernel's text without the newline; only when Present
	Err   error  // why State is Unknown

	ReadOnly bool // it lies on a file system that is mounted read-only here
}

// Dropin is the state of one file of ours.
type Dropin struct {
	Path     string
	State    Presence
	Have     string    // its content; only when Present. With Obstacle: what stands there
	Err      error     // why State is Unknown
	Obstacle *Obstacle // what keeps it from being read and written; nil when nothing does

	// Carried names the files of others that do what this one would do at the next
	// boot; "" where nobody is known to. Only when Absent.
	Carried string
}
