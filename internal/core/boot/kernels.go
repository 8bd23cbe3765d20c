package boot

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// State is how a module stands to a kernel.
type State string

// The states.
const (
	Unknown   State = "unknown"   // could not be told
	Loaded    State = "loaded"    // it is there now
	BuiltIn   State = "built-in"  // it is part of the kernel
	Loadable  State = "loadable"  // nothing stands in the way
	Forbidden State = "forbidden" // modprobe.d or the command line keeps it out
	Missing   State = "missing"   // its file is not there
	Unindexed State = "unindexed" // its file is there, but not in modules.dep
	Removed   State = "removed"   // /lib/modules/RELEASE of the running kernel is gone
	Unbuilt   State = "unbuilt"   // the kernel was configured without it
	Unsigned  State = "unsigned"  // the kernel only takes signed modules, and this one is not
	Container State = "container" // not ours to load: the host has to
)

// Kernel is one installed kernel.
type Kernel struct {
	Release  string `json:"release"`
	Running  bool   `json:"running"`
	Bootable bool   `json:"bootable"`          // there is an image; without one it is a leftover
	State    State  `json:"state"`             // BuiltIn, Loadable, Missing, Unindexed, Unbuilt, Unsigned; Removed when running
	File     string `json:"file,omitempty"`    // the module's file, or the one that is missing
	Package  string `json:"package,omitempty"` // what brings a file that is missing

	deps []string // the modules that it needs, by name
	next string   // what brings a file that is missing, as a next step
}

// kernels lists the kernels by what is in /lib/modules and /boot, and the one
// that runs.
func (f *forecast) kernels() {
	images := f.t.images()
	releases := make(map[string]bool)
	if f.o.Release != "" {
		releases[f.o.Release] = true // also where nothing of it is left
	}
	for r := range images {
		releases[r] = true
	}
	for _, e := range f.t.list("/lib/modules") {
		dir := "/lib/modules/" + e.Name()
		if f.t.exists(dir+"/modules.dep") || f.t.exists(dir+"/modules.builtin") || releases[e.Name()] {
			releases[e.Name()] = true
			images[e.Name()] = images[e.Name()] || f.t.exists(dir+"/vmlinuz")
		}
	}
	elsewhere := true // no image at all: /boot is not mounted, or laid out in another way
	for _, there := range images {
		elsewhere = elsewhere && !there
	}
	all := make([]Kernel, 0, len(releases))
	for r := range releases {
		k := f.kernel(r)
		k.Bootable = elsewhere || images[r]
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b Kernel) int { return strings.Compare(a.Release, b.Release) })
	f.report.Kernels = all
}

// better returns the newest kernel besides release that can be booted and has
// the module, and the newest that can be booted at all; nil for none.
func (f *forecast) better(release string) (has, any *Kernel) {
	for i := range f.report.Kernels {
		k := &f.report.Kernels[i]
		if k.Release == release || !k.Bootable {
			continue
		}
		if any == nil || newer(k.Release, any.Release) {
			any = k
		}
		if (k.State == BuiltIn || k.State == Loadable) && (has == nil || newer(k.Release, has.Release)) {
			has = k
		}
	}
	return has, any
}

// newer compares releases as people do: runs of digits by their number.
func newer(a, b string) bool {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x > 0 && y > 0 {
			m, n := strings.TrimLeft(a[:x], "0"), strings.TrimLeft(b[:y], "0")
			if len(m) != len(n) {
				return len(m) > len(n)
			}
			if m != n {
				return m > n
			}
			a, b = a[x:], b[y:]
			continue
		}
		if a[0] != b[0] {
			return a[0] > b[0]
		}
		a, b = a[1:], b[1:]
	}
	return len(a) > len(b)
}

// digits is how many digits s begins with.
func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }

// images returns the releases of the kernel images in /boot.
func (t *tree) images() map[string]bool {
	images := make(map[string]bool)
	for _, e := range t.list("/boot") {
		for _, prefix := range []string{"vmlinuz-", "vmlinux-", "Image-", "kernel-"} {
			r, ok := strings.CutPrefix(e.Name(), prefix)
			// Not "vmlinuz-linux", and not the rescue image of Red Hat's.
			if ok && r != "" && r[0] >= '0' && r[0] <= '9' && !strings.HasPrefix(r, "0-rescue") {
				images[r] = true
			}
		}
		if e.IsDir() { // the boot loader specification: /boot/MACHINE/RELEASE/linux
			for _, r := range t.list("/boot/" + e.Name()) {
				if r.IsDir() && t.exists(path.Join("/boot", e.Name(), r.Name(), "linux")) {
					images[r.Name()] = true
				}
			}
		}
	}
	return images
}

// kernel looks for the module in one kernel's files.
func (f *forecast) kernel(release string) Kernel {
	k := Kernel{Release: release, Running: release != "" && release == f.o.Release, State: Unknown}
	if release == "" {
		return k
	}
	dir := "/lib/modules/" + release
	names := []string{"/" + canonical(f.o.Module) + ".ko", "/" + strings.ReplaceAll(f.o.Module, "_", "-") + ".ko"}
	builtin, _ := f.t.read(dir+"/modules.builtin", maxIndex)
	if _, ok := entry(builtin, names); ok {
		k.State = BuiltIn
		return k
	}
	index, indexed := f.t.read(dir+"/modules.dep", maxIndex)
	if line, ok := entry(index, names); ok {
		f.installed(&k, dir, line)
		return k
	}
	switch configured := f.configured(release, k.Running); {
	case configured == "y":
		k.State = BuiltIn
	case configured == "n":
		k.State = Unbuilt
	case k.Running && !f.t.exists(dir):
		k.State = Removed
	default:
		if file := f.t.unindexed(dir, names); file != "" {
			k.State, k.File = Unindexed, file
			break
		}
		k.State, k.File = Missing, dir
		k.Package, k.next = f.carrier(release)
		if !indexed && f.t.exists(dir+"/modules.dep.bin") {
			k.State = Unknown
		}
	}
	return k
}

// entry returns the line of modules.dep or modules.builtin that begins with a
// file of one of names, compressed or not. Lines that only depend on it are
// passed over. It looks at no other line: the file has half a megabyte.
func entry(index []byte, names []string) (string, bool) {
	for _, name := range names {
		for rest := index; ; {
			i := bytes.Index(rest, []byte(name))
			if i < 0 {
				break
			}
			start := bytes.LastIndexByte(rest[:i], '\n') + 1
			line, _, _ := bytes.Cut(rest[start:], []byte("\n"))
			file, _, _ := bytes.Cut(line, []byte(":"))
			if at := bytes.LastIndex(file, []byte(name)); at >= 0 && ending(string(file[at+len(name):])) {
				return string(line), true
			}
			_, rest, _ = bytes.Cut(rest[i:], []byte("\n"))
		}
	}
	return "", false
}

func ending(s string) bool { return s == "" || s == ".xz" || s == ".zst" || s == ".gz" }

// installed judges a line of modules.dep by the files that it names.
func (f *forecast) installed(k *Kernel, dir, line string) {
	file, deps, _ := strings.Cut(line, ":")
	k.State = Loadable
	for i, p := range append([]string{file}, strings.Fields(deps)...) {
		if !path.IsAbs(p) {
			p = path.Join(dir, p)
		}
		if i == 0 {
			k.File = p
		} else {
			name, _, _ := strings.Cut(path.Base(p), ".ko")
			k.deps = append(k.deps, canonical(name))
		}
		if !f.t.exists(p) {
			k.State, k.File = Missing, p
			k.Package, k.next = f.carrier(k.Release)
			return
		}
	}
	if f.signedOnly() && !f.t.signed(k.File) {
		k.State = Unsigned
	}
}

// unindexed looks for the module's file where it belongs, and where packages
// beside the kernel's put theirs: depmod was not run for it.
func (t *tree) unindexed(dir string, names []string) string {
	for _, sub := range []string{"kernel/net/bridge", "extra", "updates", "updates/dkms", "weak-updates"} {
		for _, e := range t.list(path.Join(dir, sub)) {
			for _, name := range names {
				if rest, ok := strings.CutPrefix("/"+e.Name(), name); ok && ending(rest) {
					return path.Join(dir, sub, e.Name())
				}
			}
		}
	}
	return ""
}

// configured returns what the kernel's configuration says of br_netfilter:
// "y", "m", "n", or "" where it is not to be had.
func (f *forecast) configured(release string, running bool) string {
	if canonical(f.o.Module) != "br_netfilter" {
		return ""
	}
	text, ok := f.t.read("/boot/config-"+release, maxFile)
	if !ok {
		text, ok = f.t.read("/lib/modules/"+release+"/config", maxFile)
	}
	if !ok && running {
		text, ok = f.t.gunzip("/proc/config.gz")
	}
	if !ok || !bytes.Contains(text, []byte("CONFIG_NET=y")) {
		return "" // none, or not a whole one
	}
	_, rest, found := bytes.Cut(text, []byte("\nCONFIG_BRIDGE_NETFILTER="))
	if !found || len(rest) == 0 {
		return "n" // "is not set", or not even asked for without CONFIG_BRIDGE
	}
	return string(rest[:1])
}

func (t *tree) gunzip(name string) ([]byte, bool) {
	packed, ok := t.read(name, maxFile)
	if !ok {
		return nil, false
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err == nil {
		var text []byte
		if text, err = io.ReadAll(io.LimitReader(r, maxFile)); err == nil {
			return text, true
		}
	}
	t.complain(name, fmt.Errorf("unpack: %w", err))
	return nil, false
}
