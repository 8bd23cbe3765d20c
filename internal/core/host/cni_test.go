package host

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"
)

// TestAllocator: who could give an address on a bridge to a pod meanwhile.
func TestAllocator(t *testing.T) {
	k3s := CNIDirs()[1]
	for _, tt := range []struct{ name, bridge, dir, config, want, err string }{
		{name: "nobody is known", bridge: "cnio0"},
		{
			name: "host-local", bridge: "cnio0", config: `{"name": "p", "plugins": [{"type": "bridge", "bridge": "cnio0", "ipam": {"type": "host-local"}}, {"type": "portmap"}]}`,
			want: "host-local, by /etc/cni/net.d/10.conflist",
		},
		{
			name: "whereabouts, not in a list", bridge: "cnio0", config: `{"type": "bridge", "bridge": "cnio0", "ipam": {"type": "whereabouts"}}`,
			want: "whereabouts, by /etc/cni/net.d/10.conflist",
		},
		{
			name: "the plugin's own name for its bridge", bridge: "cni0", config: `{"type": "bridge", "ipam": {"type": "calico-ipam"}}`,
			want: "calico-ipam, by /etc/cni/net.d/10.conflist",
		},
		{
			name: "flannel", bridge: "cni0", config: `{"plugins": [{"type": "flannel", "delegate": {"hairpinMode": true}}]}`,
			want: "host-local of flannel, by /etc/cni/net.d/10.conflist",
		},
		{
			name: "flannel, another bridge", bridge: "kube0", config: `{"plugins": [{"type": "flannel", "delegate": {"bridge": "kube0"}}]}`,
			want: "host-local of flannel, by /etc/cni/net.d/10.conflist",
		},
		{
			name: "flannel of k3s", dir: k3s, bridge: "cni0", config: `{"plugins": [{"type": "flannel", "delegate": {"hairpinMode": true}}]}`,
			want: "host-local of flannel, by /var/lib/rancher/k3s/agent/etc/cni/net.d/10.conflist",
		},
		{name: "flannel without a bridge", bridge: "cni0", config: `{"plugins": [{"type": "flannel", "delegate": {"type": "ipvlan", "master": "eth0"}}]}`},
		{name: "static addresses", bridge: "cnio0", config: `{"type": "bridge", "bridge": "cnio0", "ipam": {"type": "static"}}`},
		{name: "of another bridge", bridge: "cnio1", config: `{"type": "bridge", "bridge": "cnio0", "ipam": {"type": "host-local"}}`},
		{name: "not to be understood", bridge: "cnio0", config: `{`, err: "read /etc/cni/net.d/10.conflist: unexpected end of JSON input"},
		{
			name: "not to be understood, of k3s", dir: k3s, bridge: "docker0", config: `[]`, want: "Docker",
			err: "read /var/lib/rancher/k3s/agent/etc/cni/net.d/10.conflist: json: cannot unmarshal array into Go value of type host.cniConfig",
		},
		{name: "Docker's own", bridge: "docker0", want: "Docker"},
		{name: "Docker's, of a network", bridge: "br-0123456789ab", want: "Docker"},
		{name: "somebody's", bridge: "br-lan"},
		{name: "somebody's, as long as Docker's", bridge: "br-kubernetes12"},
		{name: "Podman's", bridge: "podman1", want: "Podman"},
		{name: "Weave Net's", bridge: "weave", want: "Weave Net"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if tt.config != "" {
				dir := filepath.Join(root, cmp.Or(tt.dir, CNIDirs()[0]))
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "10.conflist"), []byte(tt.config), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := NewAt(root, Options{}).Allocator(t.Context(), tt.bridge)
			if got != tt.want || tt.err == "" != (err == nil) || err != nil && err.Error() != tt.err {
				t.Errorf("%q, error %v; want %q, error %q", got, err, tt.want, tt.err)
			}
		})
	}
}

// Networks that nerdctl configures are not for pods.
func TestNetworks(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, CNIDirs()[0])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"10-k8s.conflist":          `{"name": "k8s", "plugins": [{"type": "bridge", "bridge": "cnio0"}]}`,
		"nerdctl-bridge.conflist":  `{"name": "bridge", "nerdctlID": "17f29b073143", "plugins": [{"type": "bridge", "bridge": "nerdctl0"}]}`,
		"nerdctl-tenants.conflist": `{"name": "tenants", "nerdctlID": "0123456789ab", "plugins": [{"type": "bridge", "bridge": "br-0123456789ab"}]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := NewAt(root, Options{}).cni(t.Context())
	if len(c.Networks) != 1 || c.Networks[0].Bridge != "cnio0" || c.Err != nil {
		t.Errorf("networks: %+v", c)
	}
}
