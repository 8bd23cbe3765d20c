package host

import (
	"context"
	"fmt"

	"github.com/nfguard/nfguard/internal/core/boot"
	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/files"
)

// Tree is the files of a host that is not running: an image that is being
// built. It has no kernel: no sysctl, no module, no bridge and no program, and no method
// that could reach those of the host that it is on. Everything that it reads and writes is
// inside its directory, whatever the links there say.
type Tree struct {
	dir      string
	forecast boot.Report
}

// NewTree returns the tree below dir.
func NewTree(dir string) *Tree { return &Tree{dir: dir} }

// Survey looks at the drop-ins, and at what the next boot will bring for p.
func (t *Tree) Survey(p *guard.Policy) guard.Observation {
	f, err := files.OpenImage(t.dir)
	if err == nil {
		defer f.Close()
	}
	t.forecast = boot.Forecast(boot.Options{
		Root: t.dir, Image: true, Apply: "nfguard apply --root " + files.Quote(t.dir),
		Keys: p.Sysctls, Module: p.Module, Unneeded: !p.NeedsModule(), SysctlD: p.SysctlD, ModulesLoad: p.ModulesLoad,
	})
	o := guard.Observation{Dropins: dropins(context.Background(), f, err, p), NextBoot: nextBoot(&t.forecast)}
	carried(o.Dropins, p, &t.forecast)
	return o
}

// Forecast is what the last survey found about the next boot, in full.
func (t *Tree) Forecast() boot.Report { return t.forecast }

// Write puts a drop-in in place as a whole, and makes its directory where there
// is none. It refuses to replace a file that is not nfguard's.
func (t *Tree) Write(path, content string) error {
	f, err := files.OpenImage(t.dir)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer f.Close()
	return written(path, f.Replace(path, []byte(content), guard.Ours))
}
