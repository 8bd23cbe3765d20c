// Package said is what the ledger of claims puts between the product and its
// tests: each sentence passes through Text, and each condition that decides on
// one through Cond or Tag. By the environment a sentence is garbled, or a
// condition is taken to be what it is not. Nothing imports it but code that
// package claims has rewritten, which is built and never written to the tree.
package said

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// The variables of the environment.
const (
	Garble  = "CLAIMS_GARBLE"  // the number of a sentence: it is printed wrong
	Force   = "CLAIMS_FORCE"   // "12=1,15=0": conditions that are always so, or tags that take a clause
	Instead = "CLAIMS_INSTEAD" // "14,15": sentences that are replaced
	Words   = "CLAIMS_WORDS"   // by what
	Record  = "CLAIMS_RECORD"  // a file that is told what was passed: "s 12" a sentence, "c 12" a condition
)

// Wrong is what is printed instead of a sentence.
const Wrong = "NOT WHAT IS SO"

var (
	garbled = number(os.Getenv(Garble))
	forced  = parse(os.Getenv(Force))
	instead = numbers(os.Getenv(Instead))
	words   = os.Getenv(Words)

	mu     sync.Mutex
	told   = make(map[string]bool)
	record = os.Getenv(Record)
)

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

func numbers(s string) map[int]bool {
	m := make(map[int]bool)
	for _, part := range strings.Split(s, ",") {
		m[number(part)] = true
	}
	return m
}

func parse(s string) map[int]int {
	m := make(map[int]int)
	for _, part := range strings.Split(s, ",") {
		if site, value, ok := strings.Cut(part, "="); ok {
			m[number(site)] = number(value)
		}
	}
	return m
}

func note(kind string, n int) {
	if record == "" {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	line := fmt.Sprintf("%s %d\n", kind, n)
	if told[line] {
		return
	}
	told[line] = true
	f, err := os.OpenFile(record, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line); err != nil {
		panic(err)
	}
}

// Text passes sentence n.
func Text(n int, s string) string {
	note("s", n)
	if n == garbled {
		return Wrong
	}
	if instead[n] {
		return words
	}
	return s
}

// Cond passes the condition at site n.
func Cond[T ~bool](n int, c T) T {
	note("c", n)
	if v, ok := forced[n]; ok {
		return v != 0
	}
	return c
}

// Range passes the list of a loop at site n: forced, there is one thing in it.
func Range[S ~[]E, E any](n int, list S) S {
	note("c", n)
	if _, ok := forced[n]; ok && len(list) == 0 {
		return make(S, 1)
	}
	return list
}

// Tag passes what a switch at site n compares with the clauses' values: forced to
// a number it takes that clause, and to one beyond them the default.
func Tag[T any](n int, x T, clauses ...T) T {
	note("c", n)
	v, ok := forced[n]
	switch {
	case !ok:
		return x
	case v < len(clauses):
		return clauses[v]
	}
	switch r := reflect.ValueOf(&x).Elem(); r.Kind() {
	case reflect.String:
		r.SetString("none of them")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		r.SetInt(-99)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		r.SetUint(99)
	}
	return x
}
