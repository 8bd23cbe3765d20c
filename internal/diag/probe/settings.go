package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Settings are what of a host decides about bridged packets.
type Settings struct {
	// Bridge are the sysctls below net.bridge, by their file's name; none
	// where br_netfilter is not loaded.
	Bridge map[string]string `json:"sysctls,omitempty"`

	// Loaded says whether br_netfilter is.
	Loaded bool `json:"br_netfilter"`

	// Flags are the bridge's own.
	Flags Flags `json:"flags"`

	// NoHairpin says that the ports of pods refuse to send a frame back to
	// where it came from.
	NoHairpin bool `json:"no_hairpin,omitempty"`

	// Forwarding are the keys that decide whether what comes in by the bridge is
	// routed, below net, by their file's name with "bridge" for the bridge's; one
	// that is not there is 1.
	Forwarding map[string]string `json:"forwarding,omitempty"`

	// Dropped says what drops packets that one pod of the bridge sends another when
	// they are handed to netfilter; "" where nothing does.
	Dropped Dropped `json:"dropped"`

	// Apart is what the world does not have of this host, and what it could depend
	// on there; "" where it has all.
	Apart string `json:"apart,omitempty"`

	// ApartFails says that it is known to keep pods from Services on this host.
	ApartFails bool `json:"-"`

	// NoIPv6 says why there is no IPv6; "" where there is.
	NoIPv6 string `json:"no_ipv6,omitempty"`
}

// forbids reports whether the settings say themselves that c stays silent. A
// bridge that hands packets to netfilter sends what a pod asks itself back by
// the port that it came from (br_nf_pre_routing_finish).
func (s *Settings) forbids(c *Cell) bool {
	handed := s.Bridge["bridge-nf-call-iptables"] != "0" || s.Flags.IPTables
	if c.Family == IPv6 {
		handed = s.Bridge["bridge-nf-call-ip6tables"] != "0" || s.Flags.IP6Tables
	}
	if c.Path == Routed { // what comes back comes in by another device than the bridge
		key := ForwardIPv4
		if c.Family == IPv6 {
			key = ForwardIPv6
		}
		return s.Forwarding[key] == "0"
	}
	return c.Path == Hairpin && s.NoHairpin && s.Loaded && handed
}

// Dropped is what drops packets at the hook forward, in words, in each family.
type Dropped struct {
	IPv4 string `json:"ipv4,omitempty"`
	IPv6 string `json:"ipv6,omitempty"`
}

func (d *Dropped) of(f Family) string {
	if f == IPv6 {
		return d.IPv6
	}
	return d.IPv4
}

// The keys of [Settings.Forwarding].
const (
	ForwardIPv4       = "ipv4/ip_forward"
	ForwardIPv4Bridge = "ipv4/conf/bridge/forwarding"
	ForwardIPv6       = "ipv6/conf/all/forwarding"
)

// forward sets the keys of forwarding in the calling thread's namespace, the
// host's before the bridge's, which follows it.
func (s *Settings) forward(ipv6 bool) error {
	keys := []string{ForwardIPv4, ForwardIPv4Bridge, ForwardIPv6}
	if !ipv6 {
		keys = keys[:2]
	}
	for _, key := range keys {
		value := s.Forwarding[key]
		if value == "" {
			value = "1"
		}
		if err := set("/proc/sys/net/"+key, value); err != nil {
			return err
		}
	}
	return nil
}

// Flags are the nf_call flags of a bridge.
type Flags struct {
	IPTables  bool `json:"iptables"`
	IP6Tables bool `json:"ip6tables"`
	ARPTables bool `json:"arptables"`
}

const bridgeSysctls = "/proc/sys/net/bridge"

// Read reads the sysctls of the calling process's network namespace. The
// flags are those of a bridge, which it does not know.
func Read() (Settings, error) {
	s := Settings{Bridge: make(map[string]string)}
	entries, err := os.ReadDir(bridgeSysctls)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s.Loaded = err == nil
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(bridgeSysctls, e.Name()))
		if err != nil {
			return s, err
		}
		s.Bridge[e.Name()] = strings.TrimSpace(string(text))
	}
	off, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	s.NoIPv6, err = noIPv6(string(off), err)
	return s, err
}

// noIPv6 says why there is no IPv6, by what was read of disable_ipv6; "" where there
// is.
func noIPv6(off string, err error) (string, error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "this kernel has no IPv6, or was booted without it", nil
	case err != nil:
		return "", err
	case strings.TrimSpace(off) != "0":
		return "net.ipv6.conf.all.disable_ipv6 is 1", nil
	}
	return "", nil
}

// write sets the sysctls in the network namespace of the calling thread. Before
// Linux 5.3 the first namespace's count for all, and no other has any (commit
// 22567590b2e6): there is nothing to copy then.
func (s *Settings) write() error {
	if _, err := os.Stat(bridgeSysctls); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for name, value := range s.Bridge {
		if err := set(filepath.Join(bridgeSysctls, name), value); err != nil {
			return err
		}
	}
	return nil
}

func set(path, value string) error {
	// No O_TRUNC and no O_CREAT, as for any sysctl.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(value + "\n"); err != nil {
		return fmt.Errorf("set it to %s: %w", value, err)
	}
	return nil
}
