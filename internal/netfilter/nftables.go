package netfilter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
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
// asked for by its name, which is a lookup in a hash table under RCU and waits
// for no writer (nf_tables_getchain in net/netfilter/nf_tables_api.c).
func nftRules(chains Mode) ([]Rules, error) {
	if !Loaded() {
		return nil, nil
	}
	s, err := openNFT()
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil // no nfnetlink, no nf_tables
	}
	if err != nil {
		return nil, err
	}
	defer s.close()

	byChain := Rules{Mode: chains, Backend: NFT}
	byTable := Rules{Mode: NFTables, Backend: NFT}
	var errs [4]error
	byChain.IPv4, errs[0] = s.chainInUse(unix.NFPROTO_IPV4, natTable, servicesChain)
	byChain.IPv6, errs[1] = s.chainInUse(unix.NFPROTO_IPV6, natTable, servicesChain)
	byTable.IPv4, errs[2] = s.tableInUse(unix.NFPROTO_IPV4, proxyTable)
	byTable.IPv6, errs[3] = s.tableInUse(unix.NFPROTO_IPV6, proxyTable)
	for _, err := range errs {
		if err != nil { // the others would say the same
			return nil, err
		}
	}
	return appendSome(appendSome(nil, byChain), byTable), nil
}

// nftSocket asks nf_tables one question at a time. The kernel answers within
// the send (netlink_unicast_kernel in net/netlink/af_netlink.c): no call waits.
type nftSocket int

func openNFT() (nftSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, fmt.Errorf("open nfnetlink: %w", err)
	}
	// A socket that is connected to the kernel hears the kernel only.
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("open nfnetlink: %w", err)
	}
	return nftSocket(fd), nil
}

func (s nftSocket) close() { unix.Close(int(s)) }

// chainInUse reports whether a chain is there and counts a user: its rules and
// the jumps to it (nft_use_inc of chain->use).
func (s nftSocket) chainInUse(family byte, table, chain string) (bool, error) {
	request := newRequest(unix.NFT_MSG_GETCHAIN, family)
	request = appendString(request, unix.NFTA_CHAIN_TABLE, table)
	request = appendString(request, unix.NFTA_CHAIN_NAME, chain)
	use, err := s.ask(request, unix.NFTA_CHAIN_USE)
	if err != nil {
		return false, fmt.Errorf("ask nf_tables for the chain %s: %w", chain, err)
	}
	return use > 0, nil
}

// tableInUse reports whether a table is there and counts a user: its chains,
// sets and objects.
func (s nftSocket) tableInUse(family byte, table string) (bool, error) {
	request := appendString(newRequest(unix.NFT_MSG_GETTABLE, family), unix.NFTA_TABLE_NAME, table)
	use, err := s.ask(request, unix.NFTA_TABLE_USE)
	if err != nil {
		return false, fmt.Errorf("ask nf_tables for the table %s: %w", table, err)
	}
	return use > 0, nil
}

// ask returns the number in the attribute use of the one answer to a request,
// and zero if there is no such object.
func (s nftSocket) ask(request []byte, use uint16) (uint32, error) {
	binary.NativeEndian.PutUint32(request, uint32(len(request))) // nlmsg_len
	if _, err := unix.Write(int(s), request); err != nil {
		return 0, err
	}
	var answer [4096]byte // the kernel's own limit is less than a page
	n, _, err := unix.Recvfrom(int(s), answer[:], unix.MSG_DONTWAIT)
	if err != nil {
		return 0, err
	}
	b := answer[:n]
	if len(b) < nlHeader+4 {
		return 0, errShort
	}
	if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR {
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[nlHeader:])))
		if errno == unix.ENOENT {
			return 0, nil
		}
		return 0, errno
	}
	v := attr(b[nlHeader+nfHeader:], use)
	if len(v) != 4 {
		return 0, errShort
	}
	return binary.BigEndian.Uint32(v), nil
}

var errShort = errors.New("the answer lacks something")
