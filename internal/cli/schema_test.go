package cli

import (
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/nfguard/nfguard/internal/core/config"
	"github.com/nfguard/nfguard/internal/diag/fleet"
	"github.com/nfguard/nfguard/internal/diag/trace"
)

var renew = flag.Bool("schemas", false, "write docs/schemas anew")

// schemas is where the published ones are.
const schemas = "../../docs/schemas"

// eventsDocument is what jsonEvents writes piece by piece.
type eventsDocument struct {
	Schema int        `json:"schema"`
	Events []eventRow `json:"events"`
	Fights []fightRow `json:"fights"`
	Totals totalsRow  `json:"totals"`
}

// eventLine is what jsonLines writes.
type eventLine struct {
	Schema int `json:"schema"`
	eventRow
}

type configDocument struct {
	Schema  int            `json:"schema"`
	Entries []config.Entry `json:"entries"`
}

// documents are what the commands print with -o json, by the names of their schemas.
var documents = map[string]any{
	"check":         document{},
	"check-merge":   fleet.Report{},
	"config-show":   configDocument{},
	"events":        eventsDocument{},
	"events-follow": eventLine{},
	"events-verify": verifyDocument{},
	"impact":        impactDocument{},
	"pause":         pauseResult{},
	"probe":         proofDocument{},
	"probe-bridge":  realProof{},
	"probe-dns":     dnsDocument{},
	"status":        statusView{},
	"trace":         trace.Path{},
	"trace-compare": trace.Comparison{},
}

// schemaOf is made of the types: what has no omitempty is required, and what is not
// said here may come with a later version.
func schemaOf(name string, v any) (text []byte, err error) {
	r := jsonschema.Reflector{
		Anonymous: true, AllowAdditionalProperties: true, ExpandedStruct: true,
		Namer: func(t reflect.Type) string { // two packages can have a type of one name
			if t.Name() == "" {
				return ""
			}
			return path.Base(t.PkgPath()) + "." + t.Name()
		},
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			switch {
			case t == reflect.TypeFor[time.Duration]():
				return &jsonschema.Schema{Type: "integer", Description: "nanoseconds"}
			case t != reflect.TypeFor[time.Time]() && t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
				return &jsonschema.Schema{Type: "string"}
			}
			return nil
		},
	}
	s := r.ReflectFromType(reflect.TypeOf(v))
	s.Title = "nfguard " + strings.ReplaceAll(name, "-", " ")
	text, err = json.MarshalIndent(s, "", "  ")
	return append(text, '\n'), err
}

// TestSchemas holds docs/schemas to what the commands can print. A field that was
// published is never dropped, renamed or given another type; a new one is added by
// go test ./internal/cli -run TestSchemas -schemas.
func TestSchemas(t *testing.T) {
	var files []string
	for name, v := range documents {
		files = append(files, name+".json")
		text, err := schemaOf(name, v)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(schemas, name+".json")
		published, err := os.ReadFile(file)
		if err != nil && !*renew {
			t.Error(err)
			continue
		}
		for _, gone := range dropped(t, published, text) {
			t.Errorf("%s: %s was published, and is not the same any more", file, gone)
		}
		switch {
		case *renew:
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
		case string(published) != string(text):
			t.Errorf("%s is not what the command prints now: go test ./internal/cli -run TestSchemas -schemas", file)
		}
	}
	there, err := os.ReadDir(schemas)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range there {
		if strings.HasSuffix(f.Name(), ".json") && !slices.Contains(files, f.Name()) {
			t.Errorf("docs/schemas/%s is of no command", f.Name())
		}
	}
}

// TestDropped: the check that nothing published goes away can fail.
func TestDropped(t *testing.T) {
	const before = `{"properties": {"a": {"type": "string"}, "b": {"items": {"properties": {"c": {"type": "integer"}}}}, "d": {"type": "string"}}}`
	const after = `{"properties": {"a": {"type": "integer"}, "b": {"items": {"properties": {"e": {"type": "integer"}}}}, "d": {"type": "string"}, "f": {}}}`
	got := dropped(t, []byte(before), []byte(after))
	if want := []string{"/properties/a/type", "/properties/b/items/properties/c"}; !slices.Equal(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
}

// dropped lists what is in one schema and not, or otherwise, in another: properties and
// types. What was required can become more, and words can change.
func dropped(t *testing.T, before, after []byte) (paths []string) {
	t.Helper()
	var a, b any
	if len(before) == 0 {
		return nil
	}
	if err := json.Unmarshal(before, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(after, &b); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, a, b any)
	walk = func(path string, a, b any) {
		was, ok := a.(map[string]any)
		if !ok {
			if strings.HasSuffix(path, "/type") && fmt.Sprint(a) != fmt.Sprint(b) {
				paths = append(paths, path)
			}
			return
		}
		is, ok := b.(map[string]any)
		if !ok {
			paths = append(paths, path)
			return
		}
		for k, v := range was {
			switch k {
			case "required", "description", "title":
				continue
			}
			walk(path+"/"+k, v, is[k])
		}
	}
	walk("", a, b)
	slices.Sort(paths)
	return paths
}
