package boot

import "strings"

func isGlob(name string) bool { return strings.ContainsAny(name, "*?[") }

// globs reports whether a pattern of glob(7) stands for name, with no wildcard
// standing for a slash. Named classes ([[:alpha:]]) are not known here.
func globs(pattern, name string) bool {
	for pattern != "" {
		if pattern[0] == '*' {
			for i := 0; ; i++ {
				if globs(pattern[1:], name[i:]) {
					return true
				}
				if i == len(name) || name[i] == '/' {
					return false
				}
			}
		}
		if name == "" {
			return false
		}
		size, ok := 1, false
		switch c := pattern[0]; {
		case c == '?':
			ok = name[0] != '/'
		case c == '[':
			size, ok = class(pattern, name[0])
		case c == '\\' && len(pattern) > 1:
			size, ok = 2, pattern[1] == name[0]
		default:
			ok = c == name[0]
		}
		if !ok {
			return false
		}
		pattern, name = pattern[size:], name[1:]
	}
	return name == ""
}

// class matches the class at the start of a pattern, and says how long it is.
// A "[" that nothing closes is a character like any other.
func class(pattern string, c byte) (size int, ok bool) {
	i := 1
	negated := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if negated {
		i++
	}
	in := false
	for first := true; i < len(pattern) && (first || pattern[i] != ']'); first = false {
		low := pattern[i]
		high := low
		if i++; i+1 < len(pattern) && pattern[i] == '-' && pattern[i+1] != ']' {
			high = pattern[i+1]
			i += 2
		}
		in = in || low <= c && c <= high
	}
	if i >= len(pattern) {
		return 1, c == '['
	}
	return i + 1, in != negated && c != '/'
}

// braces expands a{b,c}d, as glob(3) with GLOB_BRACE. At most 64 results: a
// line of a file must not cost more.
func braces(pattern string) []string {
	done, todo := []string(nil), []string{pattern}
	for len(todo) > 0 && len(done)+len(todo) <= 64 {
		p := todo[0]
		todo = todo[1:]
		start, parts, end := brace(p)
		if parts == nil {
			done = append(done, p)
			continue
		}
		for _, part := range parts {
			todo = append(todo, p[:start]+part+p[end:])
		}
	}
	return append(done, todo...)
}

// brace finds the first balanced {a,b}: where it starts, its parts, where it
// ends. There are no parts when there is none.
func brace(p string) (start int, parts []string, end int) {
	start = strings.IndexByte(p, '{')
	if start < 0 {
		return 0, nil, 0
	}
	depth, from := 0, start+1
	for i := start; i < len(p); i++ {
		switch {
		case p[i] == '{':
			depth++
		case p[i] == ',' && depth == 1:
			parts = append(parts, p[from:i])
			from = i + 1
		case p[i] == '}':
			if depth--; depth == 0 {
				return start, append(parts, p[from:i]), i + 1
			}
		}
	}
	return 0, nil, 0
}
