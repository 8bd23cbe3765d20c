package hook

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/test/lab"
)

// BenchmarkSysctl measures one read or write of a sysctl by a process that has it
// open.
func BenchmarkSysctl(b *testing.B) {
	read := func(b *testing.B, fd int) {
		var buf [8]byte
		for b.Loop() {
			if _, err := unix.Pread(fd, buf[:], 0); err != nil {
				b.Fatal(err)
			}
		}
	}
	write := func(text string) func(*testing.B, int) {
		return func(b *testing.B, fd int) {
			for b.Loop() {
				_, _ = unix.Pwrite(fd, []byte(text), 0)
			}
		}
	}
	for _, c := range []struct {
		name string
		hook bool
		path string
		do   func(*testing.B, int)
	}{
		{"read/without", false, ipTables, read},
		{"read/with", true, ipTables, read},
		{"write another key/without", false, ip6Tables, write("1")},
		{"write another key/with", true, ip6Tables, write("1")},
		{"write 1/without", false, ipTables, write("1")},
		{"write 1/with", true, ipTables, write("1")},
		{"write 0, refused", true, ipTables, write("0")},
	} {
		b.Run(c.name, func(b *testing.B) {
			var fd int
			if c.hook {
				fd = locked(b, bridgeKeys[:1], Use{}, Refuse).open(c.path)
			} else {
				fd = (&room{Namespace: lab.NewNamespace(b), t: b}).open(c.path)
			}
			c.do(b, fd)
		})
	}
}

// BenchmarkRead measures what an event costs the reader.
func BenchmarkRead(b *testing.B) {
	r := locked(b, nil, Use{Limit: 1e9}, Refuse)
	fd := r.open(ipTables)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = put(fd, "0")
		if err := r.Read(func(Write) {}); err != nil {
			b.Fatal(err)
		}
	}
}
