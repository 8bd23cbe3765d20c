package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
)

// namePrefix and the process make the name of the tables.
const namePrefix = "nfguard-trace-"

// marks is the tables that mark the packets of one connection for the kernel's
// trace: they set meta nftrace and decide nothing, each chain ends with accept.
type marks struct {
	c      *nfnl.Conn
	name   string
	ip     byte // NFPROTO_IPV4 or NFPROTO_IPV6
	owned  bool // by the connection; not before Linux 5.12
	bridge bool // the table of the bridge's hooks is there, too
}

// mark makes the tables. tracked says that conntrack is at work here, and may
// be asked: to ask for it would switch it on where it is not.
func mark(q trace.Query, tracked bool) (*marks, error) {
	c, err := nfnl.Dial()
	if err != nil {
		return nil, err
	}
	m := &marks{c: c, name: namePrefix + strconv.Itoa(os.Getpid()), ip: unix.NFPROTO_IPV4}
	if q.Client.Is6() {
		m.ip = unix.NFPROTO_IPV6
	}
	// The kernel has the same error for a flag that it does not know and for a
	// family that it was built without.
	for _, able := range []struct{ owned, bridge bool }{{true, true}, {false, true}, {true, false}, {false, false}} {
		m.owned, m.bridge = able.owned, able.bridge
		err = c.Commit(m.messages(q, tracked)...)
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("make the tables %s: %w", m.name, err)
	}
	return m, nil
}

// quiet removes the rules: nothing more is marked, and the chains go on to tell
// of what is.
func (m *marks) quiet() error {
	return m.each(func(family byte) error {
		err := m.c.Commit(m.table(family).DeleteRules())
		switch {
		case errors.Is(err, unix.ENOENT):
			return fmt.Errorf("somebody has removed the table %s %s: what came by since then is missing", familyWord(family), m.name)
		case err != nil:
			return fmt.Errorf("empty the table %s %s: %w", familyWord(family), m.name, err)
		}
		return nil
	})
}

// close removes the tables. The end of the connection would, too, where they have
// an owner.
func (m *marks) close() error {
	defer m.c.Close()
	return m.each(func(family byte) error {
		if err := m.c.Commit(m.table(family).Delete()); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the table %s %s: %w", familyWord(family), m.name, err)
		}
		return nil
	})
}

// each does something with each table. One that fails, because it is gone, does
// not keep the other.
func (m *marks) each(do func(family byte) error) error {
	err := do(m.ip)
	if m.bridge {
		err = errors.Join(err, do(unix.NFPROTO_BRIDGE))
	}
	return err
}

func (m *marks) table(family byte) nfnl.Table { return nfnl.Table{Family: family, Name: m.name} }

// sweep removes the tables that tracers left which were killed on a kernel
// without owners of tables. One that runs is another's, and is left.
func sweep() error {
	c, err := nfnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	var all error
	for _, family := range []byte{unix.NFPROTO_BRIDGE, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		var left []nfnl.Table
		err := c.List(context.Background(), nfnl.Tables(family), func() { left = nil }, func(b []byte) {
			name := nfnl.Text(nfnl.Find(b, unix.NFTA_TABLE_NAME))
			pid, ours := strings.CutPrefix(name, namePrefix)
			if ours && nfnl.Number(nfnl.Find(b, unix.NFTA_TABLE_FLAGS))&nfnl.Owner == 0 && !runs(pid) {
				left = append(left, nfnl.Table{Family: family, Name: name})
			}
		})
		if err != nil && !errors.Is(err, nfnl.ErrChanged) {
			return fmt.Errorf("list the tables of nf_tables: %w", err)
		}
		for _, t := range left {
			if err := c.Commit(t.Delete()); err != nil {
				all = errors.Join(all, fmt.Errorf("remove the table %s that a killed nfguard trace left: %w", t.Name, err))
			}
		}
	}
	return all
}

// runs reports whether there is another process with that number. If it is our
// own, as where a container runs nothing else, the tables are of one before us.
func runs(pid string) bool {
	n, err := strconv.Atoi(pid)
	return err == nil && n > 0 && n != os.Getpid() && unix.Kill(n, 0) != unix.ESRCH
}
