package fleet_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfguard/nfguard/test/lab"
)

// TestCostOfADay measures what a node sends in a day, and has Prometheus store it.
func TestCostOfADay(t *testing.T) {
	promtool := lab.Tool(t, lab.Root, "promtool")
	text, err := os.ReadFile("../../internal/core/metrics/testdata/worker.prom")
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, every := range []time.Duration{15 * time.Second, time.Minute} {
		dir := t.TempDir()
		day, samples := aDay(string(text), every)
		if err := os.WriteFile(filepath.Join(dir, "day"), day, 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(promtool, "tsdb", "create-blocks-from", "openmetrics", filepath.Join(dir, "day"), filepath.Join(dir, "data")).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var chunks, all int64
		err := filepath.WalkDir(filepath.Join(dir, "data"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			all += info.Size()
			if filepath.Base(filepath.Dir(path)) == "chunks" {
				chunks += info.Size()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		scrapes := int64(24 * time.Hour / every)
		t.Logf("a scrape each %v: %d samples a day; %.1f MB of text, %.1f MB of gzip; stored in %d kB, %.2f bytes a sample (%d kB with the index of blocks of 2 h)",
			every, samples, float64(scrapes*int64(len(text)))/1e6, float64(scrapes*int64(packed.Len()))/1e6,
			chunks/1000, float64(chunks)/float64(samples), all/1000)
		if perSample := float64(chunks) / float64(samples); perSample > 2 {
			t.Errorf("%.2f bytes a sample: something changes all the time", perSample)
		}
	}
}

// aDay returns the OpenMetrics text of a node on which nothing happens except looks.
func aDay(text string, every time.Duration) (day []byte, samples int) {
	var out bytes.Buffer
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if f := strings.Fields(line); strings.HasPrefix(line, "# TYPE ") {
			name = f[2]
			family := name
			if f[3] == "counter" {
				family = strings.TrimSuffix(name, "_total")
			}
			fmt.Fprintf(&out, "# TYPE %s %s\n", family, f[3])
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		series, value, _ := strings.Cut(line, " ")
		for at := time.Duration(0); at < 24*time.Hour; at += every {
			v, minutes := value, int64(at/time.Minute)
			switch name {
			case "nfguard_last_pass_timestamp_seconds":
				v = fmt.Sprint(1_800_000_000+60*minutes) + ".25"
			case "nfguard_passes_total":
				v = fmt.Sprint(minutes)
			}
			fmt.Fprintf(&out, "%s %s %d\n", series, v, 1_800_000_000+int64(at/time.Second))
			samples++
		}
	}
	out.WriteString("# EOF\n")
	return out.Bytes(), samples
}
