package host

import (
	"context"
	"fmt"
	"io/fs"
	"os/exec"
	"time"

	"github.com/coreos/go-iptables/iptables"

	"github.com/nfguard/nfguard/internal/core/guard"
)

// saveTimeout bounds one run of iptables-save: 10,000 Services take it 2 s.
const saveTimeout = 30 * time.Second

// SaveRules returns what iptables-save prints for the table nat, of that backend
// ("nft" or "legacy") and family. Call it only if there are rules of that backend:
// iptables creates the tables that it prints. It runs a program because only iptables
// can translate the data of its extensions. It is for commands that people run; the
// daemon does not need it. An error that is fs.ErrNotExist means that the host has no
// such program.
func SaveRules(ctx context.Context, backend string, v6 bool) ([]byte, error) {
	name := "iptables"
	if v6 {
		name = "ip6tables"
	}
	path, err := program(name + "-" + backend + "-save")
	if err != nil {
		return nil, fmt.Errorf("%s-%s-save: %w", name, backend, fs.ErrNotExist)
	}
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-t", "nat")
	cmd.Env = environment
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// RuleText returns what iptables prints of a rule, with all that its extensions
// say: "-A FORWARD -i cni0 -j DROP". Only to be asked for where the rule was read in
// the kernel: iptables makes the tables that it prints. It runs programs, as
// [SaveRules] does, and so is for commands. An error that is fs.ErrNotExist means
// that the host has no such program.
func RuleText(r guard.Rule, v6 bool) (string, error) {
	name, protocol := "iptables", iptables.ProtocolIPv4
	if v6 {
		name, protocol = "ip6tables", iptables.ProtocolIPv6
	}
	backend := "-nft"
	if r.Legacy {
		backend = "-legacy"
	}
	path, err := program(name + backend)
	if err != nil {
		return "", fmt.Errorf("%s%s: %w", name, backend, fs.ErrNotExist)
	}
	t, err := iptables.New(iptables.IPFamily(protocol), iptables.Path(path), iptables.Timeout(1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	text, err := t.ListById(r.Table, r.Chain, r.Number)
	if err != nil {
		return "", fmt.Errorf("print rule %d of %s: %w", r.Number, r.Chain, err)
	}
	return text, nil
}

// program finds a program in PATH, or in the directories for administrators.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(dir + name)
	}
	return path, err
}
