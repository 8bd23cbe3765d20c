package files

import "strings"

// Quote quotes a name for a shell, if it needs it.
func Quote(name string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/._-+,:@%=", c)
	}
	if name != "" && !strings.ContainsFunc(name, func(c rune) bool { return !plain(c) }) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}
