package lab

import (
	"bytes"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schema holds the JSON that a command has printed to its schema in docs/schemas.
func Schema(t testing.TB, name string, text []byte) {
	t.Helper()
	s, err := compiled(name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, text)
		return
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("docs/schemas/%s.json: %v", name, err)
	}
}

var schemas = struct {
	sync.Mutex
	compiled map[string]*jsonschema.Schema
}{compiled: make(map[string]*jsonschema.Schema)}

func compiled(name string) (s *jsonschema.Schema, err error) {
	schemas.Lock()
	defer schemas.Unlock()
	if s = schemas.compiled[name]; s == nil {
		_, here, _, _ := runtime.Caller(0)
		s, err = jsonschema.NewCompiler().Compile(filepath.Join(filepath.Dir(here), "../../docs/schemas", name+".json"))
		schemas.compiled[name] = s
	}
	return s, err
}
