package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Read reads the JSON of a way that was written before.
func Read(r io.Reader) (*Way, error) {
	var w Way
	if err := json.NewDecoder(r).Decode(&w); err != nil {
		return nil, err
	}
	if w.Schema != 1 {
		return nil, fmt.Errorf("schema %d is not one that this version knows", w.Schema)
	}
	for i := range w.Packets {
		if len(w.Packets[i].Steps) == 0 {
			return nil, fmt.Errorf("packet %d was nowhere", i+1)
		}
	}
	if !w.Client.IsValid() || !w.Server.IsValid() {
		return nil, errors.New("it has no client or no server")
	}
	return &w, nil
}
