package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// nodeName is the node that kube-proxy runs on.
const nodeName = "worker"

// Service is one port of a Service in the namespace default.
type Service struct {
	Name      string
	ClusterIP netip.Addr
	Port      uint16
	PortName  string
	Protocol  string // "TCP" or "UDP"
	Endpoints []netip.AddrPort
	Local     bool // internalTrafficPolicy: Local; the endpoints are on this node
}

type object = map[string]any

// cluster answers like the API server of a cluster in which nothing changes.
type cluster struct{ lists map[string]list }

type list struct {
	kind, version string
	items         []object
}

// Handler answers kube-proxy like the API server of a cluster with those Services.
func Handler(services []Service) http.Handler { return newCluster(services) }

func newCluster(services []Service) *cluster {
	c := &cluster{lists: map[string]list{
		"/api/v1/services":                         {"Service", "v1", nil},
		"/apis/discovery.k8s.io/v1/endpointslices": {"EndpointSlice", "discovery.k8s.io/v1", nil},
		"/apis/networking.k8s.io/v1/servicecidrs":  {"ServiceCIDR", "networking.k8s.io/v1", nil},
		"/api/v1/nodes":                            {"Node", "v1", []object{node}},
	}}
	for _, s := range services {
		c.add("/api/v1/services", s.object())
		c.add("/apis/discovery.k8s.io/v1/endpointslices", s.slice())
	}
	return c
}

func (c *cluster) add(path string, o object) {
	l := c.lists[path]
	o["apiVersion"], o["kind"] = l.version, l.kind
	l.items = append(l.items, o)
	c.lists[path] = l
}

var node = object{
	"apiVersion": "v1", "kind": "Node",
	"metadata": object{"name": nodeName, "uid": nodeName, "resourceVersion": "1"},
	"status":   object{"addresses": []object{{"type": "InternalIP", "address": "127.0.0.1"}}},
}

func (s *Service) family() string {
	if s.ClusterIP.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

func (s *Service) object() object {
	policy := "Cluster"
	if s.Local {
		policy = "Local"
	}
	return object{
		"metadata": object{"name": s.Name, "namespace": "default", "uid": s.Name, "resourceVersion": "1"},
		"spec": object{
			"type": "ClusterIP", "clusterIP": s.ClusterIP.String(), "clusterIPs": []string{s.ClusterIP.String()},
			"ipFamilies": []string{s.family()}, "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": policy, "sessionAffinity": "None",
			"ports": []object{{"name": s.PortName, "port": s.Port, "protocol": s.Protocol}},
		},
	}
}

func (s *Service) slice() object {
	var endpoints []object
	port := uint16(0)
	for _, e := range s.Endpoints {
		o := object{"addresses": []string{e.Addr().String()}, "conditions": object{"ready": true, "serving": true}}
		if s.Local {
			o["nodeName"] = nodeName
		}
		endpoints = append(endpoints, o)
		port = e.Port()
	}
	return object{
		"metadata": object{
			"name": s.Name + "-x", "namespace": "default", "uid": s.Name + "-x", "resourceVersion": "1",
			"labels": object{"kubernetes.io/service-name": s.Name},
		},
		"addressType": s.family(), "endpoints": endpoints,
		"ports": []object{{"name": s.PortName, "port": port, "protocol": s.Protocol}},
	}
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	say := func(v any) { _ = json.NewEncoder(w).Encode(v) } // the client may be gone
	path, query := r.URL.Path, r.URL.Query()
	l, ok := c.lists[path]
	switch {
	case r.Method != http.MethodGet: // an event: accepted
		w.WriteHeader(http.StatusCreated)
		say(object{})
	case strings.HasPrefix(path, "/api/v1/nodes/"):
		say(node)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		say(object{"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "code": http.StatusNotFound})
	case query.Get("watch") == "":
		say(object{"apiVersion": l.version, "kind": l.kind + "List", "metadata": object{"resourceVersion": "1"}, "items": append([]object{}, l.items...)})
	default:
		if query.Get("sendInitialEvents") == "true" { // the list, as watch events
			for _, item := range l.items {
				say(object{"type": "ADDED", "object": item})
			}
			say(object{"type": "BOOKMARK", "object": object{"apiVersion": l.version, "kind": l.kind, "metadata": object{
				"resourceVersion": "1", "annotations": object{"k8s.io/initial-events-end": "true"},
			}}})
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // nothing changes
	}
}

// Example returns n Services default/svc-N with the port http and one endpoint each, for
// both families, like those that the stand-in for kube-proxy invents.
func Example(n int) []Service {
	var list []Service
	for _, f := range []struct{ suffix, services, pods string }{{"", "10.96.0.0", "10.244.0.0"}, {"-v6", "fd00:96::", "fd00:244::"}} {
		ip, pod := netip.MustParseAddr(f.services), netip.MustParseAddr(f.pods)
		for i := range n {
			ip, pod = ip.Next(), pod.Next()
			list = append(list, Service{
				Name: fmt.Sprint("svc-", i, f.suffix), ClusterIP: ip, Port: 80, PortName: "http", Protocol: "TCP",
				Endpoints: []netip.AddrPort{netip.AddrPortFrom(pod, 8080)},
			})
		}
	}
	return list
}
