package boot_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/test/lab"
)

// A drop-in that has the label of what its maker makes in /etc is not read at boot.
func TestLabelOfADropin(t *testing.T) {
	lab.Need(t, lab.Root)
	const name = "etc/sysctl.d/99-zz-nfguard.conf"
	said := "systemd-sysctl may not be allowed to read /" + name + " at next boot: its SELinux label is system_u:object_r:etc_runtime_t:s0, and the policy's for it is system_u:object_r:etc_t:s0; run restorecon /" + name
	for _, tt := range []struct{ name, config, label, cmdline, want string }{
		{"as the daemon's other files", "enforcing", "system_u:object_r:etc_runtime_t:s0", "", said},
		{"as the policy says, by another user", "enforcing", "unconfined_u:object_r:etc_t:s0", "", ""},
		{"nothing is refused", "permissive", "system_u:object_r:etc_runtime_t:s0", "", ""},
		{"it is off", "disabled", "system_u:object_r:etc_runtime_t:s0", "", ""},
		{"it is off at the next boot", "enforcing", "system_u:object_r:etc_runtime_t:s0", "quiet selinux=0", ""},
		{"no label", "enforcing", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, root, "etc/selinux/config", "SELINUX="+tt.config+"\nSELINUXTYPE=default\n")
			write(t, root, "etc/selinux/default/contexts/files/file_contexts", "/etc/.*\tsystem_u:object_r:etc_t:s0\n")
			write(t, root, name, "net.bridge.bridge-nf-call-iptables = 1\n")
			if tt.label != "" {
				if err := unix.Setxattr(filepath.Join(root, name), "security.selinux", []byte(tt.label+"\x00"), 0); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for _, f := range boot.Forecast(boot.Options{Root: root, Keys: guarded, SysctlD: "/" + name, Cmdline: tt.cmdline}).Findings {
				if strings.Contains(f.Sentence, "SELinux") {
					if !f.Breaks {
						t.Errorf("it breaks the boot: %+v", f)
					}
					got = append(got, f.Sentence+"; "+f.Next)
				}
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
