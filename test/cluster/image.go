package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// The images of pods. They come from no registry, but are imported.
const (
	PodImage     = "nfguard.test/pod:1"
	corednsImage = "nfguard.test/coredns:1"
)

// images returns the archives of all images, created once in a run.
func images(t testing.TB) []string {
	t.Helper()
	return []string{PodArchive(t, dir), image(t, corednsImage, filepath.Join(bin, "coredns"))}
}

// PodArchive writes an archive of the image of the tests' own pods, [PodImage], to a
// directory, and returns its path.
func PodArchive(t testing.TB, dir string) string {
	t.Helper()
	pod := filepath.Join(dir, "pod")
	goBuild(t, pod, "github.com/nfguard/nfguard/test/cluster/pod", "-ldflags", "-s -w")
	return archive(t, dir, "pod", []string{PodImage}, []string{"/pod"}, nil, map[string]string{"pod": pod})
}

// goBuild builds a static program. The build ends with this process: go creates the
// directory of its output, even if that has been removed meanwhile, and leaves its own
// temporary one if it is killed, so that is in the same directory.
func goBuild(t testing.TB, out, pkg string, flags ...string) {
	t.Helper()
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTMPDIR="+filepath.Dir(out))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := startTied(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, said.String())
	}
}

// image writes an OCI archive whose only file is a static program, and returns
// its path.
func image(t testing.TB, name, program string) string {
	t.Helper()
	base := filepath.Base(program)
	return archive(t, dir, base, []string{name}, []string{"/" + base}, nil, map[string]string{base: program})
}

// archive writes an OCI archive of an image with those names to a directory, and returns
// its path. Its files are copies of the host's; if the source of a file is a relative
// path, it is a symbolic link to that.
func archive(t testing.TB, dir, base string, names, entrypoint, args []string, files map[string]string) string {
	t.Helper()
	text := map[string][]byte{}
	links := map[string]string{}
	for name, source := range files {
		if !filepath.IsAbs(source) {
			links[name] = source
			continue
		}
		var err error
		if text[name], err = os.ReadFile(source); err != nil {
			t.Fatal(err)
		}
	}
	blobs := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion": "1.0.0"}`)}
	blob := func(kind string, text []byte) map[string]any {
		sum := sha256.Sum256(text)
		digest := hex.EncodeToString(sum[:])
		blobs["blobs/sha256/"+digest] = text
		return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(text)}
	}
	encode := func(v any) []byte {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	layer := blob("layer.v1.tar", pack(t, text, links))
	config := blob("config.v1+json", encode(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": entrypoint, "Cmd": args, "Env": []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layer["digest"]}},
	}))
	manifest := blob("manifest.v1+json", encode(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []any{layer},
	}))
	var manifests []any
	for _, name := range names {
		m := maps.Clone(manifest)
		m["annotations"] = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
		manifests = append(manifests, m)
	}
	blobs["index.json"] = encode(map[string]any{"schemaVersion": 2, "manifests": manifests})
	path := filepath.Join(dir, base+".tar")
	if err := os.WriteFile(path, pack(t, blobs, nil), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// pack returns a tar archive of programs and symbolic links.
func pack(t testing.TB, files map[string][]byte, links map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range links {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
