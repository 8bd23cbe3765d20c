package cluster

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/kubeproxy/upstream"
	"github.com/nfguard/nfguard/test/lab"
)

// TestStandalone is the quick part: one node with the real kubelet, containerd and
// kube-proxy, and no API server. The kubelet runs static pods, and kube-proxy gets their
// Services from a server of the test.
func TestStandalone(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns, lab.Cluster)
	w := &Worker{Node: newNode(t, "worker", 1)}
	w.Run("sh", "-ec", "ip link add eth0 type veth peer name wire; ip link set eth0 up; ip link set wire up; ip addr add "+w.V4.String()+"/24 dev eth0; ip addr add "+w.V6.String()+"/64 dev eth0 nodad")
	buildGuard(t)
	w.StartJournal(t)
	w.containerd(t, images(t))
	w.startKubelet(t)
	w.static(t, podSpec("client", "", object{}))
	w.static(t, podSpec("near", "", object{}))
	w.static(t, podSpec("writer", "", object{}, privileged, func(spec object) { spec["hostNetwork"] = true }))
	corefile := w.file("Corefile", ".:53 {\n\ttemplate IN A cluster.local {\n\t\tanswer \"{{ .Name }} 60 IN A 10.32.0.101\"\n\t}\n}\n")
	w.static(t, podSpec("coredns", "", object{}, func(spec object) {
		spec["containers"] = []object{{
			"name": "main", "image": corednsImage, "imagePullPolicy": "Never", "args": []string{"-conf", "/etc/coredns/Corefile"},
			"volumeMounts": []object{{"name": "config", "mountPath": "/etc/coredns"}},
		}}
		spec["volumes"] = []object{{"name": "config", "hostPath": object{"path": filepath.Dir(corefile)}}}
	}))
	pods := w.runs(t, "client", "near", "writer", "coredns")
	client := pods["client"].V4.String()

	w.kubeconfig = w.serve(t, []upstream.Service{
		{Name: "near", ClusterIP: netip.MustParseAddr("10.32.0.101"), Port: 80, PortName: "http", Protocol: "TCP", Endpoints: []netip.AddrPort{netip.AddrPortFrom(pods["near"].V4, 8080)}},
		{Name: "kube-dns", ClusterIP: netip.MustParseAddr(dnsIP), Port: 53, PortName: "dns", Protocol: "UDP", Endpoints: []netip.AddrPort{netip.AddrPortFrom(pods["coredns"].V4, 53)}},
	})
	want := func(what, how string, args ...string) {
		t.Helper()
		a, err := w.tell(t.Context(), client, what, args...)
		if err != nil || a.String() != how {
			t.Errorf("%s %v: %v, %v, want %s", what, args, a, err, how)
		}
	}
	for _, mode := range []string{"iptables", "nftables"} {
		t.Run(mode, func(t *testing.T) {
			w.StartProxy(t, mode, pods["near"].V4.String(), pods["coredns"].V4.String())
			w.reset()
			want("ask", "3 of 3", "address", pods["near"].V4.String()+":8080")
			want("ask", "0 of 3: timeout", "address", "10.32.0.101:80")
			want("dns", fmt.Sprintf("0 of 3: reply from unexpected source: %s#53, expected %s#53", pods["coredns"].V4, dnsIP), "address", dnsIP+":53", "name", "near.cluster.local.")
			w.Guard(t, "")
			want("ask", "3 of 3", "address", "10.32.0.101:80")
			want("dns", "3 of 3", "address", dnsIP+":53", "name", "near.cluster.local.")

			began := time.Now()
			if a, err := w.tell(t.Context(), w.V4.String(), "write", "path", ways["the container's own proc"], "value", "0"); err != nil || a.Answered != 1 {
				t.Errorf("write: %v, %v", a, err)
			}
			r := w.recorded(t, began, "the writer", func(r map[string]string) bool { return isDrift(r) && r["OBJECT_COMM"] == "pod" })
			if r["NFGUARD_POD_UID"] != pods["writer"].uid {
				t.Errorf("the pod is %q, want %q", r["NFGUARD_POD_UID"], pods["writer"].uid)
			}
			if got := r["NFGUARD_POD_NAMESPACE"] + "/" + r["NFGUARD_POD_NAME"] + "/" + r["NFGUARD_CONTAINER_NAME"]; got != "default/writer-worker/main" {
				t.Errorf("the names are %s", got)
			}
			want("ask", "3 of 3", "address", "10.32.0.101:80")
			if out, code := w.Ask("check"); code != 0 || !strings.Contains(out, mode+" mode") {
				t.Errorf("check exits %d:\n%s", code, out)
			}
		})
	}
}

// static has the kubelet run a pod without an API server.
func (w *Worker) static(t *testing.T, pod object) {
	t.Helper()
	delete(pod["spec"].(object), "nodeName")
	name := at(pod, "metadata.name").(string)
	w.file(filepath.Join("pods", name+".json"), pod)
}

// runs asks the kubelet for its pods until those run.
func (w *Worker) runs(t *testing.T, names ...string) map[string]*Pod {
	t.Helper()
	//nolint:gosec // the kubelet has just made its certificate itself
	client := &http.Client{Transport: &http.Transport{DialContext: w.Dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	running := map[string]*Pod{}
	await(t, "static pods", func() string {
		res, err := client.Get("https://127.0.0.1:10250/pods")
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		var list object
		if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
			return err.Error()
		}
		items, _ := at(list, "items").([]any)
		for _, p := range items {
			name, _ := at(p, "metadata.name").(string)
			ip, _ := at(p, "status.podIPs.0.ip").(string)
			uid, _ := at(p, "metadata.uid").(string)
			a, err := netip.ParseAddr(ip)
			if at(p, "spec.hostNetwork") == true { // without an API server it has no address in the kubelet's list
				a, err = w.V4, nil
			}
			if err == nil && at(p, "status.phase") == "Running" {
				running[strings.TrimSuffix(name, "-"+w.Name)] = &Pod{Name: name, On: w, V4: a, uid: uid}
			}
		}
		for _, name := range names {
			if running[name] == nil {
				return name + " does not run"
			}
		}
		return ""
	})
	return running
}

// serve answers kube-proxy like an API server, and returns the configuration with which
// kube-proxy finds it.
func (w *Worker) serve(t *testing.T, services []upstream.Service) string {
	t.Helper()
	var l net.Listener
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread in the other namespace ends
		if err = w.enter(); err == nil {
			l, err = net.Listen("tcp", "127.0.0.1:0")
		}
	}()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: upstream.Handler(services), ReadHeaderTimeout: patience}
	go func() { _ = server.Serve(l) }() // it ends with the test
	t.Cleanup(func() { server.Close() })
	return w.file("kubeconfig-proxy", kubeconfig("http://"+l.Addr().String()))
}

// reset undoes what nfguard has set: it leaves that when it ends.
func (w *Worker) reset() {
	w.setKeys("0")
	w.Run("ip", "link", "set", "cnio0", "type", "bridge", "nf_call_iptables", "0", "nf_call_ip6tables", "0", "nf_call_arptables", "0")
	w.Run("sh", "-c", "for port in /sys/class/net/cnio0/brif/*; do ip link set ${port##*/} type bridge_slave hairpin off || true; done")
}
