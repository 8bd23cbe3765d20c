// Command build builds the programs of test/cluster, unless they are in the cache; with
// -conformance, those of Kubernetes' own tests. With -have it only checks that: if they
// are missing, it exits 1 and says what to do.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/nfguard/nfguard/test/cluster/programs"
)

func main() {
	have := flag.Bool("have", false, "only look")
	conformance := flag.Bool("conformance", false, "Kubernetes' own tests")
	flag.Parse()
	p, target := programs.Cluster, "cluster"
	if *conformance {
		p, target = programs.Conformance, "conformance"
	}
	if *have {
		if !p.Have() {
			fmt.Fprintf(os.Stderr, "%s are not built yet, which takes %s: make %s does it once\n", p, p.Cost(), target)
			os.Exit(1)
		}
		return
	}
	if err := p.Build(os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}
