package trace

import "fmt"

// Error messages of ICMP by their names.
const (
	portUnreachable     = "port unreachable"
	timeExceeded        = "time exceeded"
	fragmentationNeeded = "fragmentation needed"
	packetTooBig        = "packet too big"
)

// ICMPErrors are the types of error messages.
func ICMPErrors(p Protocol) []byte {
	if p == ICMPv6 {
		return []byte{1, 2, 3, 4}
	}
	return []byte{3, 11, 12}
}

// ICMPName names a message by its type and code: "echo request", "host
// unreachable", "administratively prohibited". It is "" for one that is neither an
// echo nor an error.
func ICMPName(p Protocol, kind, code byte) string {
	names, other := icmp4, ""
	if p == ICMPv6 {
		names = icmp6
	}
	switch {
	case p == ICMP && kind == 3 || p == ICMPv6 && kind == 1:
		other = fmt.Sprintf("unreachable (code %d)", code)
	case p == ICMP && kind == 11 && code == 1, p == ICMPv6 && kind == 3 && code == 1:
		return "fragment reassembly time exceeded"
	case p == ICMP && kind == 11, p == ICMPv6 && kind == 3:
		return timeExceeded
	case p == ICMP && kind == 12, p == ICMPv6 && kind == 4:
		return "parameter problem"
	case p == ICMPv6 && kind == 2:
		return packetTooBig
	case p == ICMP && kind == 8, p == ICMPv6 && kind == 128:
		return "echo request"
	case p == ICMP && kind == 0, p == ICMPv6 && kind == 129:
		return "echo reply"
	default:
		return ""
	}
	if name, ok := names[code]; ok {
		return name
	}
	return other
}

// The codes of "destination unreachable": RFC 792, 1122 and 1812, and 4443.
var (
	icmp4 = map[byte]string{
		0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: portUnreachable, 4: fragmentationNeeded,
		9: "network administratively prohibited", 10: "host administratively prohibited", 13: "communication administratively prohibited",
	}
	icmp6 = map[byte]string{
		0: "no route to the destination", 1: "communication administratively prohibited", 3: "address unreachable",
		4: portUnreachable, 5: "source address prohibited", 6: "route to the destination prohibited",
	}
)
