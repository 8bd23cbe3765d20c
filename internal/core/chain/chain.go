// Package chain links records: each has a number without gaps, and the digest of the one
// before. So it shows when one between the first and the last that were kept is missing,
// was changed, is there twice or is out of order. It does not show that the first or the
// last are missing, and it does not keep root from making a chain anew: that is what
// journald's sealing is for.
package chain

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// Field is a field of a record.
type Field struct{ Name, Value string }

// The fields of a link.
const (
	ID       = "NFGUARD_CHAIN"    // of a boot's records, at random
	Sequence = "NFGUARD_SEQUENCE" // from 1
	Previous = "NFGUARD_PREVIOUS" // the digest of the record before; the first has none
)

// Link is the end of a chain. The zero value is the end of none: the next record begins
// one.
type Link struct {
	ID       string `json:"chain"`
	Sequence uint64 `json:"sequence"` // of the last record
	Digest   string `json:"digest"`   // of the last record
}

// Next returns a record with its link, which comes after l, and the end of the chain then.
func (l Link) Next(record []Field) ([]Field, Link) {
	if l.ID == "" {
		l.ID = rand.Text()
	}
	l.Sequence++
	record = append(slices.Clip(record), Field{ID, l.ID}, Field{Sequence, strconv.FormatUint(l.Sequence, 10)})
	if l.Digest != "" {
		record = append(record, Field{Previous, l.Digest})
	}
	l.Digest = Digest(record)
	return record, l
}

// Digest is that of a record, whatever the order of its fields: the first half of a
// SHA-256, in hex.
func Digest(record []Field) string {
	record = slices.Clone(record)
	Sort(record)
	return DigestOf(record, func(int) bool { return true })
}

// Sort sorts fields by name, as [DigestOf] needs them.
func Sort(record []Field) {
	slices.SortStableFunc(record, func(a, b Field) int { return cmp.Compare(a.Name, b.Name) })
}

// DigestOf is [Digest] of those fields of a sorted record that with takes.
func DigestOf(sorted []Field, with func(i int) bool) string {
	b := make([]byte, 0, 2<<10)
	for i, f := range sorted {
		if with(i) {
			b = append(append(b, f.Name...), '=')
			b = append(strconv.AppendInt(b, int64(len(f.Value)), 10), ':')
			b = append(append(b, f.Value...), '\n')
		}
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:len(sum)/2])
}

// Valid reports whether l can be the end of a chain, as read from a file.
func (l Link) Valid() bool {
	digest, err := hex.DecodeString(l.Digest)
	return err == nil && len(digest) == sha256.Size/2 && l.Sequence > 0 && l.ID != "" && len(l.ID) <= 64 &&
		!strings.ContainsFunc(l.ID, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
}
