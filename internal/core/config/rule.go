package config

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// A rule says what is wrong with a text, or returns nil.
type rule func(s string) *Problem

// of returns v as a string, if it is printable and obeys r.
func (r rule) of(v any) (string, *Problem) {
	s, ok := v.(string)
	if !ok {
		return "", mistyped("a text in quotes", v)
	}
	// Show relies on this: Go and TOML quote printable text alike.
	if strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return "", wrong(fmt.Sprintf("%q holds characters that cannot be printed", s), "retype it")
	}
	return s, r(s)
}

var (
	modulePattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`) // to modprobe, a leading - is an option
	unitPattern   = regexp.MustCompile(`^[A-Za-z0-9:_.@\\-]+\.service$`)
)

func moduleName(s string) *Problem {
	if !modulePattern.MatchString(s) {
		return wrong(fmt.Sprintf("%q is no name of a module", s), "use letters, digits, _ and - only, without .ko")
	}
	return nil
}

func bridgePattern(s string) *Problem {
	if s == "" {
		return wrong("is empty and matches no bridge", `remove it, or write "*" for every bridge`)
	}
	if _, err := path.Match(s, ""); err != nil {
		return wrong(fmt.Sprintf("%q is no well-formed pattern", s), `close every [, and write \[ for the character itself`)
	}
	return nil
}

func processName(s string) *Problem {
	if s == "" || strings.ContainsAny(s, "/ ") {
		return wrong(fmt.Sprintf("%q is no name of a program", s), `write it without directory and arguments, such as "kube-proxy"`)
	}
	return nil
}

func unitName(s string) *Problem {
	if !unitPattern.MatchString(s) {
		return wrong(fmt.Sprintf("%q is no name of a service", s), `write it in full, such as "kube-proxy.service"`)
	}
	return nil
}

// dropinPath requires .conf: systemd-modules-load and systemd-sysctl skip files with
// any other name.
func dropinPath(s string) *Problem { return cleanPath(s, ".conf") }

// textfilePath requires .prom: node_exporter skips files with any other name.
func textfilePath(s string) *Problem {
	if s == "" {
		return nil
	}
	return cleanPath(s, ".prom")
}

func cleanPath(s, ext string) *Problem {
	switch {
	case !path.IsAbs(s):
		return wrong(fmt.Sprintf("%q is not an absolute path", s), "begin it with /")
	case path.Clean(s) != s:
		return wrong(fmt.Sprintf("%q is not a clean path", s), fmt.Sprintf("write %q", path.Clean(s)))
	case path.Ext(s) != ext || path.Base(s) == ext:
		return wrong(fmt.Sprintf("%q does not end in %s, so nothing would read it", s, ext), "name the file NAME"+ext)
	}
	return nil
}
