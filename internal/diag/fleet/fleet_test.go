package fleet

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nfguard/nfguard/internal/core/guard"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	refused = "Failed to connect to the host via ssh: ssh: connect to host 127.0.0.1 port 1: Connection refused"
	drifted = "net.bridge.bridge-nf-call-iptables 0, wanted 1"
	puts    = "nfguard apply puts it right once, systemctl start nfguard keeps it right"
	kernel  = "6.18.44-amd64"
)

// workers is the report of three hosts: one right, one wrong, one silent.
var workers = Report{
	Schema: 1, Verdict: guard.Wrong, Right: 1, Wrong: 1, Unknown: 1,
	Causes: []Cause{
		{Verdict: guard.Wrong, What: drifted, Next: puts, Hosts: []string{"worker-2"}},
		{Verdict: guard.Uncertain, What: "no answer of nfguard check", Next: "see below what each of them said instead", Hosts: []string{"worker-9"}},
	},
	Hosts: []Host{
		{Name: "worker-1", Verdict: guard.Right, Mode: guard.Enforce, Kernel: kernel, Summary: "br_netfilter loaded, 3 of 3 keys as wanted"},
		{Name: "worker-2", Verdict: guard.Wrong, Mode: guard.Enforce, Kernel: kernel, Summary: "br_netfilter loaded, 2 of 3 keys as wanted"},
		{Name: "worker-9", Verdict: guard.Uncertain, Summary: refused},
	},
}

func merged(t *testing.T, path string) Report {
	t.Helper()
	hosts, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return Merge(hosts)
}

// TestAnsible reads what ansible 2.14 printed for real results.
func TestAnsible(t *testing.T) {
	for _, name := range []string{"ansible.txt", "oneline.txt", "tree"} {
		t.Run(name, func(t *testing.T) {
			got := merged(t, filepath.Join("testdata", name))
			if diff := cmp.Diff(workers, got, cmpopts.IgnoreUnexported(Host{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParse(t *testing.T) {
	right, wrong := read(t, "right.json"), read(t, "wrong.json")
	tests := []struct {
		name, text, host string
		want             []string
		err              error
	}{
		{name: "a document", text: right, want: []string{"node right"}},
		{name: "several", text: right + "\n" + wrong, want: []string{"node right", "node wrong"}},
		{name: "named by its file", text: wrong, host: "worker-7", want: []string{"worker-7 wrong"}},
		{name: "nothing", err: ErrEmpty},
		{name: "another program's", text: `{"verdict": "right"}`, err: ErrEmpty},
		{name: "of a later schema", text: strings.Replace(right, `"schema": 1`, `"schema": 2`, 1), err: ErrEmpty},
		{name: "half of a document", text: right[:len(right)/2], err: ErrEmpty},
		{name: "prose", text: "worker-1 is fine\n", err: ErrEmpty},
		{name: "cut by ansible's reader", text: "worker-1 | FAILED | rc=1 >>\n" + wrong[:200], want: []string{"worker-1 unknown"}},
		{name: "it said nothing", text: "worker-1 | FAILED | rc=137 >>\n", want: []string{"worker-1 unknown"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			hosts, err := Parse([]byte(test.text), test.host)
			if !errors.Is(err, test.err) {
				t.Fatalf("want %v, got %v", test.err, err)
			}
			var got []string
			for _, h := range hosts {
				got = append(got, h.Name+" "+string(h.Verdict))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	wrong := func(name string, causes ...string) Host {
		h := Host{Name: name, Verdict: guard.Wrong}
		for _, c := range causes {
			h.causes = append(h.causes, Cause{Verdict: guard.Wrong, What: c})
		}
		return h
	}
	right := Host{Name: "r", Verdict: guard.Right}
	tests := []struct {
		name    string
		hosts   []Host
		verdict guard.Verdict
		causes  []string
		twice   []string
	}{
		{name: "nobody", verdict: guard.Right},
		{name: "all right", hosts: []Host{right}, verdict: guard.Right},
		{name: "one is silent", hosts: []Host{right, silent("s", "")}, verdict: guard.Uncertain, causes: []string{"no answer of nfguard check: s"}},
		{name: "known to be wrong is worse", hosts: []Host{silent("s", ""), wrong("w", "a")}, verdict: guard.Wrong, causes: []string{"no answer of nfguard check: s", "a: w"}},
		{name: "what most have comes first", hosts: []Host{wrong("c", "a", "b"), wrong("b", "b"), wrong("a", "b", "b")}, verdict: guard.Wrong, causes: []string{"b: a,b,c", "a: c"}},
		{name: "put right since", hosts: []Host{wrong("r", "a"), right}, verdict: guard.Right, twice: []string{"r"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := Merge(test.hosts)
			var causes []string
			for _, c := range r.Causes {
				causes = append(causes, c.What+": "+strings.Join(c.Hosts, ","))
			}
			if r.Verdict != test.verdict {
				t.Errorf("want %s, got %s", test.verdict, r.Verdict)
			}
			if diff := cmp.Diff(test.causes, causes); diff != "" {
				t.Errorf("causes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.twice, r.Twice); diff != "" {
				t.Errorf("twice (-want +got):\n%s", diff)
			}
			if n := r.Right + r.Wrong + r.Unknown; n != len(r.Hosts) {
				t.Errorf("%d of %d hosts are counted", n, len(r.Hosts))
			}
		})
	}
}

// TestNextBoot: what will break at the next boot counts as it does for check's exit
// code.
func TestNextBoot(t *testing.T) {
	text := strings.Replace(read(t, "right.json"), "\n  \"findings\": []",
		`"findings": [{"subject": "k", "sentence": "k will be 0", "next": "remove that line", "breaks": true}, {"sentence": "a note"}]`, 1)
	hosts, err := Parse([]byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	want := []Cause{{Verdict: guard.Wrong, What: "k will be 0", Next: "remove that line", Hosts: []string{"node"}}}
	if diff := cmp.Diff(want, Merge(hosts).Causes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNeeds: keys that are right, and Services that fail all the same, count as for
// check's exit code.
func TestNeeds(t *testing.T) {
	base := []guard.Need{
		{Bridge: "cni0", Family: "IPv4", What: guard.HandedNeed, State: guard.NeedMet},
		{Bridge: "cni0", Family: "IPv4", What: guard.ForwardingNeed, State: guard.NeedMissing, Have: "off", Next: "sysctl -w"},
	}
	d := document{Host: "worker-1", Verdict: guard.Right, Summary: "3 of 3 keys as wanted", Needs: base}
	want := Host{
		Name: "worker-1", Verdict: guard.Wrong, Summary: "3 of 3 keys as wanted; Services need forwarding: off",
		causes: []Cause{{Verdict: guard.Wrong, What: "Services need forwarding: off", Next: "sysctl -w"}},
	}
	if diff := cmp.Diff(want, d.host(""), cmp.AllowUnexported(Host{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	d.Needs = append(base, guard.Need{Bridge: "cni0", Family: "IPv4", What: "proxy rules", State: guard.NeedMissing})
	if got := d.host(""); got.Verdict != guard.Right {
		t.Errorf("without a proxy there is no Service: %+v", got)
	}
}

// Input that cannot come from a host is refused before it fills the memory.
func TestTooMuch(t *testing.T) {
	right := strings.TrimSpace(read(t, "right.json"))
	null := strings.Repeat("null,", 1<<18) + "null"
	tests := []struct{ name, text, want string }{
		{"one long value", `{"items":[` + null + `]}`, "more than 1 MiB in one piece is no answer of nfguard check"},
		{"a value without an end", right + "\n\"" + strings.Repeat("a", maxAnswer+10_000), "more than 1 MiB in one piece is no answer of nfguard check"},
		{"many answers", strings.Repeat(`{"schema":1,"host":"a","verdict":"right"}`, maxAnswers+1), "it has more than 20000 answers: merge it in parts"},
		{"many answers of ansible", strings.Repeat("a | FAILED! => \n", maxAnswers+1), "it has more than 20000 answers: merge it in parts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse([]byte(tt.text), ""); err == nil || err.Error() != tt.want {
				t.Errorf("want %s, got %v", tt.want, err)
			}
		})
	}
	hosts, err := Parse([]byte("w | CHANGED | rc=0 >>\n"+null), "")
	if err != nil || len(hosts) != 1 || hosts[0].Summary != errLong.Error() {
		t.Errorf("of ansible: %v, %v", hosts, err)
	}
	many := strings.Replace(right, `"items": [`, `"items": [`+strings.Repeat(`{"verdict":"wrong"},`, 2000), 1)
	if many == right {
		t.Fatal("the document has no items")
	}
	if hosts, err := Parse([]byte(many), ""); err != nil || len(hosts[0].causes) != maxCauses {
		t.Errorf("of many items: %d causes, %v", len(hosts[0].causes), err)
	}
	if hosts, err := Parse([]byte("a | FAILED! => b | CHANGED | rc=0 >>\nc | SUCCESS => \n"), ""); err != nil || len(hosts) != 2 {
		t.Errorf("a head is no head within a line: %v, %v", hosts, err)
	}
	all := strings.Repeat(right+"\n", 1000)
	if hosts, err := Parse([]byte(all), ""); err != nil || len(hosts) != 1000 {
		t.Errorf("a fleet of 1000: %d, %v", len(hosts), err)
	}
}

// FuzzParse: every file gives hosts with names, or an error.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"ansible.txt", "oneline.txt", "right.json", "tree/worker-2"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		hosts, err := Parse(text, "")
		if err == nil && len(hosts) == 0 {
			t.Error("neither a host nor an error")
		}
		for _, h := range hosts {
			if h.Name == "" || !known(h.Verdict) {
				t.Errorf("host %+v", h)
			}
		}
	})
}
