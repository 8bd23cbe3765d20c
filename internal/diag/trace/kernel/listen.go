package kernel

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/nfguard/nfguard/internal/diag/trace"
)

// listeners are the sockets at a port in the network namespace of a process, of
// TCP those that listen, of UDP those that are not connected.
func listeners(process string, p trace.Protocol, port uint16) (list []trace.Listener) {
	name, state := "tcp", "0A" // TCP_LISTEN
	switch {
	case p.Echo():
		return nil
	case p == trace.UDP:
		name, state = "udp", "07" // TCP_CLOSE, which an unconnected one has
	}
	for _, file := range []string{name, name + "6"} {
		text, err := os.ReadFile("/proc/" + process + "/net/" + file)
		if err != nil {
			continue
		}
		list = append(list, parseSockets(string(text), state, port)...)
	}
	return list
}

// parseSockets reads lines such as "0: 0100007F:1F90 00000000:0000 0A
// 00000000:00000002 …": of its own end, of the other, the state, and the queues of
// what is to be sent and of what was received.
func parseSockets(text, state string, port uint16) (list []trace.Listener) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[3] != state {
			continue
		}
		at, ok := socketAddress(fields[1])
		_, received, _ := strings.Cut(fields[4], ":")
		waiting, err := strconv.ParseUint(received, 16, 32)
		if ok && err == nil && at.Port() == port {
			list = append(list, trace.Listener{Address: at, Waiting: int(waiting)})
		}
	}
	return list
}

// socketAddress reads an address that is written as numbers of the machine's own
// order, four bytes each, and its port.
func socketAddress(s string) (netip.AddrPort, bool) {
	address, number, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(address)
	port, err2 := strconv.ParseUint(number, 16, 16)
	if err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(port)), ok
}
