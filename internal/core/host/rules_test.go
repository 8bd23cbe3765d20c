package host

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

// TestSaveRules: the rules of each backend and family; and the error if the program
// is missing.
func TestSaveRules(t *testing.T) {
	ns := lab.NewNamespace(t)
	ns.Run(t, "iptables-legacy", "-t", "nat", "-N", "KUBE-LEGACY")
	ns.Run(t, "ip6tables-nft", "-t", "nat", "-N", "KUBE-NFT6")
	for _, tt := range []struct {
		backend string
		v6      bool
		want    string
	}{{"legacy", false, ":KUBE-LEGACY - [0:0]\n"}, {"nft", true, ":KUBE-NFT6 - [0:0]\n"}} {
		var text []byte
		var err error
		ns.Do(func() { text, err = SaveRules(t.Context(), tt.backend, tt.v6) })
		if err != nil || !strings.Contains(string(text), tt.want) {
			t.Errorf("%s, IPv6 %v: %v\n%s", tt.backend, tt.v6, err, text)
		}
	}
	_, err := SaveRules(t.Context(), "ebpf", false)
	if want := "iptables-ebpf-save: file does not exist"; !errors.Is(err, fs.ErrNotExist) || err.Error() != want {
		t.Errorf("no such program: %v, want %s", err, want)
	}
}
