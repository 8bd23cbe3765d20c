package run

import (
	"encoding/json"
	"path/filepath"

	"github.com/nfguard/nfguard/internal/core/chain"
	"github.com/nfguard/nfguard/internal/files"
)

// chainFile is the name of the file in [Dir] that has the end of the chain of records,
// for the daemon that is started next in this boot.
const chainFile = "chain.json"

// lastLink reads it. Where it is not there, or says nothing that can be, a new chain
// begins, which nfguard events --verify tells of.
func lastLink(dir string) chain.Link {
	var l chain.Link
	text, err := files.ReadNoLink(filepath.Join(dir, chainFile), 4096)
	if err != nil || json.Unmarshal(text, &l) != nil || !l.Valid() {
		return chain.Link{}
	}
	return l
}

// keepLink returns what writes it, to a file system in memory.
func keepLink(dir string) func(chain.Link) {
	return func(l chain.Link) {
		text, err := json.Marshal(l)
		if err != nil {
			panic(err) // it has only text and a number
		}
		// Without it a daemon that is started later begins a new chain, and that is told.
		_ = files.ReplacePrivate(filepath.Join(dir, chainFile), append(text, '\n'), nil)
	}
}
