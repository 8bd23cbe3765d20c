// Command sbom writes what is linked into a binary of nfguard as a bill of materials,
// in the format of CycloneDX 1.6 and in that of SPDX 2.3.
//
// The modules are those that the go tool recorded in the binary, the licences those of
// packaging/copyright: a module that is not named there is an error. One binary gives
// the same bytes; the time is that of SOURCE_DATE_EPOCH.
package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

func main() {
	binary := flag.String("binary", "", "the `file` with the program")
	release := flag.String("version", "", "its version")
	copyright := flag.String("copyright", "", "the `file` with the licences, packaging/copyright")
	out := flag.String("out", "", "`prefix` of the two files to write, .cdx.json and .spdx.json follow")
	flag.Parse()
	if err := run(*binary, *release, *copyright, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "sbom: error:", err)
		os.Exit(1)
	}
}

func run(binary, release, copyright, out string, objects []string) error {
	b, err := read(binary, release, copyright, objects)
	if err != nil {
		return err
	}
	cdx, err := cycloneDX(b)
	if err != nil {
		return err
	}
	spdx, err := spdxDocument(b)
	if err != nil {
		return err
	}
	if err := os.WriteFile(out+".cdx.json", cdx, 0o644); err != nil {
		return err
	}
	return os.WriteFile(out+".spdx.json", spdx, 0o644)
}

// bill is what a binary is made of.
type bill struct {
	version string
	arch    string
	sum     string // SHA-256 of the binary, in hexadecimal
	licence string // SPDX expression
	time    time.Time
	modules []module
	objects []object
}

// module is a Go module that is linked into the binary; the standard library is "std".
type module struct{ path, version, sum, licence string }

// object is a compiled BPF program that the binary carries.
type object struct{ path, sum, licence string }

func (m module) purl() string { return "pkg:golang/" + m.path + "@" + m.version }

func read(binary, release, copyright string, objects []string) (bill, error) {
	text, err := os.ReadFile(copyright)
	if err != nil {
		return bill{}, err
	}
	licences, err := parseCopyright(string(text))
	if err != nil {
		return bill{}, fmt.Errorf("%s: %v", copyright, err)
	}
	licence := func(of string) (string, error) {
		if l, ok := licences[of]; ok {
			return l, nil
		}
		return "", fmt.Errorf("%s names no licence of %s", copyright, of)
	}
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return bill{}, fmt.Errorf("SOURCE_DATE_EPOCH: %v", err)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return bill{}, err
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return bill{}, fmt.Errorf("%s: %v", binary, err)
	}
	b := bill{version: release, sum: digest(program), time: time.Unix(epoch, 0).UTC()}
	for _, s := range info.Settings {
		if s.Key == "GOARCH" {
			b.arch = s.Value
		}
	}
	if b.licence, err = licence("*"); err != nil {
		return bill{}, err
	}
	// The tag of a patched Go has more in it than the release.
	std := strings.TrimPrefix(strings.Fields(info.GoVersion)[0], "go")
	b.modules = []module{{path: "std", version: std}}
	for _, d := range info.Deps {
		if d.Replace != nil {
			return bill{}, fmt.Errorf("%s is replaced, and the licence of what replaces it is not known", d.Path)
		}
		b.modules = append(b.modules, module{path: d.Path, version: d.Version, sum: d.Sum})
	}
	for i := range b.modules {
		if b.modules[i].licence, err = licence(b.modules[i].path); err != nil {
			return bill{}, err
		}
	}
	for _, file := range objects {
		code, err := os.ReadFile(file)
		if err != nil {
			return bill{}, err
		}
		// sysctl_bpfel.o is compiled from sysctl.bpf.c.
		source := path.Join(path.Dir(file), strings.TrimSuffix(path.Base(file), "_bpfel.o")+".bpf.c")
		o := object{path: file, sum: digest(code)}
		if o.licence, err = licence(source); err != nil {
			return bill{}, err
		}
		b.objects = append(b.objects, o)
	}
	return b, nil
}

func digest(of []byte) string {
	sum := sha256.Sum256(of)
	return hex.EncodeToString(sum[:])
}

// id is a UUID that only this binary has.
func (b bill) id() string {
	s := digest([]byte("nfguard sbom " + b.version + " " + b.sum))
	return s[:8] + "-" + s[8:12] + "-5" + s[13:16] + "-8" + s[17:20] + "-" + s[20:32]
}
