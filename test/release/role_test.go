package release

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/core/config"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/test/lab"
)

// TestRoleVariables has Ansible write the role's configuration for a host, and nfguard
// read it.
func TestRoleVariables(t *testing.T) {
	playbook := lab.Tool(t, lab.Root, "ansible-playbook")
	dir := temp(t)
	role, err := filepath.Abs(root + "/packaging/ansible/roles/nfguard")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/play.yml", `- hosts: localhost
  connection: local
  gather_facts: false
  vars_files:
    - "{{ role }}/defaults/main.yml"
    - "{{ role }}/vars/main.yml"
  tasks:
    - ansible.builtin.template: {src: "{{ role }}/templates/ansible.toml.j2", dest: "{{ to }}", mode: "0644"}
`)
	match := config.Default().Bridges.Match
	three := func(s config.Sysctl, more ...config.Sysctl) (all []config.Sysctl) {
		for _, s.Key = range []guard.Key{guard.IPTables, guard.IP6Tables, guard.ARPTables} {
			all = append(all, s)
		}
		return append(all, more...)
	}
	zero, left := config.Sysctl{Value: "0"}, config.Sysctl{Ignore: true}
	const vms = `{"nfguard_scope": "bridges", "nfguard_sysctls": 0, "nfguard_config": {"bridges": {"match": ["cni0"]}, "sysctl": {"net.ipv4.ip_forward": 1}}}`
	for _, tt := range []struct {
		name, vars string
		scope      config.Scope
		match      []string
		sysctls    []config.Sysctl
	}{
		{"nothing", `{}`, config.ScopeHost, match, config.Default().Sysctl},
		{"a host of virtual machines", vms, config.ScopeBridges, []string{"cni0"}, three(zero, config.Sysctl{Key: "net.ipv4.ip_forward", Value: "1"})},
		{"the same, from the command line, where all is text", `{"nfguard_scope": "bridges", "nfguard_sysctls": "0"}`, config.ScopeBridges, match, three(zero)},
		{"left alone", `{"nfguard_sysctls": "ignore"}`, config.ScopeHost, match, three(left)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := temp(t)
			cmd := command(playbook, "-i", "localhost,", "-e", tt.vars, "-e", "to="+in+"/nfguard.toml", "-e", "role="+role, dir+"/play.yml")
			cmd.Env = append(cmd.Env, "HOME="+dir, "ANSIBLE_NOCOLOR=1", "LC_ALL=C.UTF-8")
			output(t, cmd)
			c, _, err := config.Load("", in+"/nfguard.toml")
			if err != nil {
				t.Fatalf("%v\n%s", err, read(t, in+"/nfguard.toml"))
			}
			if diff := cmp.Diff(tt.sysctls, c.Sysctl); diff != "" || c.Scope != tt.scope || cmp.Diff(tt.match, c.Bridges.Match) != "" {
				t.Errorf("scope %s, match %q, sysctls (-want +got):\n%s", c.Scope, c.Bridges.Match, diff)
			}
		})
	}
}
