package vm_test

import "testing"

func (n *node) removed(t *testing.T) {
	mark := n.mark(t)
	n.Sh(t, "echo '# ours' >>/etc/nfguard/nfguard.toml; dpkg --remove nfguard")
	n.record(t, mark, "NFGUARD_EVENT=stop")
	n.wantGone(t)
	n.Sh(t, "ls "+modulesLoad+" "+sysctlD)
}

func (n *node) installedAgain(t *testing.T) {
	mark := n.mark(t)
	n.Sh(t, "dpkg -i /srv/nfguard.deb")
	n.record(t, mark, "NFGUARD_EVENT=start")
	n.Sh(t, "systemctl is-active nfguard; systemctl is-enabled nfguard; nfguard check")
	n.Sh(t, "tail -n 1 /etc/nfguard/nfguard.toml | grep -x '# ours'")
	n.wantService(t)
}

func (n *node) purged(t *testing.T) {
	n.Sh(t, "dpkg --purge nfguard")
	n.wantGone(t)
	// The package file itself is in /srv, and the journal is not nfguard's.
	if left := n.Sh(t, "find / -xdev -name '*nfguard*' ! -path '/srv/*' ! -path '/tmp/*'; ls -d /run/nfguard /run/nfguard-helper 2>/dev/null || true"); left != "" {
		t.Errorf("purging leaves\n%s", left)
	}
}

// wantGone checks that nfguard does not run, and that the node is right all the same.
func (n *node) wantGone(t *testing.T) {
	t.Helper()
	if got := n.Run(t, "systemctl", "is-active", "nfguard").Stdout; got != "inactive\n" {
		t.Errorf("nfguard.service is %s", got)
	}
	n.Sh(t, "! pgrep -x nfguard; cd /proc/sys/net/bridge; ! grep -Hvx 1 bridge-nf-call-*tables")
	n.wantService(t)
}

// The older package brought another configuration file, so dpkg has to choose
// between the new one and the administrator's.
func (n *node) upgraded(t *testing.T) {
	n.Push(t, olderDeb(t), "/srv/older.deb", 0o644)
	n.Sh(t, `
		dpkg -i /srv/older.deb
		nfguard version | grep -F `+olderVersion+`
		sed -i "/^\[sysctl\]/a '`+arptables+`' = 'ignore'" /etc/nfguard/nfguard.toml
		systemctl restart nfguard`)
	before := n.mainPID(t)

	mark := n.mark(t)
	n.Sh(t, "dpkg --force-confold -i /srv/nfguard.deb") // as apt does if nobody can be asked
	n.record(t, mark, "NFGUARD_EVENT=stop")
	n.record(t, mark, "NFGUARD_EVENT=start")
	n.Sh(t, "! nfguard version | grep -F "+olderVersion)
	if n.mainPID(t) == before {
		t.Error("the older nfguard still runs")
	}
	n.Sh(t, "systemctl is-active nfguard; nfguard config show | grep -F arptables | grep -F ignore")
	n.Sh(t, "sysctl -q "+iptables+"=0 "+arptables+"=0")
	n.record(t, mark, "NFGUARD_EVENT=drift").want(t, map[string]string{"NFGUARD_SUBJECT": iptables, "NFGUARD_OUTCOME": kept})
	n.wantService(t)

	n.Sh(t, "mv /etc/nfguard/nfguard.toml.dpkg-dist /etc/nfguard/nfguard.toml; systemctl reload nfguard")
	n.wantRight(t)
}
