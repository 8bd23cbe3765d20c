package host_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/host"
	"github.com/nfguard/nfguard/test/lab"
)

// leasing is a host with that CNI configuration, in which STORE is where host-local
// keeps what it has handed out.
type leasing struct {
	t     *testing.T
	root  string
	store string
	o     host.Leasing
}

func newLeasing(t *testing.T, config string) *leasing {
	l := &leasing{t: t, root: t.TempDir(), store: t.TempDir()}
	dir := filepath.Join(l.root, host.CNIDirs()[0])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "10.conflist"), []byte(strings.ReplaceAll(config, "STORE", l.store)), 0o644); err != nil {
		t.Fatal(err)
	}
	l.o = host.Leasing{
		Bridge: "cni0", Programs: []string{"/none", "/cni"}, Records: filepath.Join(t.TempDir(), "leases"),
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd09::1/64")},
	}
	if err := os.Mkdir(filepath.Join(l.root, "cni"), 0o755); err != nil {
		t.Fatal(err)
	}
	return l
}

// real has the real host-local in its place.
func (l *leasing) real() *leasing {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(lab.CNI(l.t), "host-local"))
	if err != nil {
		l.t.Fatal(err)
	}
	l.program("host-local", string(text))
	pod := lab.NewNamespace(l.t)
	l.o.Space = pod.Path()
	return l
}

func (l *leasing) program(name, text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.root, "cni", name), []byte(text), 0o755); err != nil {
		l.t.Fatal(err)
	}
}

func (l *leasing) lease(ctx context.Context) (*host.Lease, error) {
	return host.NewAt(l.root, host.Options{}).Lease(ctx, l.o)
}

// left are the addresses that host-local says are handed out, and the records.
func (l *leasing) left() []string {
	var list []string
	stored, _ := filepath.Glob(filepath.Join(l.store, "*", "[0-9f]*"))
	records, _ := filepath.Glob(filepath.Join(l.o.Records, "*"))
	for _, path := range append(stored, records...) {
		list = append(list, filepath.Base(path))
	}
	return list
}

const dual = `{"cniVersion": "%s", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local", "dataDir": "STORE",
	"ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/64"}]]}}, {"type": "portmap"}]}`

// host-local hands out one address of each family, in every version of CNI that
// it speaks, and gets them back.
func TestLease(t *testing.T) {
	want := []netip.Addr{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd09::2")}
	for name, config := range map[string]string{
		"CNI 0.3.1":     fmt.Sprintf(dual, "0.3.1"),
		"CNI 0.4.0":     fmt.Sprintf(dual, "0.4.0"),
		"CNI 1.0.0":     fmt.Sprintf(dual, "1.0.0"),
		"not in a list": `{"cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local", "dataDir": "STORE", "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/64"}]]}}`,
		"flannel":       `{"cniVersion": "1.0.0", "name": "cbr0", "plugins": [{"type": "flannel", "delegate": {"hairpinMode": true, "ipam": {"dataDir": "STORE"}}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			l := newLeasing(t, config).real()
			lease, err := l.lease(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, lease.Addresses, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
			if got := l.left(); len(got) != 3 || !strings.HasPrefix(got[2], "nfguard-probe-") {
				t.Errorf("while it is leased there are %q", got)
			}
			if err := host.SweepLeases(t.Context(), l.o.Records); err != nil || len(l.left()) != 3 {
				t.Errorf("what is needed was swept: %q, %v", l.left(), err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // as by ^C
			if err := lease.Release(ctx); err != nil {
				t.Error(err)
			}
			if got := l.left(); len(got) > 0 {
				t.Errorf("left: %q", got)
			}
		})
	}
}

// What a process that was killed has leased is given back by the next one.
func TestLeaseOfAKilledProcess(t *testing.T) {
	if dir := os.Getenv("NFGUARD_TEST_LEASE"); dir != "" {
		f := strings.Split(dir, ",")
		_, err := host.NewAt(f[0], host.Options{}).Lease(t.Context(), host.Leasing{
			Bridge: "cni0", Subnets: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}, Space: f[2], Programs: []string{"/cni"}, Records: f[1],
		})
		fmt.Println("leased", err)
		select {}
	}
	l := newLeasing(t, fmt.Sprintf(dual, "1.0.0")).real()
	child := exec.Command(os.Args[0], "-test.run=^TestLeaseOfAKilledProcess$")
	child.Env = append(os.Environ(), "NFGUARD_TEST_LEASE="+strings.Join([]string{l.root, l.o.Records, l.o.Space}, ","))
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 64)
	n, _ := out.Read(said)
	if err := host.SweepLeases(t.Context(), l.o.Records); err != nil || len(l.left()) != 3 {
		t.Errorf("%s, swept while it runs: %q, %v", said[:n], l.left(), err)
	}
	_ = child.Process.Kill()
	_ = child.Wait() // killed
	if got := l.left(); len(got) != 3 {
		t.Errorf("after the kill there are %q: the test proves nothing", got)
	}
	if err := host.SweepLeases(t.Context(), l.o.Records); err != nil {
		t.Error(err)
	}
	if got := l.left(); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

// What no plugin gives, or a plugin should not, is no address; nothing is left,
// and what may have been leased is given back.
func TestNoLease(t *testing.T) {
	const config = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "ipam": {"type": "%s"}}]}`
	const log = "#!/bin/sh\necho $CNI_COMMAND $CNI_IFNAME $CNI_NETNS >>STORE/log; cat >>STORE/config; [ $CNI_COMMAND = ADD ] || exit 0; "
	for _, tt := range []struct {
		name, config, kind, program string
		mode                        os.FileMode
		want                        string
		commands                    string
	}{
		{name: "no configuration", config: `{"name": "p", "plugins": [{"type": "loopback"}]}`, want: "no CNI configuration names an IPAM plugin for it"},
		{name: "no program", kind: "calico-ipam", want: "its program, calico-ipam, is not in /none, /cni"},
		{name: "a path for a name", kind: "../sh", want: `"../sh" is no name of a plugin`},
		{name: "others may write to it", kind: "ipam", program: log, mode: 0o757, want: "ROOT/cni/ipam is writable by everyone, who could steer nfguard with it"},
		{name: "it fails", kind: "ipam", program: log + `echo '{"code": 11, "msg": "no addresses", "details": "in range set"}'; exit 1`, want: "ROOT/cni/ipam ADD: no addresses: in range set", commands: "ADD DEL"},
		{name: "it fails without a word", kind: "ipam", program: log + `exit 3`, want: "ROOT/cni/ipam ADD: exit status 3", commands: "ADD DEL"},
		{name: "it says it elsewhere", kind: "ipam", program: log + `echo a mess >&2; exit 3`, want: "ROOT/cni/ipam ADD: exit status 3: a mess", commands: "ADD DEL"},
		{name: "no JSON", kind: "ipam", program: log + `echo 10.9.0.7`, want: "its answer is not that of a CNI plugin", commands: "ADD DEL"},
		{name: "no address", kind: "ipam", program: log + `echo '{"ips": []}'`, want: "its answer has no address", commands: "ADD DEL"},
		{name: "half an address", kind: "ipam", program: log + `echo '{"ips": [{"address": "10.9.0.7"}]}'`, want: `its answer has "10.9.0.7" for an address`, commands: "ADD DEL"},
		{name: "of another subnet", kind: "ipam", program: log + `echo '{"ips": [{"address": "192.0.2.7/24"}]}'`, want: "its answer, 192.0.2.7, is no address for a pod there", commands: "ADD DEL"},
		{name: "the gateway", kind: "ipam", program: log + `echo '{"ips": [{"address": "10.9.0.1/24"}]}'`, want: "its answer, 10.9.0.1, is no address for a pod there", commands: "ADD DEL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.config == "" {
				tt.config = fmt.Sprintf(config, tt.kind)
			}
			l := newLeasing(t, tt.config)
			l.o.Space = "/proc/self/ns/net"
			if tt.program != "" {
				l.program(tt.kind, strings.ReplaceAll(tt.program, "STORE", l.store))
				if tt.mode != 0 {
					if err := os.Chmod(filepath.Join(l.root, "cni", tt.kind), tt.mode); err != nil {
						t.Fatal(err)
					}
				}
			}
			_, err := l.lease(t.Context())
			var refused *host.NoLease
			if !errors.As(err, &refused) || strings.ReplaceAll(err.Error(), l.root, "ROOT") != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			text, _ := os.ReadFile(filepath.Join(l.store, "log"))
			want := strings.NewReplacer("ADD", "ADD eth0 /proc/self/ns/net\n", " DEL", "DEL eth0\n").Replace(tt.commands)
			if string(text) != want {
				t.Errorf("it was run for %q, want %q", text, want)
			}
			if entries, _ := os.ReadDir(l.o.Records); len(entries) > 0 {
				t.Errorf("left: %v", entries)
			}
		})
	}
}

// CNI before 0.3.0 has other words for addresses.
func TestLeaseOfOldCNI(t *testing.T) {
	l := newLeasing(t, `{"name": "pods", "type": "bridge", "bridge": "cni0", "ipam": {"type": "ipam"}}`)
	l.program("ipam", `#!/bin/sh
echo '{"ip4": {"ip": "10.9.0.7/24"}, "ip6": {"ip": "fd09::7/64"}}'`)
	lease, err := l.lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := []netip.Addr{netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("fd09::7")}; !slices.Equal(want, lease.Addresses) {
		t.Errorf("%v", lease.Addresses)
	}
	if err := lease.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// A plugin that hangs is not waited for, and what it started ends with it. What
// could not be given back stays on record.
func TestLeaseOfAHangingPlugin(t *testing.T) {
	l := newLeasing(t, `{"name": "pods", "type": "bridge", "bridge": "cni0", "ipam": {"type": "ipam"}}`)
	l.program("ipam", "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || { echo no >&2; exit 1; }; sleep 1000 & wait")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := l.lease(ctx)
	if want := "context deadline exceeded"; err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "did not end") {
		t.Errorf("%v", err)
	}
	entries, _ := os.ReadDir(l.o.Records)
	if len(entries) != 1 {
		t.Errorf("records: %v", entries)
	}
	if err := host.SweepLeases(t.Context(), l.o.Records); err == nil || !strings.Contains(err.Error(), "give back what an earlier probe has leased") {
		t.Errorf("%v", err)
	}
	l.program("ipam", "#!/bin/sh\nexit 0")
	if err := os.WriteFile(filepath.Join(l.o.Records, "nfguard-probe-half"), []byte(`{"sch`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := host.SweepLeases(t.Context(), l.o.Records); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(l.o.Records); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}
