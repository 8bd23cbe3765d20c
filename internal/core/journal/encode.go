package journal

import (
	"encoding/binary"
	"strings"

	"github.com/nfguard/nfguard/internal/printable"
)

// native encodes an entry in journald's native protocol
// (systemd.io/JOURNAL_NATIVE_PROTOCOL): NAME=value, or, where the value has
// a newline, the name on a line of its own, the length as 64 bits little
// endian, and the value.
func native(fs []Field) []byte {
	b := make([]byte, 0, 1<<10) // a drift record has about 900 bytes
	for _, f := range fs {
		b = append(b, f.Name...)
		if strings.Contains(f.Value, "\n") {
			b = append(b, '\n')
			b = binary.LittleEndian.AppendUint64(b, uint64(len(f.Value)))
		} else {
			b = append(b, '=')
		}
		b = append(b, f.Value...)
		b = append(b, '\n')
	}
	return b
}

// jsonLine encodes an entry as one line: an object of strings, its keys the
// names of the fields in their order.
func jsonLine(fs []Field) []byte {
	b := []byte{'{'}
	for i, f := range fs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, quote(f.Name)...)
		b = append(b, ':')
		b = append(b, quote(f.Value)...)
	}
	return append(b, "}\n"...)
}

func quote(s string) []byte {
	b, err := printable.Marshal(s, "")
	if err != nil {
		panic(err) // no string makes Marshal fail
	}
	return b
}
