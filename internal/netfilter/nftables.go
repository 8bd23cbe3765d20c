package netfilter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/rtnl"
)

// Loaded reports whether nf_tables is in the kernel. To ask nf_tables itself,
// or to join its group, would have the kernel load it (nfnetlink_rcv_msg and
// nfnetlink_bind in net/netfilter/nfnetlink.c), so this looks elsewhere first.
func Loaded() bool { return loaded("/") }

// loaded works on the tree at root. A module that is loaded has a directory in
// sysfs; one that is built in has none, since it has no parameters, and is told
// from one that is absent by the index that modprobe goes by. Where there is no
// index, modprobe finds nothing to load either, and asking is safe.
func loaded(root string) bool {
	exists := func(path string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	}
	if exists("sys/module/nf_tables") || !exists("proc/modules") { // a kernel without modules
		return true
	}
	release, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/osrelease"))
	if err != nil {
		return false
	}
	index, err := os.ReadFile(filepath.Join(root, "lib/modules", strings.TrimSpace(string(release)), "modules.builtin"))
	return err != nil || bytes.Contains(index, []byte("/nf_tables.ko\n"))
}

// nftRules finds what kube-proxy has in nf_tables: the tables of its mode
// nftables, and the chains in which iptables-nft keeps the others. Each is
// asked for by its name, which waits for no writer: the kernel answers under
// RCU (nf_tables_cb in net/netfilter/nf_tables_api.c).
func nftRules(chains Mode) ([]Rules, error) {
	if !Loaded() {
		return nil, nil
	}
	byChain := Rules{Mode: chains, Backend: NFT}
	byTable := Rules{Mode: NFTables, Backend: NFT}
	for _, f := range []struct {
		nfproto        byte
		chains, tables *bool
	}{
		{unix.NFPROTO_IPV4, &byChain.IPv4, &byTable.IPv4},
		{unix.NFPROTO_IPV6, &byChain.IPv6, &byTable.IPv6},
	} {
		s, err := openNFT()
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			return nil, nil // no nfnetlink, no nf_tables
		}
		if err != nil {
			return nil, err
		}
		*f.tables, err = s.hasTable(f.nfproto, proxyTable)
		if err == nil {
			*f.chains, err = s.hasRule(f.nfproto, natTable, servicesChain)
		}
		s.close()
		if err != nil {
			return nil, err // the other family would say the same
		}
	}
	return appendSome(appendSome(nil, byChain), byTable), nil
}

// nftSocket asks nf_tables one question at a time: see [rtnl.Dial].
//
// Answers are about what is committed. The use counts that the kernel gives
// with tables and chains are not: they follow a transaction that is still being
// read, so that what is removed and made anew in one has no users for a while.
type nftSocket int

func openNFT() (nftSocket, error) {
	fd, err := rtnl.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, fmt.Errorf("open nfnetlink: %w", err)
	}
	return nftSocket(fd), nil
}

func (s nftSocket) close() { unix.Close(int(s)) }

// hasTable reports whether a table is there.
func (s nftSocket) hasTable(family byte, table string) (bool, error) {
	request := newRequest(unix.NFT_MSG_GETTABLE, 0, family)
	request = appendString(request, unix.NFTA_TABLE_NAME, table)
	answer, err := s.ask(request)
	if err != nil {
		return false, fmt.Errorf("ask nf_tables for the table %s: %w", table, err)
	}
	return answer == messageType(unix.NFT_MSG_NEWTABLE), nil
}

// hasRule reports whether a chain is there and holds a rule. It begins a dump
// of the chain and reads its first part, of one page at most; the kernel goes
// on with it when more is read, and gives up when the socket is closed, which
// is all that it is good for then (netlink_dump in net/netlink/af_netlink.c).
func (s nftSocket) hasRule(family byte, table, chain string) (bool, error) {
	request := newRequest(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, family)
	request = appendString(request, unix.NFTA_RULE_TABLE, table)
	request = appendString(request, unix.NFTA_RULE_CHAIN, chain)
	answer, err := s.ask(request)
	if err != nil {
		return false, fmt.Errorf("ask nf_tables for the chain %s: %w", chain, err)
	}
	return answer == messageType(unix.NFT_MSG_NEWRULE), nil
}

// ask returns the type of the first message of the answer to a request, and
// zero if there is no such object.
func (s nftSocket) ask(request []byte) (uint16, error) {
	binary.NativeEndian.PutUint32(request, uint32(len(request))) // nlmsg_len
	if _, err := unix.Write(int(s), request); err != nil {
		return 0, err
	}
	var b [nlHeader + 4]byte // the rest of the datagram is dropped
	n, err := rtnl.Answer(int(s), b[:])
	if err != nil {
		return 0, err
	}
	if n < len(b) {
		return 0, io.ErrUnexpectedEOF
	}
	answer := binary.NativeEndian.Uint16(b[4:])
	if answer == unix.NLMSG_ERROR {
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[nlHeader:])))
		if errno == unix.ENOENT {
			return 0, nil
		}
		return 0, errno
	}
	return answer, nil
}
