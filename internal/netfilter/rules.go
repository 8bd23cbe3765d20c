package netfilter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// LegacyRule is a rule of iptables-legacy, without what it asks of a packet.
type LegacyRule struct {
	Chain   string
	Number  int    // its place in the chain, from 1 on
	Comment string // of the match comment
	Target  string // the name of its target; "" if it decides or jumps
	Verdict string // "accept", "drop", "return" or "jump CHAIN" where Target is ""

	// Of the target, in the layout of linux/netfilter.
	Revision uint8
	Info     []byte
}

// LegacyRules returns the rules of a table of iptables-legacy, with the policies
// as the last rules of the built-in chains. The table has to be there: to ask
// for it makes it. The cost is that of [Look.KubeProxy].
func LegacyRules(ipv6 bool, table string) ([]LegacyRule, error) {
	f := &ipv4Family
	if ipv6 {
		f = &ipv6Family
	}
	fd, err := unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	for range attempts {
		var info tableInfo
		copy(info[:nameSize-1], table)
		if err := getsockopt(fd, f.level, getInfo, info[:]); err != nil {
			return nil, fmt.Errorf("read the %s table %s of iptables-legacy: %w", f.name, table, err)
		}
		b := make([]byte, entriesOffset+info.size())
		copy(b, info[:nameSize])
		binary.NativeEndian.PutUint32(b[nameSize:], uint32(info.size()))
		err := getsockopt(fd, f.level, getEntries, b)
		if errors.Is(err, unix.EAGAIN) { // replaced by one of another size
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the %s table %s of iptables-legacy: %w", f.name, table, err)
		}
		return f.layout.rules(&info, b[entriesOffset:])
	}
	return nil, fmt.Errorf("read the %s table %s of iptables-legacy: it changed during each of %d attempts", f.name, table, attempts)
}

// builtin are the chains of the hooks, in the order of enum nf_inet_hooks.
var builtin = [...]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

// builtins returns the built-in chains of a table by the offset of their first
// entry.
func (i *tableInfo) builtins() map[int]string {
	chains := make(map[int]string)
	valid := binary.NativeEndian.Uint32(i[nameSize:])
	for hook, name := range builtin {
		if valid&(1<<hook) != 0 {
			chains[int(binary.NativeEndian.Uint32(i[nameSize+4+4*hook:]))] = name
		}
	}
	return chains
}

// rules reads the entries of a table twice: a rule may jump to a chain that
// follows.
func (l *layout) rules(info *tableInfo, b []byte) ([]LegacyRule, error) {
	chains := info.builtins()
	head := errorTarget + "\x00"
	err := l.each(b, func(_, next int, _, target []byte) bool {
		if string(target[targetName:targetName+len(head)]) == head {
			chains[next] = unix.ByteSliceToString(target[targetHeader:])
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	var rules []LegacyRule
	chain, number := "", 0
	err = l.each(b, func(at, _ int, matches, target []byte) bool {
		if name, ok := chains[at]; ok {
			chain, number = name, 0
		}
		number++
		r := LegacyRule{Chain: chain, Number: number, Comment: comment(matches), Info: append([]byte{}, target[targetHeader:]...)}
		r.Target = unix.ByteSliceToString(target[targetName : targetHeader-1])
		r.Revision = target[targetHeader-1]
		switch r.Target {
		case errorTarget: // the head of a chain, and the end of the table
			return true
		case "":
			if len(r.Info) >= 4 {
				r.Verdict = standard(int32(binary.NativeEndian.Uint32(r.Info)), chains)
			}
		}
		rules = append(rules, r)
		return true
	})
	return rules, err
}

// standard is the verdict of a target without a name: an offset to go on at, or
// a decision, stored as -NF_DROP - 1 and so on; to return is -NF_REPEAT - 1.
func standard(verdict int32, chains map[int]string) string {
	switch verdict {
	case -1:
		return "drop"
	case -2:
		return "accept"
	case -4:
		return "queue"
	case -5:
		return "return"
	}
	return "jump " + chains[int(verdict)]
}

// comment finds a struct xt_comment_info among the matches of an entry, each a
// struct xt_entry_match with the same header as a target.
func comment(matches []byte) string {
	for len(matches) >= targetHeader {
		size := int(binary.NativeEndian.Uint16(matches))
		if size < targetHeader || size > len(matches) {
			return ""
		}
		if unix.ByteSliceToString(matches[targetName:targetHeader-1]) == "comment" {
			return unix.ByteSliceToString(matches[targetHeader:size])
		}
		matches = matches[size:]
	}
	return ""
}
