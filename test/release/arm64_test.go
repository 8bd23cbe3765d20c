package release

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/test/lab"
)

// TestARM64 runs the released arm64 program under qemu-user, beside the amd64 one: both
// say the same and write the same. qemu-user has no bpf(2), so the BPF programs are
// compared only.
func TestARM64(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	qemu := lab.Tool(t, lab.Root, "qemu-aarch64")
	r := made(t)
	programs := map[string][]string{
		"amd64": {r.first + "/nfguard-0.1.0-linux-amd64"},
		"arm64": {qemu, r.first + "/nfguard-0.1.0-linux-arm64"},
	}
	said := map[string]string{}
	for arch, program := range programs {
		tree := t.TempDir()
		write(t, tree+"/etc/nfguard/nfguard.toml", "[sysctl]\n\"net.bridge.bridge-nf-call-arptables\" = \"ignore\"\n")
		write(t, tree+"/etc/os-release", "ID=debian\n")
		write(t, tree+"/wrong.toml", "mode = \"enforced\"\n")
		for _, args := range [][]string{
			{"version"},
			{"config", "check", tree + "/wrong.toml"},
			{"config", "show", "--root", tree},
			{"check", "--root", tree},
			{"apply", "--root", tree},
			{"apply", "--root", tree},
			{"check", "--root", tree},
			{"completion", "bash"},
			{"check"},
		} {
			// A network of its own: check looks at this kernel, and finds no bridge.
			cmd := command("unshare", append(append([]string{"--net"}, program...), args...)...)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if at := strings.Index(string(out), "\nTHIS HOST\n"); at >= 0 { // the probes of BPF, which qemu has not
				out = out[:at+1]
			}
			said[arch] += "# nfguard " + strings.Join(args, " ") + "\n" + string(out) + cmd.ProcessState.String() + "\n"
		}
		for _, path := range []string{"/etc/modules-load.d/nfguard.conf", "/etc/sysctl.d/99-zz-nfguard.conf"} {
			said[arch] += "# " + path + "\n" + read(t, tree+path)
		}
		said[arch] = strings.ReplaceAll(said[arch], tree, "/tree")
	}
	if diff := cmp.Diff(said["amd64"], said["arm64"]); diff != "" {
		t.Errorf("(-amd64 +arm64):\n%s", diff)
	}
	for _, want := range []string{"nfguard v0.1.0", "mode: no such value", "br_netfilter\n"} {
		if !strings.Contains(said["arm64"], want) {
			t.Errorf("want %q in\n%s", want, said["arm64"])
		}
	}
	objects, err := filepath.Glob(root + "/internal/kernel/*/*_bpfel.o")
	if err != nil || len(objects) < 2 {
		t.Fatalf("want objects, got %v (%v)", objects, err)
	}
	for _, object := range objects {
		if !strings.Contains(read(t, programs["arm64"][1]), read(t, object)) {
			t.Errorf("the arm64 program does not carry %s", object)
		}
	}
}

// notEmulated are the packages whose tests fail under qemu-user, and why.
var notEmulated = map[string]string{
	"cli":         "they start their own program again, which this machine can't",
	"core/host":   "they start their own program again, which this machine can't",
	"core/daemon": "made-up time went on by 0.2 s in two of its tests, in one run of four",
	"core/helper": "qemu holds descriptors of its own",
	"core/run":    "/proc has qemu in place of the program",
	"core/source": "/proc has qemu in place of the program",
	"kernel/proc": "/proc has qemu in place of the program",
}

// TestARM64Units runs the unit tests of all other packages on an emulated arm64. Those
// that need root's network namespaces or BPF are not among them (-short).
func TestARM64Units(t *testing.T) {
	qemu := lab.Tool(t, lab.Root, "qemu-aarch64")
	args := []string{"test", "-short", "-exec", qemu}
	list := exec.Command("go", "list", "./internal/...")
	list.Dir = root
	for name := range strings.FieldsSeq(output(t, list)) {
		if why, ok := notEmulated[strings.TrimPrefix(name, "github.com/nfguard/nfguard/internal/")]; ok {
			t.Logf("not run: %s: %s", name, why)
			continue
		}
		args = append(args, name)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	t.Log(output(t, cmd))
}
