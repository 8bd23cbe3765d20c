package probe

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

func TestCandidates(t *testing.T) {
	for _, tt := range []struct {
		subnet string
		least  int // that many are found, by chance or not
	}{
		{"10.244.0.254/24", 100},
		{"10.0.0.3/29", 5}, // all that there are
		{"10.0.0.1/30", 1},
		{"10.0.0.1/31", 0},
		{"fd00::1/64", 256},
		{"fd00::1/120", 100},
	} {
		subnet := netip.MustParsePrefix(tt.subnet)
		list := Candidates(subnet)
		if len(list) < tt.least {
			t.Errorf("%s: %v", subnet, list)
		}
		for i, a := range list {
			if !subnet.Contains(a) || a == subnet.Addr() || a == subnet.Masked().Addr() || !subnet.Contains(a.Next()) || slices.Contains(list[:i], a) {
				t.Errorf("%s: %s", subnet, a)
			}
		}
	}
}

func TestClaims(t *testing.T) {
	addr := netip.MustParseAddr("10.200.2.7")
	const head = "ffffffffffff020000000001" + "0806" + "0001080006" + "04"
	for _, tt := range []struct{ name, frame, want string }{
		{"a reply", head + "0002" + "020000000001" + "0ac80207" + "026e66670001" + "00000000", "02:00:00:00:00:01"},
		{"an announcement", head + "0001" + "020000000001" + "0ac80207" + "000000000000" + "0ac80207", "02:00:00:00:00:01"},
		{"a probe for the same", head + "0001" + "020000000001" + "00000000" + "000000000000" + "0ac80207", "02:00:00:00:00:01"},
		{"the owner asks for another", head + "0001" + "020000000001" + "0ac80207" + "000000000000" + "0ac80201", "02:00:00:00:00:01"},
		{"a question for it", head + "0001" + "020000000001" + "0ac80201" + "000000000000" + "0ac80207", ""},
		{"a probe for another", head + "0001" + "020000000001" + "00000000" + "000000000000" + "0ac80208", ""},
		{"cut off", head + "0002" + "020000000001" + "0ac80207" + "026e66670001" + "000000", ""},
		{"not of Ethernet", "ffffffffffff020000000001" + "0806" + "0006080006" + "04" + "0002" + "020000000001" + "0ac80207" + "026e66670001" + "00000000", ""},
	} {
		b, err := hex.DecodeString(tt.frame)
		if err != nil {
			t.Fatal(err)
		}
		got := claims(b, addr)
		if got.String() != tt.want {
			t.Errorf("%s: claimed by %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := claims(arpProbe([]byte{2, 0, 0, 0, 0, 1}, addr), addr); got.String() != "02:00:00:00:00:01" {
		t.Errorf("our own probe is read as %q", got)
	}
}

// TestAttachSecondChoice: an address that is in use is let go before the next is
// tried, and one that no pod can have is refused.
func TestAttachSecondChoice(t *testing.T) {
	ns, pod := lab.NewNamespace(t), lab.NewNamespace(t)
	ns.Run(t, "sh", "-ec", `ip link add cni0 type bridge
		ip addr add 10.1.0.1/24 dev cni0
		ip addr add fd00:1::1/64 dev cni0 nodad
		ip link set cni0 up
		ip link add veth0 master cni0 type veth peer name eth0 netns `+pod.Path()+`
		ip link set veth0 up`)
	pod.Run(t, "sh", "-ec", `ip addr add 10.1.0.7/24 dev eth0
		ip addr add fd00:1::7/64 dev eth0 nodad
		ip link set eth0 up`)
	awaitUp(t, ns, "veth0")
	attach := func(want ...string) (own, addrs string, err error) {
		ns.Do(func() {
			var subnets []netip.Prefix
			if subnets, err = Subnets(t.Context(), "cni0"); err != nil {
				return
			}
			var list []netip.Addr
			for _, w := range want {
				list = append(list, netip.MustParseAddr(w))
			}
			var a *Attachment
			if a, err = Attach(t.Context(), "cni0", subnets, list, nil); err != nil {
				return
			}
			own = fmt.Sprint(a.Addresses)
			var out []byte
			err = a.do(func() (err error) {
				out, err = exec.Command("ip", "-o", "addr", "show", "scope", "global").Output()
				return err
			})
			addrs = string(out)
			err = errors.Join(err, a.Close())
		})
		return own, addrs, err
	}
	own, addrs, err := attach("10.1.0.7", "10.1.0.9", "fd00:1::7", "fd00:1::9")
	if err != nil || own != "[10.1.0.9/24 fd00:1::9/64]" {
		t.Errorf("addresses %s, error %v", own, err)
	}
	for _, a := range []string{" 10.1.0.7/", " fd00:1::7/"} {
		if strings.Contains(addrs, a) {
			t.Errorf("the pod keeps what is in use:\n%s", addrs)
		}
	}
	for _, w := range []string{"10.1.0.0", "10.1.0.1", "10.1.0.255", "10.1.1.7", "fd00:1::", "::ffff:10.1.0.9"} {
		if _, _, err := attach(w); err == nil || err.Error() != w+" is not an address for a pod on cni0" {
			t.Errorf("%s: %v", w, err)
		}
	}
}

// TestAttachFirst: with our port, the first one, the bridge comes up, and the
// kernel looks for duplicates of the bridge's own address, which takes seconds.
func TestAttachFirst(t *testing.T) {
	ns := lab.NewNamespace(t)
	ns.Run(t, "sh", "-ec", `ip link add cni0 type bridge
		ip addr add fd00:1::1/64 dev cni0
		ip link set cni0 up`)
	var err error
	ns.Do(func() {
		var a *Attachment
		if a, err = Attach(t.Context(), "cni0", []netip.Prefix{netip.MustParsePrefix("fd00:1::1/64")}, nil, nil); err == nil {
			err = a.Close()
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// TestAttachUnheard: on a port that the spanning tree does not let through yet,
// nobody answers, and that says nothing of an address.
func TestAttachUnheard(t *testing.T) {
	for subnet, want := range map[string]string{
		"10.1.0.1/24": "the gateway 10.1.0.1 does not answer by ARP: whether an address is free can't be told",
		"fd00::1/64":  "the gateway fd00::1 does not answer: whether an address is free can't be told",
	} {
		t.Run(subnet, func(t *testing.T) {
			t.Parallel() // they wait
			ns := lab.NewNamespace(t)
			ns.Run(t, "ip", "link", "add", "cni0", "type", "bridge", "stp_state", "1")
			ns.Run(t, "ip", "addr", "add", subnet, "dev", "cni0")
			ns.Run(t, "ip", "link", "set", "cni0", "up")
			var err error
			ns.Do(func() {
				var subnets []netip.Prefix
				if subnets, err = Subnets(t.Context(), "cni0"); err != nil {
					return
				}
				var a *Attachment
				if a, err = Attach(t.Context(), "cni0", subnets, nil, nil); err == nil {
					_ = a.Close() // the test fails anyway
				}
			})
			if err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
			if left := ns.Run(t, "ip", "-o", "link"); strings.Contains(left, "nfprobe") {
				t.Errorf("what is left:\n%s", left)
			}
		})
	}
}
