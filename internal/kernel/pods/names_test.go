package pods_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/kernel/pods"
)

const other = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"

// logs makes log directories with entries of these names.
func logs(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, tt := range []struct {
		name           string
		logs           []string
		uid, container string
		want           pods.Name
	}{
		{"of a pod", []string{"pods/default_web-7d9.x_" + uid}, uid, "", pods.Name{Namespace: "default", Pod: "web-7d9.x"}},
		{"of a static pod", []string{"pods/kube-system_etcd-cp1_" + static}, static, "", pods.Name{Namespace: "kube-system", Pod: "etcd-cp1"}},
		{
			"of a container",
			[]string{"pods/default_web_" + uid, "containers/web_default_setup-1-" + id + ".log"},
			uid, id,
			pods.Name{Namespace: "default", Pod: "web", Container: "setup-1"},
		},
		{"the pod's entry is not there", []string{"containers/web_default_setup-" + id + ".log"}, uid, id, pods.Name{Namespace: "default", Pod: "web", Container: "setup"}},
		{"they do not agree", []string{"pods/default_web_" + uid, "containers/etcd_kube-system_etcd-" + id + ".log"}, uid, id, pods.Name{Namespace: "default", Pod: "web"}},
		{"two pods claim a uid", []string{"pods/default_web_" + uid, "pods/kube-system_etcd_" + uid}, uid, "", pods.Name{}},
		{"two containers claim an id", []string{"containers/a_b_c-" + id + ".log", "containers/a_b_d-" + id + ".log"}, uid, id, pods.Name{}},
		{"another's", []string{"pods/default_web_" + uid, "containers/web_default_c-" + id + ".log"}, static, other, pods.Name{}},
		{"no name", []string{
			"pods/default_We b_" + uid, "pods/_web_" + uid, "pods/default_web-_" + uid, "pods/default_web_x_" + uid,
			"pods/" + long + "_web_" + uid, "pods/de.fault_web_" + uid, "pods/default_\x1b[2J_" + uid, "pods/default_web\n_" + uid,
			"containers/web_default_-" + id + ".log", "containers/web_default_c-" + id, "containers/web_default_c-" + id[1:] + ".log",
		}, uid, id, pods.Name{}},
		{"nothing", nil, uid, id, pods.Name{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, err := pods.ReadNames(logs(t, tt.logs...))
			if diff := cmp.Diff(tt.want, n.Of(tt.uid, tt.container)); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	if n, err := pods.ReadNames("/no/such/directory"); err != nil || n.Of(uid, id) != (pods.Name{}) {
		t.Errorf("without logs: %v", err)
	}
}

// A link that leads out of the tree is not followed; one that stays inside is.
func TestNamesFollowNoLinkOut(t *testing.T) {
	away := logs(t, "default_web_"+uid)
	root := t.TempDir()
	if err := os.Symlink(away, root+"/pods"); err != nil {
		t.Fatal(err)
	}
	if n, err := pods.ReadNames(root); err == nil || n.Of(uid, "") != (pods.Name{}) {
		t.Errorf("out of the tree: %v, %v", n.Of(uid, ""), err)
	}
	root = logs(t, "data/default_web_"+uid)
	if err := os.Symlink("data", root+"/pods"); err != nil {
		t.Fatal(err)
	}
	if n, err := pods.ReadNames(root); err != nil || n.Of(uid, "").Pod != "web" {
		t.Errorf("within the tree: %v, %v", n.Of(uid, ""), err)
	}
}

// Only so many entries of a directory are read, and those count.
func TestNamesAreBounded(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(root+"/pods", 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 5001 {
		if err := os.WriteFile(root+"/pods/"+strings.Repeat("x", 1+i%50)+strings.Repeat("y", 1+i/50%50)+strings.Repeat("z", 1+i/2500), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pods.ReadNames(root); err == nil || !strings.Contains(err.Error(), "too many entries") {
		t.Errorf("error: %v", err)
	}
}

// A book reads again for a new pod, but not too often.
func TestBook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := logs(t, "pods/default_web_"+uid)
		b := pods.NewBook(root)
		if got := b.Of(uid, ""); got.String() != "default/web" {
			t.Errorf("%q", got)
		}
		if err := os.WriteFile(root+"/pods/kube-system_etcd_"+static, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := b.Of(static, ""); got != (pods.Name{}) {
			t.Errorf("read again at once: %v", got)
		}
		synctest.Wait()
		time.Sleep(2 * time.Second)
		if got := b.Of(static, ""); got.String() != "kube-system/etcd" {
			t.Errorf("%q", got)
		}
		if got := b.Of("", id); got != (pods.Name{}) {
			t.Errorf("of no pod: %v", got)
		}
	})
}
