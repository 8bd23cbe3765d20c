// Command build builds the programs of test/cluster, unless the cache has them.
// With -have it only says whether it has: it exits 1 and says what to do if not.
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
			fmt.Fprintln(os.Stderr, "the programs of a cluster are not built, and it takes about 20 minutes of a processor: make cluster does it once")
			os.Exit(1)
		}
		return
	}
	if err := programs.Build(os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}
