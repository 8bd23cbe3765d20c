package boot

import (
	"path"
	"slices"
	"strings"
)

// expand returns what a word stands for, and false where that is not known. A
// pattern of files stands for those that matter: the guarded sysctls.
func (s *shell) expand(t *token, files bool) (words []string, known bool) {
	if len(t.parts) > maxParts {
		return nil, false
	}
	words, known = []string{""}, true
	glob := false
	for _, p := range t.parts {
		values := []string{p.text}
		if p.variable {
			values = s.vars[p.text]
			if p.text == "" || values == nil {
				return nil, false
			}
		}
		glob = glob || !p.quoted && isGlob(p.text)
		var all []string
		for _, w := range words {
			for _, v := range values {
				if len(w)+len(v) > maxWord || len(all) == maxParts {
					return nil, false
				}
				all = append(all, w+v)
			}
		}
		words = all
	}
	if !glob || !files {
		return words, known
	}
	var all []string
	for _, w := range words {
		for _, key := range s.f.paths {
			if full := "/proc/sys/" + key; globs(s.absolute(w), full) {
				all = append(all, full)
			}
		}
	}
	return all, known
}

// fields is expand of a word that is split at the blanks of a variable that is
// not in quotes, as a shell does. One that has blanks in quotes, too, is not known.
func (s *shell) fields(t *token, files bool) (words []string, known bool) {
	words, known = s.expand(t, files)
	bare, blanks := false, false
	for _, p := range t.parts {
		bare = bare || p.variable && !p.quoted
		blanks = blanks || p.quoted && (p.variable || strings.ContainsAny(p.text, blank+"\n"))
	}
	if !bare || !known || !slices.ContainsFunc(words, func(w string) bool { return strings.ContainsAny(w, blank+"\n") }) {
		return words, known
	}
	if blanks {
		return nil, false
	}
	var all []string
	for _, w := range words {
		all = append(all, strings.Fields(w)...)
	}
	return all, len(all) <= maxParts
}

func (s *shell) absolute(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(s.dir, name)
}
