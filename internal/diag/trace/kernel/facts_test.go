package kernel

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nfguard/nfguard/internal/diag/trace"
)

func TestParseCounters(t *testing.T) {
	const text = `Ip: Forwarding DefaultTTL InReceives InHdrErrors
Ip: 1 64 700 3
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors
Udp: 1 2 3 4 5
TcpExt: ListenOverflows
TcpExt: 7 8
`
	got := map[string]uint64{}
	parseCounters(text, got)
	if diff := cmp.Diff(map[string]uint64{"Ip InHdrErrors": 3, "Udp RcvbufErrors": 5}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseSockets(t *testing.T) {
	const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 1 1
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   3: 0100007F:1F90 0100007F:D6D8 01 00000000:00000000 00:00000000 00000000     0        0 3 1
   4: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000001 00:00000000 00000000
   5: 000:1F90 0:0 0A x
   6: 0100007F:1F90 00000000:0000 0A 00000000
`
	want := []trace.Listener{
		{Address: netip.MustParseAddrPort("127.0.0.1:8080"), Waiting: 2},
		{Address: netip.MustParseAddrPort("0.0.0.0:8080")},
		{Address: netip.MustParseAddrPort("[::]:8080"), Waiting: 1},
	}
	if diff := cmp.Diff(want, parseSockets(tcp, "0A", 8080), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
