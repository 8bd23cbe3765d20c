package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestShow(t *testing.T) {
	c, origins, msg := load(t, map[string]string{
		mainFile:                     "mode = \"observe\"\n",
		"/etc/nfguard/conf.d/x.toml": "\n[sysctl]\n\"vm.swappiness\" = 10\n\"kernel.x\" = \"\\\"a\\\\\\tü\\\"\"\n\"kernel.y\" = \"ignore\"\n[bridges]\nmatch = []\n",
	})
	diff(t, "error", "", msg)
	var b bytes.Buffer
	if err := Show(&b, c, origins); err != nil {
		t.Fatal(err)
	}
	diff(t, "output", `mode = "observe"    # /etc/nfguard/nfguard.toml:1
scope = "host"      # default
namespace = "host"  # default

[module]
name = "br_netfilter"       # default
override_blacklist = false  # default

[sysctl]
"net.bridge.bridge-nf-call-iptables" = 1   # default
"net.bridge.bridge-nf-call-ip6tables" = 1  # default
"net.bridge.bridge-nf-call-arptables" = 1  # default
"vm.swappiness" = 10                       # /etc/nfguard/conf.d/x.toml:3
"kernel.x" = "\"a\\\tü\""                  # /etc/nfguard/conf.d/x.toml:4
"kernel.y" = "ignore"                      # /etc/nfguard/conf.d/x.toml:5

[confirm]
sysctl = []  # default

[bridges]
match = []                                                                                          # /etc/nfguard/conf.d/x.toml:7
ignore = ["virbr*", "vmbr*", "lxcbr*", "lxdbr*", "incusbr*", "podman*", "cni-podman*", "nerdctl*"]  # default
flags = ["iptables", "ip6tables", "arptables"]                                                      # default
hairpin = "ignore"                                                                                  # default

[kube_proxy]
processes = ["kube-proxy", "k3s", "k3s-server", "k3s-agent", "rke2", "k0s", "kubelite"]   # default
units = ["kube-proxy.service", "k3s.service", "k3s-agent.service", "rke2-agent.service"]  # default

[persist]
enabled = true                                     # default
modules_load = "/etc/modules-load.d/nfguard.conf"  # default
sysctl = "/etc/sysctl.d/99-zz-nfguard.conf"        # default

[timing]
resync = "auto"  # default
audit = "1m"     # default

[contention]
limit = 10       # default
window = "1m"    # default
policy = "hold"  # default

[journal]
sync = true  # default

[metrics]
textfile = ""  # default
`, b.String())
}

func TestShowFileNameWithNewline(t *testing.T) {
	var b bytes.Buffer
	if err := Show(&b, Default(), Origins{"mode": {"/a\nb.toml", 3}}); err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(b.String(), "\n")
	diff(t, "first line", `mode = "enforce"    # /a\nb.toml:3`, first)
}

// A later file can replace "auto" by patterns, and patterns by "auto".
func TestAuto(t *testing.T) {
	for _, tt := range []struct {
		first, second string
		want          Bridges
		shown         string
	}{
		{`match = ["a"]`, `match = "auto"`, Bridges{Auto: true, Ignore: []string{"b"}, Flags: Default().Bridges.Flags, Hairpin: HairpinIgnore}, `match = "auto"                                  # /etc/nfguard/conf.d/x.toml:2`},
		{`match = "auto"`, `match = ["a"]`, Bridges{Match: []string{"a"}, Ignore: []string{"b"}, Flags: Default().Bridges.Flags, Hairpin: HairpinKeep}, `match = ["a"]                                   # /etc/nfguard/conf.d/x.toml:2`},
	} {
		c, origins, msg := load(t, map[string]string{
			mainFile:                     "scope = \"bridges\"\n[bridges]\nignore = [\"b\"]\nhairpin = \"" + string(tt.want.Hairpin) + "\"\n" + tt.first + "\n",
			"/etc/nfguard/conf.d/x.toml": "[bridges]\n" + tt.second + "\n",
		})
		diff(t, "error", "", msg)
		diff(t, "bridges", tt.want, c.Bridges)
		var b bytes.Buffer
		if err := Show(&b, c, origins); err != nil || !strings.Contains(b.String(), tt.shown) {
			t.Errorf("%v, shown is not %q:\n%s", err, tt.shown, b.String())
		}
	}
}

func TestShowBrokenWriter(t *testing.T) {
	want := errors.New("disk full")
	if err := Show(writer{want}, Default(), nil); !errors.Is(err, want) {
		t.Errorf("want %v, got %v", want, err)
	}
}

type writer struct{ err error }

func (w writer) Write([]byte) (int, error) { return 0, w.err }

func TestEntriesAsJSON(t *testing.T) {
	c := Default()
	c.Bridges.Match = []string{}
	entries := c.Entries(Origins{"bridges.match": {"/x.toml", 2}})
	got, err := json.Marshal([]Entry{entries[0], entries[4], entries[5], entries[9]})
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "JSON", `[{"key":"mode","value":"enforce"},`+
		`{"key":"module.override_blacklist","value":false},`+
		`{"key":"sysctl.\"net.bridge.bridge-nf-call-iptables\"","value":1},`+
		`{"key":"bridges.match","value":[],"origin":{"file":"/x.toml","line":2}}]`, string(got))
}

// parse(print(x)) == x, and no text makes Load panic.
func FuzzLoad(f *testing.F) {
	f.Add("mode = \"lock\"\ntiming.resync = \"100ms\"\n", "[sysctl]\n\"kernel.x\" = \" a\\t\\\\\\\"b\"\n\"net/ipv4/conf/a.b/c\" = -7\n")
	f.Add("bridges = { match = ['\\[*', \"é\"], ignore = [] }", "[timing]\naudit = \"1h0m0.5s\"\n")
	f.Add("\"\" = 1\n[[a.b]]\nc = 1979-05-27", "\xef\xbb\xbfa = \"\"\"\n\\\n\"\"\"")
	f.Add("bridges.match = \"auto\"\nscope = \"bridges\"\n", "[bridges]\nmatch = [\"a\"]")
	f.Add("scope = \"bridges\"\n[sysctl]\n\"net.bridge.bridge-nf-call-iptables\" = 0", "bridges.flags = [\"arptables\"]\nbridges.match = []")
	f.Add("[contention]\nlimit = 0x10\nwindow = \"1h\"", "metrics.textfile = \"/a.prom\"\nkube_proxy.units = [\"a\\\\x2d.service\"]")
	f.Fuzz(func(t *testing.T, first, second string) {
		if !utf8.ValidString(first) || !utf8.ValidString(second) {
			return // read would have refused it
		}
		c, err := loadText(first, second)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := Show(&b, c, nil); err != nil {
			t.Fatal(err)
		}
		again, err := loadText(b.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		diff(t, "config", c, again)
	})
}

// loadText is Load for files in memory, which is fast enough for a fuzz test.
func loadText(texts ...string) (Config, error) {
	l := newLoader(&source{})
	for i, text := range texts {
		l.begin(strconv.Itoa(i))
		l.document(text)
	}
	c, _, err := l.result()
	return c, err
}
