// Package config reads nfguard.toml and its drop-ins into a Config, and says where
// every value came from. It reports all problems of the files at once, each with its
// place and the next step.
//
// It only reads the files: whether a sysctl exists, a bridge matches or a mode works
// on this kernel is for its callers to find out.
package config

import (
	"time"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// Config is the whole configuration. Load and Default return a valid one. It is plain
// data and safe to copy, but copies share their lists.
type Config struct {
	Mode       Mode
	Scope      Scope
	Namespace  Namespace
	Module     Module
	Sysctl     []Sysctl // the three keys of br_netfilter first, then others in the order of the files
	Confirm    Confirm
	Bridges    Bridges
	KubeProxy  KubeProxy
	Persist    Persist
	Timing     Timing
	Contention Contention
	Journal    Journal
	Metrics    Metrics
}

// Mode says what is done about drift.
type Mode string

// The modes.
const (
	ModeEnforce Mode = "enforce" // put it right and record it
	ModeObserve Mode = "observe" // record it, change nothing
	ModeLock    Mode = "lock"    // have the kernel keep a foreign value from being stored
)

// Scope says where bridged packets are handed to netfilter.
type Scope string

// The scopes.
const (
	ScopeHost    Scope = "host"    // on every bridge, by the sysctls
	ScopeBridges Scope = "bridges" // on the bridges that carry pods, by their own flags
)

// Namespace says whose sysctls are meant.
type Namespace string

// The namespaces.
const (
	NamespaceHost Namespace = "host" // the host's: anywhere else, nothing is guarded
	NamespaceOwn  Namespace = "own"  // those of the network namespace that nfguard is in, files included
)

// Module is the kernel module that is kept loaded.
type Module struct {
	Name              string // letters, digits, _ and -; never empty
	OverrideBlacklist bool   // load it although modprobe.d forbids it
}

// Sysctl is one guarded key. With ScopeBridges those of the flags are 0 or ignored.
type Sysctl struct {
	Key    guard.Key
	Value  string // what the kernel should show; "" if ignored
	Ignore bool   // leave the key alone, whatever it holds
}

// Confirm lists dangerous settings that are intended.
type Confirm struct {
	Sysctl []string // keys that run programs or switch off protections
}

// Bridges selects the bridges that nfguard changes: with ScopeBridges, and in both
// scopes with HairpinKeep. The patterns are valid for path.Match; Ignore wins.
type Bridges struct {
	Match   []string // by name
	Auto    bool     // by evidence that they carry pods; Match is nil then
	Ignore  []string
	Flags   []Flag // of ScopeBridges: those that are kept; none twice
	Hairpin Hairpin
}

// Flag is a flag of a bridge, which does for that bridge what a sysctl does for all.
type Flag string

// The flags, by the program whose rules see the frames.
const (
	FlagIPTables  Flag = "iptables"
	FlagIP6Tables Flag = "ip6tables"
	FlagARPTables Flag = "arptables"
)

// Hairpin says what to do about the hairpin mode of the ports of pods.
type Hairpin string

// The values of Hairpin.
const (
	HairpinIgnore Hairpin = "ignore" // it is left to the CNI plugin, and reported
	HairpinKeep   Hairpin = "keep"   // it is kept on
)

// KubeProxy says how kube-proxy, or a program that contains it, is recognised.
type KubeProxy struct {
	Processes []string // names of programs, without directories
	Units     []string // systemd services, with their suffix
}

// Persist says what is written for the next boot. The paths are absolute,
// clean and differ.
type Persist struct {
	Enabled     bool
	ModulesLoad string // a file of modules-load.d(5)
	Sysctl      string // a file of sysctl.d(5)
}

// Timing says how often to look at the host when there is no news of a change.
type Timing struct {
	Resync time.Duration // between looks at the live values; 0 means that nfguard chooses
	Audit  time.Duration // between looks at everything, files included
}

// Contention says when repeated reversals of one key are a fight: Limit of
// them within Window.
type Contention struct {
	Limit  int
	Window time.Duration
	Policy Policy
}

// Policy says what to do in a fight over a key.
type Policy string

// The policies.
const (
	PolicyHold  Policy = "hold"  // keep correcting, at a limited rate
	PolicyYield Policy = "yield" // stop correcting, keep recording
)

// Journal says how records are kept.
type Journal struct {
	Sync bool // journald is asked to write records of drift to disk at once
}

// Metrics says where metrics are written for others to collect.
type Metrics struct {
	Textfile string // an absolute, clean path ending in .prom; "" for none
}

// Default returns the configuration that applies without any file.
// config/nfguard.toml documents it; a test makes sure that they agree. With
// ScopeBridges, Load has the sysctls of the flags ignored where no file names them.
func Default() Config {
	return Config{
		Mode:  ModeEnforce,
		Scope: ScopeHost,

		Namespace: NamespaceHost,

		Module: Module{Name: "br_netfilter"},
		Sysctl: []Sysctl{
			{Key: guard.IPTables, Value: "1"},
			{Key: guard.IP6Tables, Value: "1"},
			{Key: guard.ARPTables, Value: "1"},
		},
		Confirm: Confirm{Sysctl: []string{}},
		Bridges: Bridges{
			Match:  []string{"cni*", "cbr*", "kube-bridge", "weave", "docker0"},
			Ignore: []string{"virbr*", "vmbr*", "lxcbr*", "lxdbr*", "incusbr*", "podman*", "cni-podman*", "nerdctl*"},
			Flags:  []Flag{FlagIPTables, FlagIP6Tables, FlagARPTables},

			Hairpin: HairpinIgnore,
		},
		KubeProxy: KubeProxy{
			Processes: []string{"kube-proxy", "k3s", "k3s-server", "k3s-agent", "rke2", "k0s", "kubelite"},
			Units:     []string{"kube-proxy.service", "k3s.service", "k3s-agent.service", "rke2-agent.service"},
		},
		Persist: Persist{
			Enabled:     true,
			ModulesLoad: "/etc/modules-load.d/nfguard.conf",
			Sysctl:      "/etc/sysctl.d/99-zz-nfguard.conf",
		},
		Timing:     Timing{Audit: time.Minute},
		Contention: Contention{Limit: 10, Window: time.Minute, Policy: PolicyHold},
		Journal:    Journal{Sync: true},
	}
}
