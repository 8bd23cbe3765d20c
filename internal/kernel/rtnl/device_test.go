package rtnl

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

func TestDevices(t *testing.T) {
	ns, pod, stranger := lab.NewNamespace(t), lab.NewNamespace(t), lab.NewNamespace(t)
	ns.Run(t, "ip", "link", "add", "cni0", "index", "5", "address", "02:00:00:00:00:05", "type", "bridge")
	ns.Run(t, "ip", "link", "add", "veth1", "index", "6", "address", "02:00:00:00:00:06", "master", "cni0", "type", "veth", "peer", "name", "eth0", "netns", pod.Path())
	ns.Run(t, "ip", "link", "add", "left", "index", "7", "address", "02:00:00:00:00:07", "type", "veth", "peer", "name", "right", "address", "02:00:00:00:00:08")
	id := func(of *lab.Namespace) (id int, ok bool) {
		f, err := os.Open(of.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		ns.Do(func() { id, ok = NetnsID(int(f.Fd())) })
		return id, ok
	}
	behind, ok := id(pod)
	if !ok {
		t.Fatal("the pod's namespace has no id, and a device leads there")
	}
	if id, ok := id(stranger); ok {
		t.Errorf("a namespace that no device leads to has the id %d", id)
	}
	var got []Device
	var err error
	ns.Do(func() { got, err = Devices(t.Context()) })
	byName := make(map[string]Device)
	for _, d := range got {
		byName[d.Name] = d
	}
	want := map[string]Device{
		"lo":    {Index: 1, Name: "lo", MAC: "00:00:00:00:00:00"},
		"cni0":  {Index: 5, Name: "cni0", Kind: "bridge", MAC: "02:00:00:00:00:05"},
		"veth1": {Index: 6, Name: "veth1", Kind: "veth", MAC: "02:00:00:00:00:06", Master: 5, Away: true, NetnsID: behind},
		"left":  {Index: 7, Name: "left", Kind: "veth", MAC: "02:00:00:00:00:07"},
		"right": {Index: byName["right"].Index, Name: "right", Kind: "veth", MAC: "02:00:00:00:00:08"},
	}
	if diff := cmp.Diff(want, byName); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
