package vm_test

import (
	"strings"
	"testing"
)

// kept are the outcomes of a foreign write: a kernel that keeps what a program
// puts in place of a value never stores it; on another it is put right.
const kept = "corrected|rewritten"

// putRight are patterns for the message about such a write.
func putRight(key, writer string) string {
	return key + ` (was 0, set back to 1 after [0-9.]+(µs|ms|s) \(written by ` + writer + `\)|stays 1: ` + writer + ` wrote 0, which was rewritten)`
}

// The writer keeps running, so that everything about it can be looked up.
func (n *node) foreignWrite(t *testing.T) {
	mark := n.mark(t)
	n.Sh(t, `systemd-run --quiet --unit=culprit sh -c 'echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables; sleep 60; :'`)
	r := n.record(t, mark, "NFGUARD_EVENT=drift")
	pid := n.Sh(t, "systemctl show --value --property=MainPID culprit")
	n.culprit = pid
	n.Sh(t, "systemctl stop culprit")
	n.wantRight(t)
	n.wantService(t)
	r.want(t, map[string]string{
		"MESSAGE":               putRight(iptables, `sh\[`+pid+`\], culprit\.service`),
		"MESSAGE_ID":            "4f513955a72e451957e0c1036a86391a",
		"PRIORITY":              "4", // warning
		"SYSLOG_IDENTIFIER":     "nfguard",
		"NFGUARD_TIME":          `20.*Z`,
		"NFGUARD_EVENT":         "drift",
		"NFGUARD_OUTCOME":       kept,
		"NFGUARD_SUBJECT":       iptables,
		"NFGUARD_WANT":          "1",
		"NFGUARD_HAVE":          "0",
		"NFGUARD_NOW":           "1",
		"NFGUARD_SOURCE":        "sysctl",
		"NFGUARD_DURATION_USEC": `[0-9]+`,
		"NFGUARD_PASS":          `[0-9]+`,
		"SYSCTL":                "/proc/sys/net/bridge/bridge-nf-call-iptables",
		"NEWVALUE":              "0",
		"OURVALUE":              "1",
		"OBJECT_PID":            pid,
		"OBJECT_COMM":           "sh",
		"OBJECT_EXE":            "/usr/bin/dash",
		"OBJECT_SYSTEMD_UNIT":   `culprit\.service`,
		"OBJECT_SYSTEMD_CGROUP": `/system\.slice/culprit\.service`,
	})

	// An auditor searches by process, and wants an explanation.
	for _, question := range []string{"OBJECT_PID=" + pid, "--unit=culprit"} {
		if got := n.Sh(t, "journalctl --quiet "+question); !strings.Contains(got, r.field("MESSAGE")) {
			t.Errorf("journalctl %s does not find it:\n%s", question, got)
		}
	}
	explained := n.Sh(t, "journalctl --quiet --catalog --unit=nfguard NFGUARD_EVENT=drift")
	for _, text := range []string{"Guarded setting " + iptables + " had a foreign value", "Outcome: " + r.field("NFGUARD_OUTCOME") + "."} {
		if !strings.Contains(explained, text) {
			t.Errorf("journalctl -x does not say %q:\n%s", text, explained)
		}
	}
}

// sysctl(8) ends before anybody can look up much about it; the PID that the kernel
// reported remains.
func (n *node) sysctlWrite(t *testing.T) {
	mark := n.mark(t)
	n.Sh(t, "sysctl -q -w "+ip6tables+"=0 & pid=$!; wait $pid; echo $pid >/run/writer")
	r := n.record(t, mark, "NFGUARD_EVENT=drift")
	n.wantRight(t)
	r.want(t, map[string]string{
		"MESSAGE":        putRight(ip6tables, `.+`),
		"NFGUARD_SOURCE": "sysctl",
		"OBJECT_PID":     n.Sh(t, "cat /run/writer"),
	})
}

// A file that sorts after nfguard's own wins whenever either of the two programs reads
// the files.
func (n *node) hostileFile(t *testing.T) {
	n.makeHostile(t)
	for _, command := range []string{"sysctl --system", "systemctl restart systemd-sysctl"} {
		mark := n.mark(t)
		n.Sh(t, command)
		for _, r := range n.records(t, mark, 3, "NFGUARD_EVENT=drift") {
			r.want(t, map[string]string{"NFGUARD_OUTCOME": kept, "NFGUARD_SOURCE": "sysctl", "OBJECT_PID": "[0-9]+"})
		}
		n.wantRight(t)
	}
	n.wantService(t)
	n.Sh(t, "rm "+hostile)
}

const hostile = "/etc/sysctl.d/99-zzz-hostile.conf"

func (n *node) makeHostile(t *testing.T) {
	t.Helper()
	n.Write(t, hostile, []byte(iptables+" = 0\n"+ip6tables+" = 0\n"+arptables+" = 0\n"), 0o644)
}

// TuneD is the most frequent program that resets the sysctls. Its profile need not name
// them: after its own sysctls it applies the system's again (reapply_sysctl), and so the
// file that wins there.
func (n *node) tuned(t *testing.T) {
	n.makeHostile(t)
	n.Write(t, "/etc/tuned/harmless/tuned.conf", []byte("[sysctl]\nvm.swappiness=10\n"), 0o644)
	mark := n.mark(t)
	n.Sh(t, "systemctl start tuned; tuned-adm profile harmless")
	records := n.records(t, mark, 3, "NFGUARD_EVENT=drift")
	n.wantRight(t)
	n.wantService(t)
	n.Sh(t, "systemctl stop tuned; rm -r /etc/tuned/harmless "+hostile)
	for _, r := range records {
		r.want(t, map[string]string{
			"MESSAGE":             putRight(`net\.bridge\..+`, `tuned\[[0-9]+\], tuned\.service`),
			"NFGUARD_OUTCOME":     kept,
			"OBJECT_COMM":         "tuned",
			"OBJECT_SYSTEMD_UNIT": `tuned\.service`,
		})
	}
}

// Each of the first reversals has its own record. Then one record says that it is a
// fight, and another gives the number of changes when nobody has written for the length
// of the window.
func (n *node) fight(t *testing.T) {
	n.configure(t, "[contention]\nwindow = '5s'\n")
	mark := n.mark(t)
	n.Sh(t, "for i in $(seq 40); do echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables; sleep 0.02; done")
	n.record(t, mark, "NFGUARD_EVENT=contention", "NFGUARD_OUTCOME=held").want(t, map[string]string{
		"MESSAGE":         iptables + ` was (changed|written to) 10 times within .+ \(written by sh\[[0-9]+\].*\); (nfguard goes on correcting it, .*|none of it is stored; .*)`,
		"NFGUARD_SUBJECT": iptables,
		"NFGUARD_NEXT":    "stop the other side, .*",
	})
	n.record(t, mark, "NFGUARD_EVENT=contention", "NFGUARD_OUTCOME=observed").want(t, map[string]string{
		"MESSAGE":            "nobody has (changed|written to) " + iptables + ` for 5s; it was (changed|written to) [0-9]+ more times in the .+ before \(written by .*`,
		"NFGUARD_SUPPRESSED": "[0-9]+",
	})
	if own := n.Journal(t, "--unit=nfguard", "--since="+mark, "NFGUARD_EVENT=drift"); len(own) == 0 || len(own) > 9 {
		t.Errorf("%d reversals have a record of their own, want those before the tenth", len(own))
	}
	n.unconfigure(t)
	n.wantService(t)
}

func (n *node) rmmod(t *testing.T) {
	bridge := n.Sh(t, "cat /sys/class/net/cnio0/ifindex; ls /sys/class/net/cnio0/brif")
	mark := n.mark(t)
	n.Sh(t, "rmmod br_netfilter")
	n.record(t, mark, "NFGUARD_EVENT=module").want(t, map[string]string{
		"MESSAGE":         "br_netfilter was not loaded, loaded in .*s",
		"NFGUARD_OUTCOME": "corrected",
		"NFGUARD_SUBJECT": "br_netfilter",
		"NFGUARD_SOURCE":  "uevent|sysctl|resync", // whichever is first; unloading takes a tenth of a second
	})
	n.wantRight(t)
	if after := n.Sh(t, "cat /sys/class/net/cnio0/ifindex; ls /sys/class/net/cnio0/brif"); after != bridge {
		t.Errorf("the bridge is another:\n%s\nbefore:\n%s", after, bridge)
	}
	n.wantService(t)

	// These sysctls are new files: are they watched?
	mark = n.mark(t)
	n.Sh(t, "sysctl -q "+iptables+"=0")
	n.record(t, mark, "NFGUARD_EVENT=drift").want(t, map[string]string{"NFGUARD_SOURCE": "sysctl", "OBJECT_PID": "[0-9]+"})
	n.wantRight(t)
}

// The kernel also unloads bridge, which removes every bridge of the machine.
func (n *node) modprobeRemove(t *testing.T) {
	n.Sh(t, "ip link add br-other type bridge")
	n.Until(t, "nfguard status -o json | grep -w br-other") // nfguard knows that it existed
	mark := n.mark(t)
	// nfguard is stopped while modprobe runs: otherwise it could load one module again
	// while modprobe is about to unload the other.
	n.Sh(t, "systemctl kill --signal=STOP nfguard; modprobe -r br_netfilter; systemctl kill --signal=CONT nfguard")
	n.record(t, mark, "NFGUARD_EVENT=module").want(t, map[string]string{
		"MESSAGE": "br_netfilter was not loaded, loaded in .*s; unloading it removed (cnio0, br-other|br-other, cnio0) and all ports, " +
			"and they do not come back by themselves: have the CNI plugin create them again",
		"NFGUARD_OUTCOME": "corrected",
	})
	for _, r := range n.records(t, mark, 2, "NFGUARD_EVENT=bridge", "NFGUARD_NOW=gone") {
		r.want(t, map[string]string{"MESSAGE": "bridge (cnio0|br-other) was removed"})
	}
	n.wantRight(t)
	n.makeBridge(t)
	n.wantService(t)
}
