package config

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

const packagedFile = "../../../config/nfguard.toml"

// TestPackagedFile: config/nfguard.toml and Default agree.
func TestPackagedFile(t *testing.T) {
	packaged, err := os.ReadFile(packagedFile)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("says nothing as it is", func(t *testing.T) {
		c, origins, msg := load(t, map[string]string{mainFile: string(packaged)})
		diff(t, "error", "", msg)
		diff(t, "config", Default(), c)
		diff(t, "origins", Origins{}, origins)
	})

	t.Run("says every default, in order, once uncommented", func(t *testing.T) {
		// Comments have a blank after the #, commented keys have none.
		text := regexp.MustCompile(`(?m)^#([^ \n])`).ReplaceAllString(string(packaged), "$1")
		c, origins, msg := load(t, map[string]string{mainFile: text})
		diff(t, "error", "", msg)
		diff(t, "config", Default(), c)

		var want []string
		for _, e := range Default().Entries(nil) {
			want = append(want, e.Key)
		}
		var got []string
		for key := range origins {
			got = append(got, key)
		}
		slices.SortFunc(got, func(a, b string) int { return origins[a].Line - origins[b].Line })
		diff(t, "keys", want, got)
	})
}
