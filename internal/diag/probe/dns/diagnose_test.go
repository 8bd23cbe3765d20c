package dns

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	clusterName = "kubernetes.default.svc.cluster.local."
	worldName   = "kubernetes.io."
	freshName   = "nfguard-1.kubernetes.io."
)

var (
	clusterIP = netip.MustParseAddrPort("10.32.0.10:53")
	near      = netip.MustParseAddrPort("10.200.2.32:53") // on the link of who asks
	far       = netip.MustParseAddrPort("10.200.1.7:53")
	foreign   = netip.MustParseAddrPort("192.0.2.1:53")
)

// heard is what one server said when asked for one name.
type heard struct {
	server netip.AddrPort
	name   string
	asks   []Ask
}

func said(server netip.AddrPort, name string, asks ...Ask) heard { return heard{server, name, asks} }

func times(n int, a Ask) []Ask { return slices.Repeat([]Ask{a}, n) }

func rcode(r string) Ask    { return Ask{Outcome: Answered, Rcode: r, Usec: 400} }
func slow(r string) Ask     { return Ask{Outcome: Answered, Rcode: r, Usec: 600_000} }
func nothing(o Outcome) Ask { return Ask{Outcome: o, Detail: "why"} }
func elsewhere(from netip.AddrPort) Ask {
	return Ask{Outcome: WrongSource, Rcode: noError, Source: from, Usec: 400}
}

func report(list ...heard) *Report {
	r := &Report{
		Questions: []Question{{clusterName, Cluster}, {worldName, External}},
		Fresh:     []string{freshName},
		Networks:  []netip.Prefix{netip.MustParsePrefix("10.200.2.0/24")},
	}
	for _, h := range list {
		if !slices.ContainsFunc(r.Servers, func(s Server) bool { return s.Address == h.server }) {
			role := Replica
			if len(r.Servers) == 0 {
				role = Service
			}
			r.Servers = append(r.Servers, Server{Address: h.server, Role: role})
		}
		for _, a := range h.asks {
			a.Server, a.Name = h.server, h.name
			r.Asks = append(r.Asks, a)
		}
	}
	return r
}

// searched is a report of a given name, as a pod asks for it.
func searched(name string, list ...heard) *Report {
	r := report(append([]heard{said(clusterIP, clusterName, rcode(noError)), said(clusterIP, worldName, rcode(noError))}, list...)...)
	r.Name, r.Search = name, PodConf("default", "cluster.local", ResolvConf{Domains: []string{"corp.example"}})
	r.Questions = Questions("cluster.local", worldName, name, &r.Search)
	return r
}

func TestDiagnose(t *testing.T) {
	ok, world := rcode(noError), said(clusterIP, worldName, rcode(noError))
	tests := []struct {
		name    string
		report  *Report
		verdict Verdict
		summary string
		want    []string // the findings: a word, the cause, the sentence
	}{
		{
			"all is well", report(said(clusterIP, clusterName, times(10, ok)...), world, said(near, clusterName, ok)),
			Right, "10.32.0.10:53 answers, from its own address", nil,
		},
		{
			"the bridge bypasses netfilter, of two replicas for the one on this node",
			report(said(clusterIP, clusterName, append(times(4, elsewhere(near)), times(6, ok)...)...), world, said(near, clusterName, ok)),
			Wrong, "10.32.0.10:53: replies bypass netfilter on the bridge",
			[]string{"wrong bridge_netfilter: 10.32.0.10:53 was asked, and 10.200.2.32:53 answered 4 of 10 times: reply from unexpected source. " +
				"Asked by its own address, it answers rightly: a reply that crosses the bridge without passing through netfilter keeps the pod's address, which nothing turns back into the cluster IP"},
		},
		{
			"a reply from an address that is not on the link",
			report(said(clusterIP, clusterName, times(3, elsewhere(foreign))...), world, said(foreign, clusterName, ok)),
			Wrong, "10.32.0.10:53: replies come from another address",
			[]string{"wrong other_source: 10.32.0.10:53 was asked, and 192.0.2.1:53 answered 3 of 3 times; nothing shows that a bridge is why"},
		},
		{
			"a reply from the link, by one that does not answer when it is asked",
			report(said(clusterIP, clusterName, times(3, elsewhere(near))...), world, said(near, clusterName, times(3, nothing(Timeout))...)),
			Wrong, "10.32.0.10:53: replies come from another address",
			[]string{"wrong other_source: 10.32.0.10:53 was asked, and 10.200.2.32:53 answered 3 of 3 times; nothing shows that a bridge is why"},
		},
		{
			"one of two replicas is dead",
			report(said(clusterIP, clusterName, append(times(4, nothing(Timeout)), times(6, ok)...)...), world,
				said(near, clusterName, times(3, ok)...), said(far, clusterName, times(3, nothing(Timeout))...)),
			Wrong, "10.32.0.10:53: a replica does not answer",
			[]string{"wrong dead_replica: the replica 10.200.1.7:53 does not answer (timeout), and 10.200.2.32:53 does: 4 of 10 asks to 10.32.0.10:53 fail, those that are led there"},
		},
		{
			"a replica refuses that no ask was led to",
			report(said(clusterIP, clusterName, times(10, ok)...), world, said(near, clusterName, ok), said(far, clusterName, nothing(Refused))),
			Wrong, "10.32.0.10:53: a replica does not answer",
			[]string{"wrong dead_replica: the replica 10.200.1.7:53 does not answer (refused), and 10.200.2.32:53 does: no ask to 10.32.0.10:53 was led there"},
		},
		{
			"the only replica given is silent, the Service is not",
			report(said(clusterIP, clusterName, times(10, ok)...), world, said(far, clusterName, nothing(Timeout))),
			Wrong, "10.32.0.10:53: a replica does not answer",
			[]string{"wrong dead_replica: 10.32.0.10:53 answers, and by its own address 10.200.1.7:53 does not: dead, not behind that Service, or nobody may ask there directly (NetworkPolicy)"},
		},
		{
			"a share is lost, and nobody knows the replicas",
			report(said(clusterIP, clusterName, append(times(5, nothing(Timeout)), times(5, ok)...)...), world),
			Wrong, "10.32.0.10:53: a share of the asks gets no answer",
			[]string{"wrong lossy: 5 of 10 asks to 10.32.0.10:53 get no answer (5 timeout): so it is where one of several replicas is dead"},
		},
		{
			"a share is lost, and the replicas that are known answer",
			report(said(clusterIP, clusterName, append(times(5, nothing(Unreachable)), times(5, ok)...)...), world, said(near, clusterName, ok)),
			Wrong, "10.32.0.10:53: a share of the asks gets no answer",
			[]string{"wrong lossy: 5 of 10 asks to 10.32.0.10:53 get no answer (5 unreachable), although 10.200.2.32:53, asked by its own address, does: " +
				"kube-proxy's rules may still lead to a replica that is gone, or datagrams are lost"},
		},
		{
			"the Service is silent, its replicas are not",
			report(said(clusterIP, clusterName, times(10, nothing(Timeout))...), said(near, clusterName, ok), said(far, clusterName, ok)),
			Wrong, "10.32.0.10:53: no answer, although replicas answer",
			[]string{"wrong no_path: 10.32.0.10:53 does not answer (timeout), although 10.200.2.32:53 and 10.200.1.7:53, asked by their own addresses, do: the way from the cluster IP to there is broken"},
		},
		{
			"the Service is silent, and so is one of its replicas",
			report(said(clusterIP, clusterName, times(10, nothing(Timeout))...), said(near, clusterName, ok), said(far, clusterName, nothing(Timeout))),
			Wrong, "10.32.0.10:53: a replica does not answer; no answer, although replicas answer",
			[]string{
				"wrong dead_replica: the replica 10.200.1.7:53 does not answer (timeout), and 10.200.2.32:53 does: all asks to 10.32.0.10:53 fail",
				"wrong no_path: 10.32.0.10:53 does not answer (timeout), although 10.200.2.32:53, asked by its own address, does: the way from the cluster IP to there is broken",
			},
		},
		{
			"all are silent",
			report(said(clusterIP, clusterName, times(10, nothing(Timeout))...), said(near, clusterName, nothing(Timeout)), said(far, clusterName, nothing(Refused))),
			Wrong, "10.32.0.10:53: nobody answers",
			[]string{"wrong down: neither 10.32.0.10:53 answers (timeout) nor, by their own addresses, 10.200.2.32:53 and 10.200.1.7:53"},
		},
		{
			"silence, and nobody knows the replicas",
			report(said(clusterIP, clusterName, times(10, nothing(Timeout))...)),
			Wrong, "10.32.0.10:53: nobody answers",
			[]string{"wrong down: 10.32.0.10:53 does not answer (timeout); without the addresses of its replicas it can't be told whether they are dead or the way is broken"},
		},
		{
			"the Service has no endpoints",
			report(said(clusterIP, clusterName, times(10, nothing(Refused))...)),
			Wrong, "10.32.0.10:53: asks are refused",
			[]string{"wrong no_endpoints: 10.32.0.10:53 refuses: kube-proxy does so for a Service without ready endpoints, or nobody listens there"},
		},
		{
			"what replies is no DNS",
			report(said(clusterIP, clusterName, times(10, nothing(Malformed))...)),
			Wrong, "10.32.0.10:53: replies are broken",
			[]string{"wrong broken: 10.32.0.10:53 replies to kubernetes.default.svc.cluster.local. with what is no DNS: why"},
		},
		{
			"TCP is closed to a reply that is too long",
			report(said(clusterIP, clusterName, ok), said(clusterIP, worldName, nothing(Truncated))),
			Wrong, "10.32.0.10:53: replies are broken",
			[]string{"wrong broken: the reply of 10.32.0.10:53 to kubernetes.io. is too long for UDP, and TCP brought none: why"},
		},
		{
			"the node's resolver and not the cluster's",
			report(said(clusterIP, clusterName, rcode(nxDomain)), world),
			Wrong, "10.32.0.10:53: it does not know the cluster",
			[]string{"wrong not_the_cluster: 10.32.0.10:53 answers NXDOMAIN for kubernetes.default.svc.cluster.local.: it does not serve the cluster's domain, or that has another name"},
		},
		{
			"CoreDNS without the API server, told once for all servers",
			report(said(clusterIP, clusterName, rcode(servFail)), world, said(near, clusterName, rcode(servFail))),
			Wrong, "10.32.0.10:53: the cluster's names fail",
			[]string{"wrong cluster_fails: 10.32.0.10:53 answers SERVFAIL for kubernetes.default.svc.cluster.local.: CoreDNS does so while it has not read the cluster's Services from the API server"},
		},
		{
			"no forward, told once for all servers",
			report(said(clusterIP, clusterName, ok), said(clusterIP, worldName, rcode(servFail)), said(clusterIP, freshName, rcode(servFail)),
				said(near, clusterName, ok), said(near, worldName, rcode(servFail)), said(near, freshName, rcode(servFail))),
			Wrong, "10.32.0.10:53: external names are passed to nobody",
			[]string{`wrong no_forward: 10.32.0.10:53 answers SERVFAIL for kubernetes.io. as soon as a name of its own, so it seems to ask nobody: ` +
				`its Corefile has no forward (its log then has "no next plugin found"), or one to a server that is out of reach or refuses at once`},
		},
		{
			"no server block for the world",
			report(said(clusterIP, clusterName, ok), said(clusterIP, worldName, rcode(refusal)), said(clusterIP, freshName, rcode(refusal))),
			Wrong, "10.32.0.10:53: external names are passed to nobody",
			[]string{`wrong no_forward: 10.32.0.10:53 answers REFUSED for kubernetes.io. as soon as a name of its own, so it seems to ask nobody: ` +
				`its Corefile has no forward (its log then has "no next plugin found"), or one to a server that is out of reach or refuses at once`},
		},
		{
			"the upstream servers fail, and the cache has it at once",
			report(said(clusterIP, clusterName, ok), said(clusterIP, worldName, rcode(servFail)), said(clusterIP, freshName, slow(servFail))),
			Wrong, "10.32.0.10:53: external names fail",
			[]string{"wrong upstream_fails: 10.32.0.10:53 answers SERVFAIL for kubernetes.io. (and takes 600ms for a name that is in no cache), and the cluster's names rightly: " +
				"those whom its Corefile forwards to do not answer it, or answer so themselves"},
		},
		{
			"the upstream servers went silent, and the cache has an error",
			report(said(clusterIP, clusterName, ok), said(clusterIP, worldName, rcode(servFail)), said(clusterIP, freshName, nothing(Timeout))),
			Wrong, "10.32.0.10:53: external names fail",
			[]string{"wrong upstream_fails: 10.32.0.10:53 answers SERVFAIL for kubernetes.io. (and nothing for a name that is in no cache), and the cluster's names rightly: " +
				"those whom its Corefile forwards to do not answer it, or answer so themselves"},
		},
		{
			"the upstream servers refuse",
			report(said(clusterIP, clusterName, ok), said(clusterIP, worldName, rcode(refusal)), said(clusterIP, freshName, slow(refusal))),
			Wrong, "10.32.0.10:53: external names fail",
			[]string{"wrong upstream_fails: 10.32.0.10:53 answers REFUSED for kubernetes.io. (and takes 600ms for a name that is in no cache), and the cluster's names rightly: " +
				"those whom its Corefile forwards to do not answer it, or answer so themselves"},
		},
		{
			"the upstream servers are silent",
			report(said(clusterIP, clusterName, ok), said(clusterIP, worldName, times(3, nothing(Timeout))...)),
			Wrong, "10.32.0.10:53: external names fail",
			[]string{"wrong upstream_fails: 10.32.0.10:53 answers nothing (timeout) for kubernetes.io., and the cluster's names rightly: " +
				"those whom its Corefile forwards to do not answer it, or answer so themselves"},
		},
		{
			"the world has no such name",
			report(said(clusterIP, clusterName, ok), said(clusterIP, worldName, rcode(nxDomain))),
			Wrong, "10.32.0.10:53: an external name is said not to be",
			[]string{"wrong no_external_name: 10.32.0.10:53 answers NXDOMAIN for kubernetes.io.: whoever it asks says that there is no such name"},
		},
		{
			"one external ask of ten is lost",
			report(said(clusterIP, clusterName, ok), said(clusterIP, worldName, append(times(9, ok), nothing(Timeout))...)),
			Wrong, "10.32.0.10:53: a share of the asks gets no answer",
			[]string{"wrong lossy: 10.32.0.10:53 was asked 10 times for kubernetes.io.: 9 NOERROR, 1 timeout"},
		},
		{
			"a replica to which there is no route",
			report(said(clusterIP, clusterName, ok), world, said(far, clusterName, times(3, nothing(Unsent))...)),
			Wrong, "10.32.0.10:53: a share of the asks gets no answer",
			[]string{"wrong lossy: 10.200.1.7:53 was asked 3 times for kubernetes.default.svc.cluster.local.: unsent"},
		},
		{
			"no way there",
			report(said(clusterIP, clusterName, times(10, nothing(Unsent))...)),
			Unknown, "10.32.0.10:53 could not be asked",
			[]string{"note cannot_ask: 10.32.0.10:53 could not be asked from here: why"},
		},
		{
			"the name given is the first candidate",
			searched("web", said(clusterIP, "web.default.svc.cluster.local.", ok)),
			Right, "10.32.0.10:53 answers, from its own address", nil,
		},
		{
			"an external name goes through the search list first",
			searched("docs.example.net",
				said(clusterIP, "docs.example.net.default.svc.cluster.local.", rcode(nxDomain)), said(clusterIP, "docs.example.net.svc.cluster.local.", rcode(nxDomain)),
				said(clusterIP, "docs.example.net.cluster.local.", rcode(nxDomain)), said(clusterIP, "docs.example.net.corp.example.", rcode(nxDomain)),
				said(clusterIP, "docs.example.net.", ok)),
			Right, "10.32.0.10:53 answers, from its own address",
			[]string{`note search_list: "docs.example.net" has fewer than 5 dots (ndots), so the search list goes first; asked for, in this order: ` +
				"docs.example.net.default.svc.cluster.local. (NXDOMAIN), docs.example.net.svc.cluster.local. (NXDOMAIN), docs.example.net.cluster.local. (NXDOMAIN), " +
				"docs.example.net.corp.example. (NXDOMAIN), docs.example.net. (NOERROR)"},
		},
		{
			"a domain of the search list fails, the name itself would not",
			searched("docs.example.net",
				said(clusterIP, "docs.example.net.default.svc.cluster.local.", rcode(nxDomain)), said(clusterIP, "docs.example.net.svc.cluster.local.", rcode(nxDomain)),
				said(clusterIP, "docs.example.net.cluster.local.", rcode(nxDomain)), said(clusterIP, "docs.example.net.corp.example.", rcode(servFail)),
				said(clusterIP, "docs.example.net.", ok)),
			Wrong, "10.32.0.10:53: a name made by the search list fails",
			[]string{`wrong search_fails: "docs.example.net" is first asked for as docs.example.net.corp.example., and that fails: the search list made it. ` +
				"musl's resolver gives up there, glibc's goes on to docs.example.net."},
		},
		{
			"the name that fails is not the one that was asked for, and there is none",
			searched("web.shop",
				said(clusterIP, "web.shop.default.svc.cluster.local.", rcode(nxDomain)), said(clusterIP, "web.shop.svc.cluster.local.", rcode(nxDomain)),
				said(clusterIP, "web.shop.cluster.local.", rcode(nxDomain)), said(clusterIP, "web.shop.corp.example.", nothing(Timeout)),
				said(clusterIP, "web.shop.", rcode(nxDomain))),
			Wrong, "10.32.0.10:53: a name made by the search list fails",
			[]string{`wrong search_fails: "web.shop" fails, but first as web.shop.corp.example., which the search list made of it; asked for, in this order: ` +
				"web.shop.default.svc.cluster.local. (NXDOMAIN), web.shop.svc.cluster.local. (NXDOMAIN), web.shop.cluster.local. (NXDOMAIN), web.shop.corp.example. (timeout), web.shop. (NXDOMAIN)"},
		},
		{
			"all asks for a candidate are led to a dead replica, which says nothing of the name",
			searched("docs.example.net", said(clusterIP, clusterName, nothing(Timeout)),
				said(clusterIP, "docs.example.net.default.svc.cluster.local.", nothing(Timeout)), said(clusterIP, "docs.example.net.", ok)),
			Wrong, "10.32.0.10:53: a share of the asks gets no answer",
			[]string{"wrong lossy: 1 of 2 asks to 10.32.0.10:53 get no answer (1 timeout): so it is where one of several replicas is dead"},
		},
		{
			"no such name", searched("web.shop.", said(clusterIP, "web.shop.", rcode(nxDomain))),
			Wrong, "10.32.0.10:53: there is no such name",
			[]string{`wrong no_such_name: there is no "web.shop."; asked for, in this order: web.shop. (NXDOMAIN)`},
		},
		{
			"the name itself fails", searched("web.shop.", said(clusterIP, "web.shop.", rcode(servFail))),
			Wrong, "10.32.0.10:53: the name fails",
			[]string{`wrong name_fails: "web.shop." fails; asked for, in this order: web.shop. (SERVFAIL)`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := Diagnose(tt.report)
			var got []string
			for _, f := range d.Findings {
				word := "note "
				if f.Breaks {
					word = "wrong "
				}
				got = append(got, word+string(f.Cause)+": "+f.Sentence)
				if f.Next == "" || strings.Contains(f.Sentence+f.Next, "%!") {
					t.Errorf("%s: no next step: %+v", f.Cause, f)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || d.Verdict != tt.verdict || d.Summary != tt.summary {
				t.Errorf("%s, %q; findings (-want +got):\n%s", d.Verdict, d.Summary, diff)
			}
			for _, r := range d.Rows {
				if !r.Right && d.Verdict == Right {
					t.Errorf("right, with %+v", r)
				}
			}
		})
	}
}

// A node's own asks do not cross a bridge as those of pods do.
func TestDiagnoseFromNode(t *testing.T) {
	r := report(said(clusterIP, clusterName, rcode(noError)), said(clusterIP, worldName, rcode(noError)))
	r.Bridges = []string{"cnio0"}
	d := Diagnose(r)
	want := []Finding{{
		Cause:    FromNode,
		Sentence: "this was asked where the bridges are (cnio0): such asks pass through netfilter whatever a bridge does with those of pods",
		Next:     "to ask as a pod does: nfguard probe dns --bridge cnio0 --server 10.32.0.10",
	}}
	if diff := cmp.Diff(want, d.Findings); diff != "" || d.Verdict != Right {
		t.Errorf("%s (-want +got):\n%s", d.Verdict, diff)
	}
}

func TestDiagnoseRows(t *testing.T) {
	r := report(said(clusterIP, clusterName, append(times(2, elsewhere(near)), rcode(noError), nothing(Timeout))...), said(near, clusterName, rcode(noError)))
	want := []Row{
		{
			Server: clusterIP, Role: Service, Name: clusterName, Purpose: Cluster, Asked: 4,
			Results: map[string]int{"wrong_source": 2, "NOERROR": 1, "timeout": 1}, Sources: []string{"10.200.2.32:53"}, Usec: 400,
		},
		{
			Server: near, Role: Replica, Name: clusterName, Purpose: Cluster, Right: true, Asked: 1,
			Results: map[string]int{"NOERROR": 1}, Sources: []string{}, Usec: 400,
		},
	}
	got := Diagnose(r).Rows
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for i, want := range []string{"2 wrong source (10.200.2.32:53), 1 NOERROR, 1 timeout", "NOERROR"} {
		if words := got[i].Outcome(); words != want {
			t.Errorf("row %d in words: %q, want %q", i, words, want)
		}
	}
}
