// Command build builds the programs of test/cluster, unless they are in the cache. With
// -have it only checks that: if they are missing, it exits 1 and says what to do.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/nfguard/nfguard/test/cluster/programs"
)

func main() {
	have := flag.Bool("have", false, "only look")
	flag.Parse()
	if *have {
		if !programs.Have() {
			fmt.Fprintln(os.Stderr, "the programs of a cluster are not built yet, which takes about 20 minutes of processor time: make cluster does it once")
			os.Exit(1)
		}
		return
	}
	if err := programs.Build(os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}
