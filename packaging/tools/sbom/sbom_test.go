package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
	"github.com/xeipuuv/gojsonschema"
)

const root = "../../.."

// made are the two documents of nfguard as it is here.
func made(t *testing.T) (binary, prefix string) {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	dir := t.TempDir()
	binary, prefix = filepath.Join(dir, "nfguard"), filepath.Join(dir, "sbom")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "./cmd/nfguard")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	objects, err := filepath.Glob(root + "/internal/kernel/*/*_bpfel.o")
	if err != nil || len(objects) < 2 {
		t.Fatalf("want objects, got %v (%v)", objects, err)
	}
	// As packaging/build.sh calls it, from the root.
	t.Chdir(root)
	for i := range objects {
		objects[i] = strings.TrimPrefix(objects[i], root+"/")
	}
	if err := run(binary, "0.1.0", "packaging/copyright", prefix, objects); err != nil {
		t.Fatal(err)
	}
	return binary, prefix
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestSBOM holds both documents against the standards and what go version -m says.
func TestSBOM(t *testing.T) {
	binary, prefix := made(t)
	var want []string
	out, err := exec.Command("go", "version", "-m", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); f[0] == "dep" {
			want = append(want, f[1]+"@"+f[2])
		}
	}
	goVersion := strings.TrimPrefix(strings.Fields(strings.SplitN(string(out), "\n", 2)[0])[1], "go")
	want = append(want, "std@"+goVersion, "sysctl_bpfel.o@0.1.0", "exec_bpfel.o@0.1.0", "drops_bpfel.o@0.1.0")
	slices.Sort(want)
	if len(want) < 10 {
		t.Fatalf("the binary has few modules: %v", want)
	}

	t.Run("CycloneDX", func(t *testing.T) {
		text := contents(t, prefix+".cdx.json")
		validate(t, text)
		var bom cdx.BOM
		if err := cdx.NewBOMDecoder(bytes.NewReader(text), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
			t.Fatal(err)
		}
		var got []string
		licences := map[string]string{}
		for _, c := range *bom.Components {
			got = append(got, c.Name+"@"+c.Version)
			licences[c.Name] = (*c.Licenses)[0].Expression
		}
		slices.Sort(got)
		if !reflect.DeepEqual(want, got) {
			t.Errorf("want %v\ngot %v", want, got)
		}
		for name, want := range map[string]string{
			"github.com/cilium/ebpf": "MIT", "golang.org/x/sys": "BSD-3-Clause",
			"sysctl_bpfel.o": "Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only", "exec_bpfel.o": "Apache-2.0", "drops_bpfel.o": "Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only",
		} {
			if licences[name] != want {
				t.Errorf("%s: want %s, got %q", name, want, licences[name])
			}
		}
		if bom.Metadata.Timestamp != "2023-11-14T22:13:20Z" || (*bom.Metadata.Component.Hashes)[0].Value != digest(contents(t, binary)) {
			t.Errorf("%+v", bom.Metadata)
		}
	})
	t.Run("SPDX", func(t *testing.T) {
		doc, err := spdxjson.Read(bytes.NewReader(contents(t, prefix+".spdx.json")))
		if err != nil {
			t.Fatal(err)
		}
		if err := spdxlib.ValidateDocument(doc); err != nil {
			t.Error(err)
		}
		var got []string
		for _, p := range doc.Packages[1:] {
			got = append(got, p.PackageName+"@"+p.PackageVersion)
			if strings.Contains(p.PackageLicenseDeclared, "NOASSERTION") {
				t.Errorf("%s has no licence", p.PackageName)
			}
		}
		slices.Sort(got)
		if !reflect.DeepEqual(want, got) {
			t.Errorf("want %v\ngot %v", want, got)
		}
	})
	t.Run("the same again", func(t *testing.T) {
		objects, _ := filepath.Glob("internal/kernel/*/*_bpfel.o")
		if err := run(binary, "0.1.0", "packaging/copyright", prefix+"2", objects); err != nil {
			t.Fatal(err)
		}
		for _, format := range []string{".cdx.json", ".spdx.json"} {
			if !bytes.Equal(contents(t, prefix+format), contents(t, prefix+"2"+format)) {
				t.Errorf("%s differs", format)
			}
		}
	})
	t.Run("a module without a licence", func(t *testing.T) {
		text := strings.Replace(string(contents(t, "packaging/copyright")), "Files: github.com/cilium/ebpf", "Files: github.com/cilium/other", 1)
		file := filepath.Join(t.TempDir(), "copyright")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := run(binary, "0.1.0", file, prefix+"3", nil)
		if want := file + " names no licence of github.com/cilium/ebpf"; err == nil || err.Error() != want {
			t.Errorf("want %q, got %v", want, err)
		}
	})
}

// validate holds a document against the schema that comes with the library.
func validate(t *testing.T, text []byte) {
	t.Helper()
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go")
	list.Dir = "packaging/tools"
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(out)) + "/schema/"
	loader := gojsonschema.NewSchemaLoader()
	for _, name := range []string{"jsf-0.82.schemax.json", "spdx.schema.json"} {
		if err := loader.AddSchemas(gojsonschema.NewBytesLoader(contents(t, dir+name))); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := loader.Compile(gojsonschema.NewBytesLoader(contents(t, dir+"bom-1.6.schema.json")))
	if err != nil {
		t.Fatal(err)
	}
	result, err := schema.Validate(gojsonschema.NewBytesLoader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range result.Errors() {
		t.Error(e)
	}
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil || document["specVersion"] != "1.6" {
		t.Errorf("specVersion: %v (%v)", document["specVersion"], err)
	}
}
