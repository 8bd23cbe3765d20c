package main

import "testing"

// The chains of these two Services have the same names in every cluster.
func TestServiceChain(t *testing.T) {
	for _, test := range []struct{ name, proto, want string }{
		{"default/kubernetes:https", "tcp", "KUBE-SVC-NPX46M4PTMTKRN6Y"},
		{"kube-system/kube-dns:dns", "udp", "KUBE-SVC-TCOU7JCQXEZGVUNU"},
	} {
		if got := (service{Name: test.name, Proto: test.proto}).ServiceChain(); got != test.want {
			t.Errorf("%s: want %s, got %s", test.name, test.want, got)
		}
	}
}
