package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// The images of pods. They come from no registry, but are imported.
const (
	podImage     = "nfguard.test/pod:1"
	corednsImage = "nfguard.test/coredns:1"
)

// images returns the archives of all images, created once in a run.
func images(t testing.TB) []string {
	t.Helper()
	pod := filepath.Join(dir, "pod")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", pod, "github.com/nfguard/nfguard/test/cluster/pod")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program of pods: %v\n%s", err, out)
	}
	return []string{image(t, podImage, pod), image(t, corednsImage, filepath.Join(bin, "coredns"))}
}

// image writes an OCI archive whose only file is a static program, and returns
// its path.
func image(t testing.TB, name, program string) string {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	pack := func(files map[string][]byte) []byte {
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
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion": "1.0.0"}`)}
	blob := func(kind string, text []byte) map[string]any {
		sum := sha256.Sum256(text)
		digest := hex.EncodeToString(sum[:])
		files["blobs/sha256/"+digest] = text
		return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(text)}
	}
	encode := func(v any) []byte {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	base := filepath.Base(program)
	layer := blob("layer.v1.tar", pack(map[string][]byte{base: text}))
	config := blob("config.v1+json", encode(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/" + base}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layer["digest"]}},
	}))
	manifest := blob("manifest.v1+json", encode(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []any{layer},
	}))
	manifest["annotations"] = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
	files["index.json"] = encode(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	path := program + ".tar"
	if filepath.Dir(program) != dir {
		path = filepath.Join(dir, base+".tar")
	}
	if err := os.WriteFile(path, pack(files), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
