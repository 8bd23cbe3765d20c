package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/diag/trace"
	"github.com/nfguard/nfguard/internal/kernel/nfnl"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
	"github.com/nfguard/nfguard/internal/kernel/xtables"
)

// Of linux/netfilter/nfnetlink_log.h, for which x/sys has no names.
const (
	logPacket = unix.NFNL_SUBSYS_ULOG << 8   // NFULNL_MSG_PACKET
	logConfig = unix.NFNL_SUBSYS_ULOG<<8 | 1 // NFULNL_MSG_CONFIG

	logHeader  = 1  // NFULA_PACKET_HDR: struct nfulnl_msg_packet_hdr
	logIn      = 4  // NFULA_IFINDEX_INDEV
	logOut     = 5  // NFULA_IFINDEX_OUTDEV
	logPayload = 9  // NFULA_PAYLOAD
	logPrefix  = 10 // NFULA_PREFIX

	configCommand = 1 // NFULA_CFG_CMD
	configMode    = 2 // NFULA_CFG_MODE
	configAtOnce  = 5 // NFULA_CFG_QTHRESH
	bindGroup     = 1 // NFULNL_CFG_CMD_BIND
	copyPacket    = 2 // NFULNL_COPY_PACKET

	nflog = "nfnetlink_log"
)

// logged stands for the log of rules among the groups.
const logged = -1

// legacy hears what iptables-legacy does with packets that are marked: it logs
// each rule that matches (trace_packet in net/ipv4/netfilter/ip_tables.c), to
// where the logger of the family goes. That is nfnetlink_log while we listen.
type legacy struct {
	group  *rtnl.Group
	ipv6   bool
	file   string // the family's logger
	before string // what it was
	tables map[string][]xtables.Rule
	err    error // of tables that could not be read
}

// openLegacy listens to iptables-legacy, unless it has no tables of the family:
// then it returns nil.
func openLegacy(family byte) (*legacy, error) {
	if !hasLegacyTable(family, "") {
		return nil, nil
	}
	l, err := listenLegacy(family)
	if err != nil {
		return nil, fmt.Errorf("rules of iptables-legacy are not shown: %w", err)
	}
	return l, nil
}

func listenLegacy(family byte) (*legacy, error) {
	l := &legacy{ipv6: family == unix.NFPROTO_IPV6, tables: make(map[string][]xtables.Rule)}
	l.file = "/proc/sys/net/netfilter/nf_log/" + strconv.Itoa(int(family))
	var err error
	if l.before, err = logger(l.file, family); err != nil {
		return nil, err
	}
	if l.group, err = rtnl.Open(unix.NETLINK_NETFILTER, buffer); err != nil {
		return nil, err
	}
	// Group 0 is where rules are logged to (default_loginfo in
	// net/netfilter/nfnetlink_log.c). All of a short packet, and each at once.
	mode := binary.BigEndian.AppendUint32(nil, 80)
	mode = append(mode, copyPacket, 0)
	err = l.group.Send(nfnl.Request(logConfig, unix.NLM_F_ACK, unix.AF_UNSPEC, nfnl.Attrs{}.
		U8(configCommand, bindGroup).Bytes(configMode, mode).U32(configAtOnce, 1)))
	if err == nil {
		err = l.acknowledged()
	}
	if err == nil {
		err = os.WriteFile(l.file, []byte(nflog), 0)
	}
	if err != nil {
		l.group.Close()
		return nil, err
	}
	return l, nil
}

// acknowledged reads the kernel's answer, which is there already.
func (l *legacy) acknowledged() error {
	var b [unix.SizeofNlMsghdr + 4]byte
	n, err := l.group.Receive(context.Background(), b[:])
	if err != nil {
		return err
	}
	if kind, _, _ := nfnl.Parse(b[:n]); kind != unix.NLMSG_ERROR {
		return errors.New("nfnetlink_log did not answer")
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])))
	if errno == unix.EPERM { // it is bound, and not by us: nfulnl_recv_config
		return errors.New("another program listens to the log of rules (nfnetlink_log, group 0)")
	}
	if errno != 0 {
		return fmt.Errorf("listen to the log of rules: %w", errno)
	}
	return nil
}

// logger returns what the family's logger has to be afterwards: what it is, or,
// if it is nfnetlink_log and nobody listens there, as after a tracer was killed,
// what the kernel has by itself.
func logger(file string, family byte) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(b))
	if name != nflog {
		return name, nil
	}
	listeners, err := os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_log")
	if err != nil || len(bytes.TrimSpace(listeners)) > 0 {
		return name, err
	}
	own := "nf_log_ipv4"
	if family == unix.NFPROTO_IPV6 {
		own = "nf_log_ipv6"
	}
	loggers, err := os.ReadFile("/proc/thread-self/net/netfilter/nf_log")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(loggers)) { // " 2 nfnetlink_log (nf_log_ipv4,nfnetlink_log)"
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == strconv.Itoa(int(family)) && strings.Contains(f[2], own) {
			return own, nil
		}
	}
	return "NONE", nil
}

// close has the logger as it was.
func (l *legacy) close() error {
	defer l.group.Close()
	if l.before == nflog {
		return nil
	}
	if err := os.WriteFile(l.file, []byte(l.before), 0); err != nil {
		return fmt.Errorf("set the logger back to %s: %w", l.before, err)
	}
	return nil
}

// place is where in iptables-legacy a packet was, as the kernel writes it:
// "TRACE: nat:KUBE-SERVICES:rule:2 ".
type place struct {
	table, chain string
	what         string // "rule", "return" or "policy"
	number       int
}

// parse reads a message of nfnetlink_log. It is false for what is no trace.
func (l *legacy) parse(b []byte) (e trace.Event, ok bool) {
	e, p, ok := parseLog(b, l.ipv6)
	if !ok {
		return e, false
	}
	r, end := l.rule(p.table, p.chain, p.number)
	e.Verdict = r.Verdict
	// The kernel takes any rule that decides on all packets for the chain's end,
	// and calls it its return or its policy (get_chainname_rulenum).
	if p.what == "rule" || !end {
		e.Rule = &trace.Rule{Number: p.number, Comment: r.Comment, Action: r.Verdict}
		if r.Target != "" {
			e.Rule.Action = target(l.ipv6, r.Target, r.Revision, r.Info)
		}
	}
	return e, true
}

func parseLog(b []byte, ipv6 bool) (e trace.Event, p place, ok bool) {
	kind, _, in := nfnl.Parse(b)
	if kind != logPacket {
		return e, p, false
	}
	header, payload := nfnl.Find(in, logHeader), nfnl.Find(in, logPayload)
	text, ours := strings.CutPrefix(nfnl.Text(nfnl.Find(in, logPrefix)), "TRACE: ")
	parts := strings.Split(strings.TrimSpace(text), ":") // a chain's name may have colons in it
	n := len(parts)
	if !ours || n < 4 || len(header) < 3 || len(payload) == 0 {
		return e, p, false
	}
	p = place{table: parts[0], chain: strings.Join(parts[1:n-2], ":"), what: parts[n-2]}
	var err error
	if p.number, err = strconv.Atoi(parts[n-1]); err != nil {
		return e, p, false
	}
	family, length := "ip ", int(payload[0]&0xf)*4
	if ipv6 {
		family, length = "ip6 ", 40
	}
	if len(payload) < length {
		return e, p, false
	}
	e = trace.Event{
		Layer: trace.IP, Hook: nfnl.Hook(header[2]).String(), Backend: "legacy", Table: family + p.table, Chain: p.chain,
		In: int(nfnl.Number(nfnl.Find(in, logIn))), Out: int(nfnl.Number(nfnl.Find(in, logOut))),
		Headers: headers(nil, payload[:length], payload[length:min(len(payload), length+20)]),
	}
	return e, p, e.Headers != nil && e.Hook != ""
}

// rule finds a rule by its place, and whether it is the last of its chain, which
// is no rule. The tables are read when they are first asked for; what is not
// there, as after a change, is empty, and said to be the end.
func (l *legacy) rule(table, chain string, n int) (r xtables.Rule, end bool) {
	rules, read := l.tables[table]
	if !read {
		_, err := xtables.Of(l.ipv6).Read(context.Background(), table, xtables.Info{}, func(t *xtables.Table) (err error) {
			rules, err = t.Rules()
			return err
		})
		l.tables[table], l.err = rules, errors.Join(l.err, err)
	}
	for i := range rules {
		if rules[i].Chain == chain && rules[i].Number == n {
			return rules[i], i+1 == len(rules) || rules[i+1].Chain != chain
		}
	}
	return xtables.Rule{}, true
}
