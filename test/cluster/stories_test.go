package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// hairpin: with bridged packets handed to netfilter, a pod reaches its own
// Service only if its port is in hairpin mode. The classic configuration does
// not have it: check says so before and after, and hairpin = "keep" has it on.
func hairpin(t *testing.T, w *world, mode string) {
	says := func(exit int, words string, args ...string) {
		t.Helper()
		out, code := w.one.Ask(args...)
		if code != exit || !strings.Contains(out, words) {
			t.Errorf("nfguard %s exits %d, want %d and %q:\n%s", strings.Join(args, " "), code, exit, words, out)
		}
	}
	w.want(t, map[string]string{itself: "3 of 3"})
	says(1, "a pod on cnio0 will not reach its own Service any more when it is chosen as the endpoint", "check")
	guard := w.one.Guard(t, "")
	w.want(t, map[string]string{itself: "0 of 3: timeout"})
	says(0, "a pod on cnio0 does not reach its own Service when it is chosen as the endpoint: ", "check")
	guard.Stop()
	w.one.Guard(t, "[bridges]\nhairpin = \"keep\"\n")
	w.seen(mode, "nfguard, hairpin = \"keep\"", w.want(t, with(works(), itself, "3 of 3")))
	pod := w.Run(t, w.one, "made-with-hairpin", object{"app": "after"}) // the plugin sets its port to off
	await(t, "hairpin mode of a pod that comes", func() string {
		return w.one.Run("sh", "-c", "cd /sys/class/net/cnio0/brif && grep -L 1 */hairpin_mode || true")
	})
	w.Delete(t, "/api/v1/namespaces/default/pods/"+pod.Name)
}

func isDrift(r map[string]string) bool { return r["NFGUARD_EVENT"] == "drift" }

// restarts: kubelet, containerd and kube-proxy are restarted, and everything keeps
// working; the record of kube-proxy's start says that the node was ready.
func restarts(t *testing.T, w *world, mode string) {
	began := time.Now()
	w.one.Guard(t, "")
	w.one.recorded(t, began, "the keys", isDrift) // they were 0
	w.one.Containerd.Stop()
	w.one.startContainerd(w.t)
	w.one.Kubelet.Stop()
	w.one.startKubelet(w.t)
	again := time.Now()
	w.one.Proxy.Stop()
	w.one.StartProxy(w.modeT, mode)
	// A new pod starts, so all of them work.
	pod := w.Run(t, w.one, "made-after-restart", object{"app": "after"})
	w.want(t, works())
	w.Delete(t, "/api/v1/namespaces/default/pods/"+pod.Name)
	who := fmt.Sprintf("kube-proxy[%d] started", w.one.Proxy.PID())
	r := w.one.recorded(t, again, "kube-proxy's start", func(r map[string]string) bool {
		return r["NFGUARD_EVENT"] == "kube_proxy" && strings.Contains(r["MESSAGE"], who)
	})
	if !strings.Contains(r["MESSAGE"], "the node was ready") {
		t.Errorf("recorded: %s", r["MESSAGE"])
	}
	if list := w.one.records(again, isDrift); len(list) > 0 {
		t.Errorf("a restart is recorded as drift: %v", list)
	}
}

// ways are the paths by which the writer, a privileged pod in its node's network
// namespace, reaches a key.
var ways = map[string]string{
	"the container's own proc": "/proc/sys/net/bridge/bridge-nf-call-iptables",
	"the proc of a hostPath":   "/host/proc/sys/net/bridge/bridge-nf-call-iptables",
	"the root of its parent":   "/host/proc/self/root/proc/sys/net/bridge/bridge-nf-call-iptables",
}

// write has the privileged pod write.
func (w *world) write(t *testing.T, path, value string) answer {
	t.Helper()
	a, err := w.one.tell(t.Context(), w.one.V4.String(), "write", "path", path, "value", value)
	if err != nil {
		t.Error(err)
	}
	return a
}

// writes: when a privileged pod sets a key to 0, it becomes 1 again, and the record names
// the pod.
func writes(t *testing.T, w *world, _ string) {
	w.one.Guard(t, "")
	for name, path := range ways {
		began := time.Now()
		if a := w.write(t, path, "0"); a.Answered != 1 {
			t.Errorf("%s: %v", name, a)
		}
		r := w.one.recorded(t, began, name, func(r map[string]string) bool {
			return isDrift(r) && r["NFGUARD_SUBJECT"] == "net.bridge.bridge-nf-call-iptables" && r["OBJECT_COMM"] == "pod"
		})
		if r["NFGUARD_POD_UID"] != w.writer.uid {
			t.Errorf("%s: the pod is %q, want %q: %v", name, r["NFGUARD_POD_UID"], w.writer.uid, r)
		}
		if got := r["NFGUARD_POD_NAMESPACE"] + "/" + r["NFGUARD_POD_NAME"] + "/" + r["NFGUARD_CONTAINER_NAME"]; got != "default/writer/main" {
			t.Errorf("%s: the names are %s", name, got)
		}
		if got := w.one.keys(); got != "1 1 1" {
			t.Errorf("%s: the keys are %s", name, got)
		}
	}
	out, code := w.one.Ask("events", "--event", "drift")
	if code != 0 || !strings.Contains(out, "pod[") {
		t.Errorf("events exits %d: %s", code, out)
	}
}

// lock: the writer is refused.
func lock(t *testing.T, w *world, _ string) {
	w.one.Guard(t, "mode = \"lock\"\n")
	for name, path := range ways {
		began := time.Now()
		if a := w.write(t, path, "0"); a.Answered != 0 || !strings.Contains(fmt.Sprint(a.Failed), "operation not permitted") {
			t.Errorf("%s: %v", name, a)
		}
		w.one.recorded(t, began, name, func(r map[string]string) bool {
			return r["NFGUARD_EVENT"] == "denied" && r["OBJECT_COMM"] == "pod"
		})
		if got := w.one.keys(); got != "1 1 1" {
			t.Errorf("%s: the keys are %s", name, got)
		}
	}
	w.want(t, works())
}

// saboteur: while a pod sets a key to 0 ten times a second, no request fails: the value
// is not stored. The same requests are made before without the pod, so that failures can
// only be its doing.
func saboteur(t *testing.T, w *world, proxy string) {
	for _, mode := range []string{"enforce", "lock"} {
		guard := w.one.Guard(t, fmt.Sprintf("mode = %q\n", mode))
		ask := func(when string) {
			t.Helper()
			a, err := w.one.tell(t.Context(), w.client.V4.String(), "ask", "address", w.ip["near"]+":80", "for", "10000")
			if err != nil || len(a.Failed) > 0 || a.Answered < 20 {
				t.Errorf("mode %s, requests %s: %v, %v", mode, when, a, err)
			}
			w.figures = append(w.figures, fmt.Sprintf("Mode %s, kube-proxy in mode %s: %d requests answered and %d failed %s.", mode, proxy, a.Answered, len(a.Failed), when))
		}
		ask("without a saboteur")
		ctx, stop := context.WithCancel(t.Context())
		written := make(chan answer, 1)
		go func() {
			a, _ := w.one.tell(ctx, w.one.V4.String(), "write", "path", ways["the container's own proc"], "value", "0", "n", "90", "ms", "100")
			written <- a
		}()
		ask("while a pod wrote 0 ten times a second")
		a := <-written
		stop()
		want := map[string]string{"enforce": "90 of 90", "lock": "0 of 90: write " + ways["the container's own proc"] + ": operation not permitted"}[mode]
		if a.String() != want {
			t.Errorf("mode %s: the saboteur's writes: %v, want %s", mode, a, want)
		}
		if got := w.one.keys(); got != "1 1 1" {
			t.Errorf("mode %s: the keys are %s", mode, got)
		}
		guard.Stop()
	}
}

// commands: the commands that a person runs on the node, broken and right.
func commands(t *testing.T, w *world, mode string) {
	says := func(want int, words string, args ...string) {
		t.Helper()
		out, code := w.one.Ask(args...)
		if code != want || !strings.Contains(out, words) {
			t.Errorf("nfguard %s exits %d, want %d and %q:\n%s", strings.Join(args, " "), code, want, words, out)
		}
	}
	bridge := []string{"probe", "--bridge", "cnio0", "--yes"}
	dns := []string{"probe", "dns", "--bridge", "cnio0", "--external=", "--yes"}
	trace := func(want string) {
		t.Helper()
		follow := w.one.nfguard("trace", w.client.V4.String(), w.ip["near"]+":80", "--for", "5s")
		out := make(chan string)
		go func() {
			text, _ := follow.CombinedOutput() // its output is checked below
			out <- string(text)
		}()
		for {
			select {
			case text := <-out:
				if !strings.Contains(text, want) {
					t.Errorf("trace lacks %q:\n%s", want, text)
				}
				return
			default:
				_, _ = w.one.tell(t.Context(), w.client.V4.String(), "ask", "address", w.ip["near"]+":80", "n", "1", "ms", "500")
			}
		}
	}

	says(1, "drift", "check")
	says(2, "", "status") // no daemon
	says(1, "", bridge...)
	says(1, "replies bypass netfilter on the bridge", dns...)
	trace("the reply was never translated back")

	w.one.Guard(t, "")
	says(0, modeWords[mode], "check")
	says(0, "healthy", "status")
	says(0, "", "probe")
	says(0, "itself, no hairpin mode", bridge...)
	says(0, "answers, from its own address", dns...)
	trace("the reply reached the client as from " + w.ip["near"] + ":80")
	says(0, "BY CULPRIT", "events")
}

// many: a hundred pods are created and deleted, and nfguard has next to nothing to do.
func many(t *testing.T, w *world, mode string) {
	guard := w.one.Guard(t, "")
	began, before := time.Now(), cpu(t, guard.PID())
	const n = 100
	name := func(i int) string { return fmt.Sprintf("/api/v1/namespaces/default/pods/many-%d", i) }
	for i := range n {
		w.Create(t, "/api/v1/namespaces/default/pods", podSpec(fmt.Sprint("many-", i), w.one.Name, object{"app": "many"}, func(spec object) {
			spec["containers"].([]object)[0]["args"] = []string{"pause"}
		}))
	}
	await(t, "a hundred pods", func() string {
		list, _ := at(w.Get("/api/v1/namespaces/default/pods?labelSelector=app%3Dmany"), "items").([]any)
		running := 0
		for _, p := range list {
			if at(p, "status.phase") == "Running" {
				running++
			}
		}
		if running < n {
			return fmt.Sprintf("%d run", running)
		}
		return ""
	})
	w.want(t, works())
	for i := range n {
		w.Delete(t, name(i))
	}
	await(t, "the end of a hundred pods", func() string {
		list, _ := at(w.Get("/api/v1/namespaces/default/pods?labelSelector=app%3Dmany"), "items").([]any)
		ports := strings.Fields(w.one.Run("sh", "-c", "ls /sys/class/net/cnio0/brif"))
		if len(list) > 0 || len(ports) > 10 {
			return fmt.Sprintf("%d pods, %d ports", len(list), len(ports))
		}
		return ""
	})
	w.want(t, works())
	spent, took := cpu(t, guard.PID())-before, time.Since(began)
	list := w.one.records(began, func(r map[string]string) bool { return !isDrift(r) || r["NFGUARD_HAVE"] == "0" })
	w.figures = append(w.figures, fmt.Sprintf("100 pods made and deleted in %v, kube-proxy in mode %s: nfguard took %v of a processor and wrote %d records.", took.Round(time.Second), mode, spent, len(list)))
	t.Logf("100 pods made and deleted in %v: nfguard took %v of a processor and wrote %d records", took.Round(time.Second), spent, len(list))
	if spent > took/20 {
		t.Errorf("nfguard took %v of a processor in %v", spent, took)
	}
	if drift := w.one.records(began.Add(2*time.Second), isDrift); len(drift) > 0 {
		t.Errorf("pods that come and go are recorded as drift: %v", drift[0]["MESSAGE"])
	}
}

// cpu is the processor time of a process.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var user, system time.Duration
	fmt.Sscan(f[11], &user)
	fmt.Sscan(f[12], &system)
	return (user + system) * 10 * time.Millisecond // USER_HZ is 100
}

// inPod: kube-proxy as in clusters made by kubeadm, in a privileged pod in the node's
// network namespace.
func inPod(t *testing.T, w *world, mode string) {
	w.one.Guard(t, "")
	w.one.Proxy.Stop()
	defer w.one.StartProxy(w.modeT, mode)
	began := time.Now()
	config := w.one.proxyConfig(mode, w.one.kubeconfig)
	pod := w.Run(t, w.one, "kube-proxy", object{"app": "kube-proxy"}, privileged, func(spec object) {
		container := spec["containers"].([]object)[0]
		container["command"] = []string{filepath.Join(bin, "kube-proxy"), "--config", config}
		delete(container, "args")
		container["env"] = []object{{"name": "PATH", "value": w.one.proxyPath(mode)}}
		var volumes, mounts []object
		for i, path := range slices.Compact([]string{"/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/run", bin, w.one.dir}) {
			name := fmt.Sprint("v", i)
			volumes = append(volumes, object{"name": name, "hostPath": object{"path": path}})
			mounts = append(mounts, object{"name": name, "mountPath": path})
		}
		spec["volumes"], container["volumeMounts"], spec["hostNetwork"] = volumes, mounts, true
	})
	r := w.one.recorded(t, began, "kube-proxy's start", func(r map[string]string) bool {
		return r["NFGUARD_EVENT"] == "kube_proxy" && strings.HasPrefix(r["MESSAGE"], "kube-proxy[") && strings.Contains(r["MESSAGE"], "] started")
	})
	if !strings.Contains(r["MESSAGE"], "the node was ready") || r["NFGUARD_POD_UID"] != pod.uid {
		t.Errorf("the pod is %s; recorded: %v", pod.uid, r)
	}
	var v struct {
		KubeProxy struct {
			State string `json:"state"`
		} `json:"kube_proxy"`
	}
	out, _ := w.one.Ask("check", "-o", "json")
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.KubeProxy.State != "programmed" {
		t.Errorf("check says %q, %v:\n%s", v.KubeProxy.State, err, out)
	}
	w.want(t, works())
	pid := r["OBJECT_PID"]
	w.Delete(t, "/api/v1/namespaces/default/pods/kube-proxy")
	r = w.one.recorded(t, began, "kube-proxy's end", func(r map[string]string) bool {
		return r["NFGUARD_EVENT"] == "kube_proxy" && strings.HasPrefix(r["MESSAGE"], "kube-proxy["+pid+"] ended")
	})
	if r["NFGUARD_POD_UID"] != pod.uid || r["OBJECT_PID"] != pid {
		t.Errorf("the pod is %s; its end is recorded: %v", pod.uid, r)
	}
}

// otherMode: kube-proxy changes its mode. The records are about its end, its start and its
// new rules, and the last one of these is about both families.
func otherMode(t *testing.T, w *world, mode string) {
	other := map[string]string{"iptables": "nftables", "nftables": "iptables"}[mode]
	w.one.Guard(t, "")
	old := w.one.Proxy.PID()
	w.one.Proxy.Stop()
	began := time.Now()
	w.one.StartProxy(w.modeT, other, w.near.V4.String(), w.near.V6.String())
	isRules := func(r map[string]string) bool {
		return r["NFGUARD_EVENT"] == "kube_proxy" && strings.HasPrefix(r["MESSAGE"], "kube-proxy's rules ")
	}
	w.one.recorded(t, began, "the rules of the other mode", func(r map[string]string) bool {
		return isRules(r) && strings.Contains(r["MESSAGE"], ": "+modeWords[other]+", IPv4 and IPv6")
	})
	for _, r := range w.one.records(began, func(r map[string]string) bool { return r["NFGUARD_EVENT"] == "kube_proxy" }) {
		t.Log(r["MESSAGE"])
		if !isRules(r) && r["OBJECT_PID"] != fmt.Sprint(old) && r["OBJECT_PID"] != fmt.Sprint(w.one.Proxy.PID()) {
			t.Errorf("whose is this record: %v", r)
		}
	}
	w.want(t, works())
	w.one.Proxy.Stop()
	w.one.StartProxy(w.modeT, mode, w.near.V4.String(), w.near.V6.String())
}
