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
	const other = "net.ipv4.ip_forward"
	for _, tt := range []struct {
		name, vars string
		scope      config.Scope
		match      []string
		sysctls    []config.Sysctl
	}{
		{"nothing", `{}`, config.ScopeHost, config.Default().Bridges.Match, config.Default().Sysctl},
		{
			"a host of virtual machines", `{"nfguard_scope": "bridges", "nfguard_sysctls": 0, "nfguard_config": {"bridges": {"match": ["cni0"]}, "sysctl": {"net.ipv4.ip_forward": 1}}}`,
			config.ScopeBridges, []string{"cni0"}, []config.Sysctl{
				{Key: guard.IPTables, Value: "0"}, {Key: guard.IP6Tables, Value: "0"}, {Key: guard.ARPTables, Value: "0"}, {Key: other, Value: "1"},
			},
		},
		{
			"the same, from the command line, where all is text", `{"nfguard_scope": "bridges", "nfguard_sysctls": "0"}`,
			config.ScopeBridges, config.Default().Bridges.Match, []config.Sysctl{
				{Key: guard.IPTables, Value: "0"}, {Key: guard.IP6Tables, Value: "0"}, {Key: guard.ARPTables, Value: "0"},
			},
		},
		{"left alone", `{"nfguard_sysctls": "ignore"}`, config.ScopeHost, config.Default().Bridges.Match, []config.Sysctl{
			{Key: guard.IPTables, Ignore: true}, {Key: guard.IP6Tables, Ignore: true}, {Key: guard.ARPTables, Ignore: true},
		}},
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
