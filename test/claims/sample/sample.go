// Package sample says things, for the test of the ledger that tells which of them
// its tests hold.
package sample

import (
	"errors"
	"fmt"
)

// Finding is one thing that is said.
type Finding struct{ Sentence, Next string }

var errBroken = errors.New("this is an error and no claim")

// Door says what is seen of a door.
func Door(open, locked bool, why error) []Finding {
	var list []Finding
	if open {
		list = append(list, Finding{Sentence: "the door is open", Next: "go and close it"})
	}
	if locked {
		list = append(list, Finding{Sentence: "the door is locked"})
	}
	if why != nil {
		list = append(list, Finding{Sentence: fmt.Sprintf("the door could not be seen: %v", why)})
	}
	return list
}

// Colour names a colour, without regard to who looks at it.
func Colour(n int) string {
	switch n {
	case 1:
		return "the door is red"
	case 2:
		return "the door is green"
	}
	return "the door has no colour"
}

// Broken reports what cannot be.
func Broken() error { return errBroken }
