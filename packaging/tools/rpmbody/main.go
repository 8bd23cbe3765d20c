// Command rpmbody writes to its output what an rpm file has after its signature: the
// header that says what the package is, and the files. Two packages with the same body
// are the same package, whoever signed them.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "rpmbody: usage: rpmbody FILE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "rpmbody: error:", err)
		os.Exit(1)
	}
}

func run(path string, out io.Writer) error {
	file, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	rest, err := body(file)
	if err != nil {
		return fmt.Errorf("%s: %v", path, err)
	}
	_, err = out.Write(rest)
	return err
}

const (
	leadSize  = 96
	introSize = 16 // of a header: magic, version, reserved, number of entries, size of their data
	entrySize = 16
)

// body returns what follows the lead and the signature header, which is filled up to
// a multiple of eight bytes.
func body(rpm []byte) ([]byte, error) {
	if len(rpm) < leadSize+introSize || string(rpm[:4]) != "\xed\xab\xee\xdb" || string(rpm[leadSize:leadSize+3]) != "\x8e\xad\xe8" {
		return nil, errors.New("not an rpm")
	}
	intro := rpm[leadSize : leadSize+introSize]
	entries, data := uint64(binary.BigEndian.Uint32(intro[8:])), uint64(binary.BigEndian.Uint32(intro[12:]))
	size := (introSize + entries*entrySize + data + 7) / 8 * 8
	if size > uint64(len(rpm)-leadSize) {
		return nil, errors.New("it ends within its signature")
	}
	return rpm[leadSize+size:], nil
}
