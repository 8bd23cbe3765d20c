package kernel

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/trace"
)

// namePrefix and the process make the name of the tables.
const namePrefix = "nfguard-trace-"

// marks is the tables that mark the packets of one connection for the kernel's
// trace: they set meta nftrace and decide nothing, each chain ends with accept.
type marks struct {
	s      socket
	name   string
	ip     byte // NFPROTO_IPV4 or NFPROTO_IPV6
	owned  bool // by the socket; not before Linux 5.12
	bridge bool // the table of the bridge's hooks is there, too
}

// mark makes the tables. tracked says that conntrack is at work here, and may
// be asked: to ask for it would switch it on where it is not.
func mark(q trace.Query, tracked bool) (*marks, error) {
	s, err := openSocket()
	if err != nil {
		return nil, err
	}
	m := &marks{s: s, name: namePrefix + strconv.Itoa(os.Getpid()), ip: unix.NFPROTO_IPV4}
	if q.Client.Is6() {
		m.ip = unix.NFPROTO_IPV6
	}
	// The kernel has the same error for a flag that it does not know and for a
	// family that it was built without.
	for _, able := range []struct{ owned, bridge bool }{{true, true}, {false, true}, {true, false}, {false, false}} {
		m.owned, m.bridge = able.owned, able.bridge
		err = s.commit(m.messages(q, tracked)...)
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("make the tables %s: %w", m.name, err)
	}
	return m, nil
}

// quiet removes the rules: nothing more is marked, and the chains go on to tell
// of what is.
func (m *marks) quiet() error {
	return m.each(func(family byte) error {
		err := m.s.commit(message(unix.NFT_MSG_DELRULE, 0, family, attrs{}.text(unix.NFTA_RULE_TABLE, m.name)))
		switch {
		case errors.Is(err, unix.ENOENT):
			return fmt.Errorf("somebody has removed the table %s %s: what came by since then is missing", familyWord(family), m.name)
		case err != nil:
			return fmt.Errorf("empty the table %s %s: %w", familyWord(family), m.name, err)
		}
		return nil
	})
}

// close removes the tables. The end of the socket would, too, where they have
// an owner.
func (m *marks) close() error {
	defer m.s.close()
	return m.each(func(family byte) error {
		if err := m.s.commit(deleteTable(family, m.name)); err != nil && !errors.Is(err, unix.ENOENT) {
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

func deleteTable(family byte, name string) []byte {
	return message(unix.NFT_MSG_DELTABLE, 0, family, attrs{}.text(unix.NFTA_TABLE_NAME, name))
}

// sweep removes the tables that tracers left which were killed on a kernel
// without owners of tables. One that runs is another's, and is left.
func sweep() error {
	s, err := openSocket()
	if err != nil {
		return err
	}
	defer s.close()
	var all error
	for _, family := range []byte{unix.NFPROTO_BRIDGE, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		answers, err := s.ask(message(unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP, family, nil))
		if err != nil {
			return fmt.Errorf("list the tables of nf_tables: %w", err)
		}
		for _, a := range answers {
			name := unix.ByteSliceToString(find(a, unix.NFTA_TABLE_NAME))
			pid, ours := strings.CutPrefix(name, namePrefix)
			if !ours || number(find(a, unix.NFTA_TABLE_FLAGS))&tableOwner != 0 || runs(pid) {
				continue
			}
			if err := s.commit(deleteTable(family, name)); err != nil {
				all = errors.Join(all, fmt.Errorf("remove the table %s that a killed nfguard trace left: %w", name, err))
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
