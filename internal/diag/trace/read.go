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

// MaxText bounds the JSON of a path: the longest, of 4,096 packets, has some
// 20 MB.
const MaxText = 32 << 20

// maxCommas bounds what is made of it: one value is a few bytes in the text and
// a few hundred in memory.
const maxCommas = 1 << 20

// Read takes the JSON of a path that was written before.
func Read(text []byte) (*Path, error) {
	if bytes.Count(text, []byte(",")) > maxCommas {
		return nil, errors.New("it is longer than any trace")
	}
	var w Path
	if err := json.Unmarshal(text, &w); err != nil {
		return nil, err
	}
	switch {
	case w.Schema != 1:
		return nil, fmt.Errorf("schema %d is not one that this version knows", w.Schema)
	case !w.Client.IsValid() || !w.Server.IsValid():
		return nil, errors.New("it has no client or no server")
	case !slices.Contains([]Verdict{Answered, Refused, Untranslated, Dropped, Unanswered, Unseen}, w.Verdict):
		return nil, fmt.Errorf("verdict %q is not one that this version knows", w.Verdict)
	}
	for i := range w.Packets {
		if len(w.Packets[i].Steps) == 0 {
			return nil, fmt.Errorf("packet %d was nowhere", i+1)
		}
	}
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
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
