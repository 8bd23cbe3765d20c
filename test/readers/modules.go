package readers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

// Kernel is the release of the kernel whose modules [MakeModules] makes.
const Kernel = "6.1.0-test"

// MakeModules has gcc make modules below root/lib/modules, and depmod their index: llc,
// bridge that needs it, br_netfilter that needs bridge. No kernel would take them.
func MakeModules(t testing.TB, root string) {
	t.Helper()
	gcc, depmod := lab.Tool(t, lab.Root, "gcc"), lab.Tool(t, lab.Root, "depmod")
	release := filepath.Join(root, "lib/modules", Kernel)
	for _, m := range []struct{ name, dir, needs string }{{"llc", "llc", ""}, {"bridge", "bridge", "llc_up"}, {"br_netfilter", "bridge", "bridge_up"}} {
		source := fmt.Sprintf(`
int %[1]s_up(void) { return 0; }
__asm__(".section __ksymtab_strings,\"aMS\",%%progbits,1; .asciz \"%[1]s_up\"; .previous");
const long __ksymtab_%[1]s_up __attribute__((section("__ksymtab"))) = 0;
const char name[] __attribute__((section(".modinfo"))) = "name=%[1]s";
`, m.name)
		if m.needs != "" {
			source += fmt.Sprintf("int %[1]s(void); int call(void) { return %[1]s(); }\n", m.needs)
		}
		from := filepath.Join(t.TempDir(), "module.c")
		if err := os.WriteFile(from, []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(release, "kernel/net", m.dir, m.name+".ko")
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(gcc, "-O0", "-c", from, "-o", to).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, list := range []string{"modules.builtin", "modules.order"} {
		if err := os.WriteFile(filepath.Join(release, list), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(depmod, "-b", root, Kernel).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
