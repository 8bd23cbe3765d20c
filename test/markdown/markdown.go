// Package markdown inserts measurements and transcripts into files that people wrote.
package markdown

import (
	"bytes"
	"fmt"
	"os"
)

// Insert replaces what is between two lines of the file at path by text:
// "<!-- WHAT: begin -->" and "<!-- WHAT: end -->".
func Insert(path, what, text string) error {
	begin, end := fmt.Sprintf("<!-- %s: begin -->", what), fmt.Sprintf("<!-- %s: end -->", what)
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := bytes.Cut(old, []byte(begin+"\n"))
	_, tail, ok2 := bytes.Cut(rest, []byte(end+"\n"))
	if !ok || !ok2 {
		return fmt.Errorf("write %s: it has no lines %q and %q", path, begin, end)
	}
	return os.WriteFile(path, fmt.Appendf(nil, "%s%s\n%s%s\n%s", head, begin, text, end, tail), 0o644)
}
