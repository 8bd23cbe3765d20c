package sample

import (
	"strings"
	"testing"
)

func said(list []Finding) string {
	var all []string
	for _, f := range list {
		all = append(all, f.Sentence)
	}
	return strings.Join(all, "; ")
}

// TestDoor compares all that is said, of a door that is open or not, and of nothing else.
func TestDoor(t *testing.T) {
	for name, tt := range map[string]struct {
		open bool
		want string
	}{"open": {true, "the door is open"}, "closed": {false, ""}} {
		t.Run(name, func(t *testing.T) {
			if got := said(Door(tt.open, false, nil)); got != tt.want {
				t.Errorf("it says %q, want %q", got, tt.want)
			}
		})
	}
}

// TestLocked has it said, and compares nothing.
func TestLocked(t *testing.T) {
	if len(Door(false, true, nil)) != 1 {
		t.Error("nothing is said")
	}
}

// TestColour sees only that a door that should be red is not said to be green.
func TestColour(t *testing.T) {
	if Colour(1) == "the door is green" {
		t.Error("it is green")
	}
}
