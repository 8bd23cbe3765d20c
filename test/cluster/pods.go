package cluster

import (
	"fmt"
	"net/netip"
	"testing"
)

// A Pod is a running pod.
type Pod struct {
	Name   string
	On     *Worker
	V4, V6 netip.Addr

	uid string
}

// podSpec returns the spec of a pod with this test's program on a node, changed by
// options.
func podSpec(name, node string, labels object, options ...func(spec object)) object {
	spec := object{
		"nodeName": node, "terminationGracePeriodSeconds": 0,
		"containers": []object{{"name": "main", "image": PodImage, "imagePullPolicy": "Never", "args": []string{"serve"}}},
	}
	for _, o := range options {
		o(spec)
	}
	return object{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": object{"name": name, "namespace": "default", "labels": labels}, "spec": spec,
	}
}

// privileged pods can write every sysctl.
func privileged(spec object) {
	spec["containers"].([]object)[0]["securityContext"] = object{"privileged": true}
}

// Run creates a pod from spec, and returns when it is ready.
func (c *Cluster) Run(t testing.TB, on *Worker, name string, labels object, options ...func(object)) *Pod {
	t.Helper()
	c.Create(t, "/api/v1/namespaces/default/pods", podSpec(name, on.Name, labels, options...))
	return c.Ready(t, on, "default", name)
}

// Ready waits for a pod.
func (c *Cluster) Ready(t testing.TB, on *Worker, namespace, name string) *Pod {
	t.Helper()
	p := &Pod{Name: name, On: on}
	await(t, "pod "+name, func() string {
		o := c.Get("/api/v1/namespaces/" + namespace + "/pods/" + name)
		conditions, _ := at(o, "status.conditions").([]any)
		for _, condition := range conditions {
			if at(condition, "type") != "Ready" || at(condition, "status") != "True" {
				continue
			}
			p.uid, _ = at(o, "metadata.uid").(string)
			ips, _ := at(o, "status.podIPs").([]any)
			for _, ip := range ips {
				s, _ := at(ip, "ip").(string)
				if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
					p.V4 = a
				} else if err == nil {
					p.V6 = a
				}
			}
			return ""
		}
		return fmt.Sprint(at(o, "status"))
	})
	return p
}

// serviceSpec returns a Service with these addresses for the pods with the label app.
func serviceSpec(namespace, name string, ips []string, app string, ports ...object) object {
	spec := object{"selector": object{"app": app}, "clusterIPs": ips, "clusterIP": ips[0], "ports": ports}
	return object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": name, "namespace": namespace}, "spec": spec}
}

// StartDNS starts CoreDNS, one on each worker, and its Service kube-dns. It
// returns when they are ready.
func (c *Cluster) StartDNS(t testing.TB) (servers []*Pod) {
	t.Helper()
	const namespace = "/api/v1/namespaces/kube-system/"
	c.Create(t, namespace+"configmaps", object{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": "coredns"},
		"data": object{"Corefile": `.:53 {
	errors
	health
	ready
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		fallthrough in-addr.arpa ip6.arpa
	}
	cache 30
	loadbalance
}
`},
	})
	c.Create(t, namespace+"services", serviceSpec("kube-system", "kube-dns", []string{dnsIP}, "coredns",
		object{"name": "dns", "port": 53, "protocol": "UDP"}, object{"name": "dns-tcp", "port": 53, "protocol": "TCP"}))
	for i, w := range c.Workers {
		name := fmt.Sprint("coredns-", i+1)
		c.Create(t, namespace+"pods", object{
			"apiVersion": "v1", "kind": "Pod",
			"metadata": object{"name": name, "namespace": "kube-system", "labels": object{"app": "coredns"}},
			"spec": object{
				"nodeName": w.Name, "dnsPolicy": "Default", "terminationGracePeriodSeconds": 0,
				"containers": []object{{
					"name": "coredns", "image": corednsImage, "imagePullPolicy": "Never", "args": []string{"-conf", "/etc/coredns/Corefile"},
					// Before kube-proxy runs, the API server can only be reached by its own address.
					"env":            []object{{"name": "KUBERNETES_SERVICE_HOST", "value": c.Control.V4.String()}, {"name": "KUBERNETES_SERVICE_PORT", "value": "6443"}},
					"readinessProbe": object{"httpGet": object{"path": "/ready", "port": 8181}, "periodSeconds": 1},
					"volumeMounts":   []object{{"name": "config", "mountPath": "/etc/coredns"}},
				}},
				"volumes": []object{{"name": "config", "configMap": object{"name": "coredns"}}},
			},
		})
	}
	for i, w := range c.Workers {
		servers = append(servers, c.Ready(t, w, "kube-system", fmt.Sprint("coredns-", i+1)))
	}
	return servers
}
