package main

import (
	"errors"
	"strings"
)

// spdxNames are the licences that Debian calls otherwise than SPDX does.
var spdxNames = map[string]string{"Expat": "MIT", "GPL-2": "GPL-2.0-only", "or": "OR", "and": "AND"}

// parseCopyright returns the SPDX expression for each name that a Files field of
// Debian's machine-readable copyright file has.
func parseCopyright(text string) (map[string]string, error) {
	licences := map[string]string{}
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		var files []string
		var licence, field string
		for line := range strings.Lines(paragraph) {
			value := strings.TrimSpace(line)
			if !strings.HasPrefix(line, " ") {
				field, value, _ = strings.Cut(line, ":")
				value = strings.TrimSpace(value)
				if field == "License" {
					licence = value
				}
			}
			if field == "Files" {
				files = append(files, strings.Fields(value)...)
			}
		}
		if len(files) > 0 && licence == "" {
			return nil, errors.New(files[0] + " has no License")
		}
		words := strings.Fields(licence)
		for i, word := range words {
			if name, ok := spdxNames[word]; ok {
				words[i] = name
			}
		}
		for _, file := range files {
			licences[file] = strings.Join(words, " ")
		}
	}
	return licences, nil
}
