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

	// IPv6Off is true where the kernel was booted without IPv6.
	IPv6Off bool
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
}

// Dropin is the state of one file of ours.
type Dropin struct {
	Path  string
	State Presence
	Have  string // its content; only when Present
	Err   error  // why State is Unknown
}

// Bridge is one bridge device of the host's network namespace.
type Bridge struct {
	Name  string `json:"name"`
	Index int    `json:"-"`
	Up    bool   `json:"up"`
	Ports int    `json:"ports"`

	// The bridge's own flags. A bridged frame is handed to iptables when the
	// sysctl or the bridge's flag says so.
	CallIPTables  bool `json:"nf_call_iptables"`
	CallIP6Tables bool `json:"nf_call_ip6tables"`
	CallARPTables bool `json:"nf_call_arptables"`
}
