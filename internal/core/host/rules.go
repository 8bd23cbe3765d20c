package host

import (
	"context"
	"fmt"
	"io/fs"
	"os/exec"
	"time"
)

// saveTimeout bounds one run of iptables-save: 10,000 Services take it 2 s.
const saveTimeout = 30 * time.Second

// SaveRules returns what iptables-save prints of the table nat, of that backend
// ("nft" or "legacy") and family. Only to be asked for where there are rules of
// that backend: iptables makes the tables that it prints. Its extensions' blobs
// are iptables' own to translate, which is why a program is run here, where a
// person asks; what the daemon does it does without. An error that is
// fs.ErrNotExist means that the host has no such program.
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

// program finds a program in PATH, or where an administrator's are.
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
