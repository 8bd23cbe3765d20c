package trace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/nfguard/nfguard/internal/printable"
)

// Read reads the JSON of a way that was written before.
func Read(r io.Reader) (*Way, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var w Way
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	switch {
	case w.Schema != 1:
		return nil, fmt.Errorf("schema %d is not one that this version knows", w.Schema)
	case !w.Client.IsValid() || !w.Server.IsValid():
		return nil, errors.New("it has no client or no server")
	case !slices.Contains([]Verdict{Answered, Untranslated, Dropped, Unanswered, Unseen}, w.Verdict):
		return nil, fmt.Errorf("verdict %q is not one that this version knows", w.Verdict)
	}
	for i := range w.Packets {
		if len(w.Packets[i].Steps) == 0 {
			return nil, fmt.Errorf("packet %d was nowhere", i+1)
		}
	}
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return &w, nil
		}
		if err != nil {
			return nil, err
		}
		if s, ok := token.(string); ok && printable.Text(s) != s {
			return nil, fmt.Errorf("%q cannot be shown", s)
		}
	}
}
