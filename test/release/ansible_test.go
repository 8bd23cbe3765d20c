package release

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfguard/nfguard/test/lab"
)

// collection builds the Ansible collection into dir, installs it there from the file, and
// returns the environment in which it is found.
func collection(t *testing.T, dir string) []string {
	t.Helper()
	galaxy := lab.Tool(t, lab.Root, "ansible-galaxy")
	env := []string{"HOME=" + dir, "ANSIBLE_COLLECTIONS_PATH=" + dir + "/collections", "ANSIBLE_NOCOLOR=1", "LC_ALL=C.UTF-8"}
	do := func(args ...string) {
		t.Helper()
		cmd := command(galaxy, args...)
		cmd.Dir, cmd.Env = root+"/packaging/ansible", append(cmd.Env, env...)
		output(t, cmd)
	}
	do("collection", "build", "--output-path", dir, ".")
	do("collection", "install", one(t, dir+"/nfguard-nfguard-*.tar.gz"), "-p", dir+"/collections")
	return env
}

// TestCollection builds the Ansible collection, installs it from the file, holds it
// against the rules for what is published, and has it make the repositories known.
func TestCollection(t *testing.T) {
	lab.Need(t, lab.Root, lab.Netns)
	lint := lab.Tool(t, lab.Root, "ansible-lint")
	dir := temp(t)
	env := collection(t, dir)
	do := func(in, name string, args ...string) string {
		t.Helper()
		cmd := command(name, args...)
		cmd.Dir, cmd.Env = in, append(cmd.Env, env...)
		return output(t, cmd)
	}
	installed := dir + "/collections/ansible_collections/nfguard/nfguard"
	do(installed, lint, "--offline", "--nocolor", "--strict", "--profile=production")
	// It is the version that CHANGELOG.md is about.
	_, changes, _ := strings.Cut(read(t, root+"/CHANGELOG.md"), "\n## ")
	version := strings.FieldsFunc(changes, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })[0]
	if want := "/nfguard-nfguard-" + version + ".tar.gz"; !strings.HasSuffix(one(t, dir+"/nfguard-nfguard-*.tar.gz"), want) {
		t.Errorf("want %s, got %s", want, one(t, dir+"/nfguard-nfguard-*.tar.gz"))
	}

	t.Run("the playbook", func(t *testing.T) {
		out := do(dir, "ansible-playbook", "-i", "worker,", "--syntax-check", "-e", "nfguard_rollout=observe", "nfguard.nfguard.workers")
		if !strings.Contains(out, "playbook: nfguard.nfguard.workers") && !strings.Contains(out, "workers.yml") {
			t.Error(out)
		}
	})

	// In an overlay of this machine's files, which nobody else sees.
	r := made(t)
	server := newAptHost(t, r)
	server.served = r.second
	url := server.url
	write(t, dir+"/play.yml", `- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: /usr/bin/python3
  tasks:
    - ansible.builtin.include_role: {name: nfguard.nfguard.nfguard, tasks_from: repository_apt}
    - ansible.builtin.include_role: {name: nfguard.nfguard.nfguard, tasks_from: repository_dnf}
`)
	upper := dir + "/upper"
	for _, d := range []string{upper, dir + "/work", dir + "/log"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := `mount -t tmpfs none $DIR/work
mkdir $DIR/work/upper $DIR/work/work
mount -t overlay -o lowerdir=/etc,upperdir=$DIR/work/upper,workdir=$DIR/work/work overlay /etc
mkdir -p /etc/pki/rpm-gpg /etc/yum.repos.d # as where dnf is at home
ansible-playbook -e nfguard_repository=$URL -e nfguard_repository_key=$KEY play.yml
ansible-playbook -e nfguard_repository=$URL -e nfguard_repository_key=$KEY play.yml | grep -E '^localhost .* changed=0 .* failed=0 '
rm -f /etc/apt/sources.list; find /etc/apt/sources.list.d -type f ! -name nfguard.sources -delete
apt-get -q update -o Dir::State=$DIR/state -o Dir::Cache=$DIR/cache
apt-cache policy nfguard -o Dir::State=$DIR/state -o Dir::Cache=$DIR/cache
cp /etc/yum.repos.d/nfguard.repo $DIR/upper/
dnf -y --installroot $DIR/root --releasever 9 --disablerepo '*' --enablerepo nfguard --setopt reposdir=/etc/yum.repos.d --setopt cachedir=$DIR/dnf --setopt logdir=$DIR/log list --available nfguard
`
	cmd := command("unshare", "--mount", "--propagation", "private", "sh", "-euc", script)
	cmd.Dir = dir
	cmd.Env = append(append(cmd.Env, env...), "DIR="+dir, "URL="+url, "KEY="+filepath.Join(r.first, "nfguard.asc"))
	if err := os.MkdirAll(dir+"/state/lists/partial", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir+"/cache/archives/partial", 0o755); err != nil {
		t.Fatal(err)
	}
	out := output(t, cmd)
	for _, want := range []string{"Candidate: 0.2.0-1\n", "nfguard.x86_64"} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	for _, want := range []string{"gpgcheck = 1", "repo_gpgcheck = 1", "baseurl = " + url + "/yum"} {
		if got := read(t, dir+"/upper/nfguard.repo"); !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
}
