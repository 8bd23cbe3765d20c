package claims

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// build makes the test binary of each package, with what package said has to pass.
// The tree is not written to: the compiler is given other text for its files.
func build(root, dir string, all []*pkg) error {
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for i, p := range all {
		for j, name := range p.names {
			if len(p.edits[name]) == 0 {
				continue
			}
			path := filepath.Join(dir, fmt.Sprintf("%d-%d.go", i, j))
			if err := os.WriteFile(path, p.rewritten(j), 0o644); err != nil {
				return err
			}
			overlay.Replace[name] = path
		}
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return err
	}
	args := []string{"test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", path, "-o", dir + "/"}
	for _, p := range all {
		args = append(args, "./"+folder(p.name))
	}
	_, err = goTool(root, args...)
	return err
}

// rewritten is the text of a file with the edits in it. The package that passes
// what is said is imported in the line of the package clause, so that lines keep
// their numbers.
func (p *pkg) rewritten(file int) []byte {
	edits := slices.Clone(p.edits[p.names[file]])
	// At one place what ends comes first, the inner one of two before the outer;
	// of two that begin the outer one.
	slices.SortStableFunc(edits, func(a, b edit) int {
		switch {
		case a.at != b.at:
			return a.at - b.at
		case a.close != b.close:
			if a.close {
				return -1
			}
			return 1
		case a.close:
			return a.width - b.width
		}
		return b.width - a.width
	})
	var out bytes.Buffer
	source := p.source[file]
	at := p.fset.Position(p.files[file].Name.End()).Offset
	out.Write(source[:at])
	out.WriteString(`; import passes "` + module + `test/claims/said"`)
	for _, e := range edits {
		out.Write(source[at:e.at])
		out.WriteString(e.text)
		at = e.at
	}
	out.Write(source[at:])
	return out.Bytes()
}

func binary(dir string, p *pkg) string {
	return filepath.Join(dir, p.name[strings.LastIndex(p.name, "/")+1:]+".test")
}
