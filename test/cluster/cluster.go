// Package cluster sets up a real Kubernetes cluster in namespaces of one machine, the way
// guides set one up by hand: a control plane and two workers, each with its own network,
// mounts, host name and control groups. The programs are unmodified; package programs
// builds them. The tests run nfguard there.
//
// Nothing of it is left on the host, even if it is killed: see guard.
package cluster

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/cluster/programs"
	"github.com/nfguard/nfguard/test/lab"
)

// The addresses of Services and of pods, and the one secret.
const (
	servicesCIDR = "10.32.0.0/24,fd00:32::/112"
	podsCIDR     = "10.200.0.0/16,fd00:200::/48"
	dnsIP        = "10.32.0.10"
	token        = "of-the-administrator" //nolint:gosec // for a cluster that lasts a minute
)

// bin is where the programs are.
var bin, _ = programs.Cluster.Dir()

// A Cluster is a control plane and its workers.
type Cluster struct {
	Control *Node
	Workers []*Worker

	api *api
}

// Start sets up a cluster with two workers on which every bridge-nf-call key is 0 and
// neither kube-proxy nor nfguard runs. It returns when the workers are ready and CoreDNS
// runs on both.
func Start(t testing.TB) *Cluster {
	t.Helper()
	lab.Need(t, lab.Root, lab.Netns, lab.Cluster)
	c := &Cluster{Control: newNode(t, "control", 0)}
	c.api = newAPI(c.Control)
	c.Workers = []*Worker{{Node: newNode(t, "worker-1", 1)}, {Node: newNode(t, "worker-2", 2)}}
	c.wire(t)
	archives := images(t)
	c.controlPlane(t)
	for _, w := range c.Workers {
		w.containerd(t, archives)
		w.kubeconfig = w.file("kubeconfig", kubeconfig(c.api.server))
		w.startKubelet(t)
	}
	for _, w := range c.Workers {
		await(t, w.Name, func() string {
			conditions, _ := at(c.Get("/api/v1/nodes/"+w.Name), "status.conditions").([]any)
			for _, condition := range conditions {
				if at(condition, "type") == "Ready" && at(condition, "status") == "True" {
					return ""
				}
			}
			return "not ready"
		})
	}
	await(t, "the service account of pods", func() string {
		if c.Get("/api/v1/namespaces/default/serviceaccounts/default") == nil || c.Get("/api/v1/namespaces/kube-system/serviceaccounts/default") == nil ||
			c.Get("/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt") == nil {
			return "not there"
		}
		return ""
	})
	return c
}

// wire connects the nodes by a bridge in the control plane's namespace.
func (c *Cluster) wire(t testing.TB) {
	c.Control.Run("sh", "-c", "ip link add br0 type bridge && ip link set br0 up && ip addr add "+c.Control.V4.String()+"/24 dev br0 && ip addr add "+c.Control.V6.String()+"/64 dev br0 nodad")
	for _, w := range c.Workers {
		c.Control.Run("ip", "link", "add", w.Name, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(w.holder))
		c.Control.Run("ip", "link", "set", w.Name, "master", "br0", "up")
		w.Run("ip", "link", "set", "eth0", "up")
		w.Run("ip", "addr", "add", w.V4.String()+"/24", "dev", "eth0")
		w.Run("ip", "addr", "add", w.V6.String()+"/64", "dev", "eth0", "nodad")
		w.Run("ip", "route", "add", "default", "via", c.Control.V4.String())
	}
	for _, w := range c.Workers {
		for _, from := range []*Node{c.Control, c.Workers[0].Node, c.Workers[1].Node} {
			if from != w.Node {
				from.Run("ip", "route", "add", w.Pods4.String(), "via", w.V4.String())
				from.Run("ip", "route", "add", w.Pods6.String(), "via", w.V6.String())
			}
		}
	}
}

func kubeconfig(server string) object {
	cluster := object{"server": server}
	if strings.HasPrefix(server, "https:") {
		cluster["insecure-skip-tls-verify"] = true // the API server has just made its certificate itself
	}
	return object{
		"apiVersion": "v1", "kind": "Config", "current-context": "x",
		"clusters": []object{{"name": "x", "cluster": cluster}},
		"users":    []object{{"name": "x", "user": object{"token": token}}},
		"contexts": []object{{"name": "x", "context": object{"cluster": "x", "user": "x"}}},
	}
}

func (c *Cluster) controlPlane(t testing.TB) {
	n := c.Control
	// Nothing of it survives the run, so nothing has to be synced to disk.
	n.Start(t, "etcd", "--data-dir", filepath.Join(n.dir, "etcd"), "--unsafe-no-fsync", "--log-level", "warn")

	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key := n.file("accounts.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)})))
	pki := filepath.Join(n.dir, "pki") // where the API server puts the certificate that it makes
	n.Start(t, "kube-apiserver", "--etcd-servers", "http://127.0.0.1:2379", "--cert-dir", pki,
		"--advertise-address", n.V4.String(), "--secure-port", "6443", "--service-cluster-ip-range", servicesCIDR,
		"--token-auth-file", n.file("tokens", token+",admin,admin,system:masters\n"), "--authorization-mode", "AlwaysAllow",
		"--service-account-issuer", "https://kubernetes.default.svc.cluster.local", "--service-account-key-file", key, "--service-account-signing-key-file", key,
		"--kubelet-preferred-address-types", "InternalIP", "--allow-privileged")
	await(t, "the API server", func() string {
		if _, err := c.api.do(http.MethodGet, "/readyz", nil); err != nil {
			return err.Error()
		}
		return ""
	})
	admin := n.file("kubeconfig", kubeconfig(c.api.server))
	n.Start(t, "kube-controller-manager", "--kubeconfig", admin, "--leader-elect=false",
		"--service-account-private-key-file", key, "--root-ca-file", filepath.Join(pki, "apiserver.crt"))
	n.Start(t, "kube-scheduler", "--kubeconfig", admin, "--leader-elect=false")
}
