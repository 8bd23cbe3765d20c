package cluster

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { os.Exit(guard(m)) }

// A world is a cluster with the pods and Services of the stories.
type world struct {
	*Cluster
	one, two          *Worker
	client, near, far *Pod // client and near are on worker one, far is on two
	writer            *Pod // privileged, on worker one
	dns               []*Pod
	t, modeT          testing.TB // for the whole test, and for kube-proxy's mode

	tables  map[string]map[string]map[string]string // results, by kube-proxy's mode, column and row
	figures []string                                // measurements

	ip, ip6 map[string]string // of each Service
}

// The NodePort of the Service near, and of one with externalTrafficPolicy: Local.
const nodePort, localPort = 30080, 30081

func newWorld(t *testing.T) *world {
	c := Start(t)
	buildGuard(t)
	w := &world{Cluster: c, one: c.Workers[0], two: c.Workers[1], t: t, ip: map[string]string{}, ip6: map[string]string{}}
	for _, worker := range c.Workers {
		worker.StartJournal(t)
	}
	w.dns = c.StartDNS(t)
	w.client = c.Run(t, w.one, "client", object{"app": "client"})
	w.near = c.Run(t, w.one, "near", object{"app": "near"})
	w.far = c.Run(t, w.two, "far", object{"app": "far"})
	w.writer = c.Run(t, w.one, "writer", object{"app": "writer"}, privileged, func(spec object) {
		spec["volumes"] = []object{{"name": "proc", "hostPath": object{"path": "/proc"}}}
		spec["containers"].([]object)[0]["volumeMounts"] = []object{{"name": "proc", "mountPath": "/host/proc"}}
		spec["hostNetwork"] = true
	})
	for i, name := range []string{"near", "far", "client"} {
		w.ip[name], w.ip6[name] = fmt.Sprint("10.32.0.10", i+1), fmt.Sprint("fd00:32::10", i+1)
		spec := serviceSpec("default", name, []string{w.ip[name], w.ip6[name]}, name, object{"name": "http", "port": 80, "targetPort": 8080})
		spec["spec"].(object)["ipFamilyPolicy"] = "RequireDualStack"
		if name == "near" {
			spec["spec"].(object)["type"] = "NodePort"
			spec["spec"].(object)["ports"] = []object{{"name": "http", "port": 80, "targetPort": 8080, "nodePort": nodePort}}
		}
		c.Create(t, "/api/v1/namespaces/default/services", spec)
	}
	local := serviceSpec("default", "local", []string{"10.32.0.110"}, "near", object{"name": "http", "port": 80, "targetPort": 8080, "nodePort": localPort})
	local["spec"].(object)["type"], local["spec"].(object)["externalTrafficPolicy"] = "NodePort", "Local"
	c.Create(t, "/api/v1/namespaces/default/services", local)
	return w
}

// The rows of the table.
const (
	podSame      = "pod IP, same worker"
	podOther     = "pod IP, other worker"
	serviceSame  = "cluster IP, endpoint on the same worker"
	serviceOther = "cluster IP, endpoint on another worker"
	port         = "NodePort, endpoint on the same worker"  // its client is masqueraded
	portLocal    = "NodePort, externalTrafficPolicy: Local" // its client is not
	serviceSame6 = "IPv6 cluster IP, endpoint on the same worker"
	itself       = "cluster IP, the endpoint is the client itself"
	names        = "CoreDNS, a replica on each worker"
)

// rows are in the order of the table.
var rows = []string{podOther, podSame, serviceOther, serviceSame, serviceSame6, port, portLocal, itself, names}

// ask has the client send requests to each of them, and returns the results.
func (w *world) ask(t *testing.T, rows ...string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, row := range rows {
		var a answer
		var err error
		tcp := func(address string) (answer, error) {
			return w.one.tell(t.Context(), w.client.V4.String(), "ask", "address", address)
		}
		switch row {
		case podSame:
			a, err = tcp(w.near.V4.String() + ":8080")
		case podOther:
			a, err = tcp(w.far.V4.String() + ":8080")
		case serviceSame:
			a, err = tcp(w.ip["near"] + ":80")
		case serviceSame6:
			a, err = tcp("[" + w.ip6["near"] + "]:80")
		case serviceOther:
			a, err = tcp(w.ip["far"] + ":80")
		case port:
			a, err = tcp(fmt.Sprint(w.one.V4, ":", nodePort))
		case portLocal:
			a, err = tcp(fmt.Sprint(w.one.V4, ":", localPort))
		case itself:
			a, err = tcp(w.ip["client"] + ":80")
		case names: // so many that both replicas certainly get some
			a, err = w.one.tell(t.Context(), w.client.V4.String(), "dns", "address", dnsIP+":53", "name", "near.default.svc.cluster.local.", "n", "20")
			if a.Answered > 0 && a.Answered < 20 {
				a.Answered, got[row] = 0, "some of 20: " // the replica is chosen at random
			}
			if a.Answered == 20 && a.By[w.ip["near"]] != 20 {
				t.Errorf("CoreDNS says %v", a.By)
			}
		}
		if err != nil {
			t.Errorf("%s: %v", row, err)
			continue
		}
		if got[row] != "" {
			for how := range a.Failed {
				got[row] += how
			}
			continue
		}
		got[row] = a.String()
	}
	return got
}

func (w *world) want(t *testing.T, want map[string]string) (got map[string]string) {
	t.Helper()
	got = w.ask(t, slices.Collect(maps.Keys(want))...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	return got
}

// broken is the table if the keys are 0.
func (w *world) broken() map[string]string {
	return map[string]string{
		podSame: "3 of 3", podOther: "3 of 3", serviceOther: "3 of 3",
		serviceSame: "0 of 3: timeout", serviceSame6: "0 of 3: timeout", port: "3 of 3", portLocal: "0 of 3: timeout",
		names: fmt.Sprintf("some of 20: reply from unexpected source: %s#53, expected %s#53", w.dns[0].V4, dnsIP),
	}
}

// works is the table with nfguard.
func works() map[string]string {
	return map[string]string{podSame: "3 of 3", podOther: "3 of 3", serviceOther: "3 of 3", serviceSame: "3 of 3", serviceSame6: "3 of 3", port: "3 of 3", portLocal: "3 of 3", names: "20 of 20"}
}

// modeWords are check's words for kube-proxy's modes.
var modeWords = map[string]string{"iptables": "iptables mode (nf_tables)", legacy: "iptables mode (legacy)", "nftables": "nftables mode"}

type story struct {
	name string
	tell func(*testing.T, *world, string)
}

// TestCluster tests nfguard with each of kube-proxy's modes, in the same cluster. With
// -doc it writes down the results.
func TestCluster(t *testing.T) {
	began := time.Now()
	w := newWorld(t)
	w.figures = append(w.figures, fmt.Sprintf("The cluster, its DNS and the pods were up after %v.", time.Since(began).Round(time.Second)))
	all := []story{
		{"table", table},
		{"scope bridges", scopeBridges},
		{"hairpin", hairpin},
		{"restarts", restarts},
		{"foreign writes", writes},
		{"lock", lock},
		{"saboteur", saboteur},
		{"commands", commands},
		{"kube-proxy in a pod", inPod},
		{"kube-proxy changes its mode", otherMode},
		{"a hundred pods", many},
	}
	// No other mode removes the rules of the legacy backend, so it is the last.
	for _, mode := range []struct {
		name    string
		stories []story
	}{{"iptables", all}, {"nftables", all}, {legacy, []story{{"table", table}, {"scope bridges", scopeBridges}, {"hairpin", hairpin}, {"commands", commands}}}} {
		t.Run(mode.name, func(t *testing.T) {
			w.modeT = t
			for _, worker := range w.Workers {
				worker.StartProxy(t, mode.name, w.ip["near"], w.ip["far"], w.near.V4.String(), w.far.V4.String(), w.client.V4.String(),
					w.near.V6.String(), w.far.V6.String(), w.dns[0].V4.String(), w.dns[1].V4.String())
			}
			for _, s := range mode.stories {
				t.Run(s.name, func(t *testing.T) { s.tell(t, w, mode.name) })
				w.one.reset()
			}
		})
	}
	w.figures = append(w.figures, fmt.Sprintf("All processes of the cluster had %d MiB of memory (PSS) at the end.", memory(t)))
	w.document(t)
}

// with returns the table with one more row.
func with(table map[string]string, row, how string) map[string]string {
	table[row] = how
	return table
}

// table: what fails with the keys at 0, and works as soon as nfguard runs; a
// pod that is the endpoint itself is the exception, see hairpin.
func table(t *testing.T, w *world, mode string) {
	w.seen(mode, "keys at 0", w.want(t, with(w.broken(), itself, "3 of 3")))
	w.one.Guard(t, "")
	w.seen(mode, "nfguard", w.want(t, with(works(), itself, "0 of 3: timeout")))
	if got := w.one.keys(); got != "1 1 1" {
		t.Errorf("the keys are %s", got)
	}
	out, code := w.one.Ask("check")
	if code != 0 || !strings.Contains(out, modeWords[mode]) {
		t.Errorf("check exits %d and lacks %q:\n%s", code, modeWords[mode], out)
	}
}

// scopeBridges: the same with the flags of the bridge, while the keys stay 0.
func scopeBridges(t *testing.T, w *world, mode string) {
	w.one.Guard(t, "scope = \"bridges\"\n")
	w.seen(mode, "nfguard, scope bridges", w.want(t, with(works(), itself, "0 of 3: timeout")))
	if got := w.one.keys(); got != "0 0 0" {
		t.Errorf("the keys are %s", got)
	}
}
