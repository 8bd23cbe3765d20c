package trace

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "renew the goldens in testdata")

func microseconds(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// recorded is the path in a record that the tests of the package kernel wrote.
func recorded(t *testing.T, name string) *Path {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return New(&r)
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s, to be renewed by go test -update (-want +got):\n%s", name, diff)
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGolden shows a request to a Service with the key at 0 and at 1, as they
// were recorded, in each form.
func TestGolden(t *testing.T) {
	for _, name := range []string{"key0", "key1"} {
		t.Run(name, func(t *testing.T) {
			w := recorded(t, name)
			var text, picture bytes.Buffer
			w.Text(&text, nil)
			golden(t, name+".golden.txt", text.Bytes())
			if err := w.SVG(&picture); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".golden.svg", picture.Bytes())
			golden(t, name+".golden.json", encode(t, w))
		})
	}
	c := Compare(recorded(t, "key0"), recorded(t, "key1"))
	var text bytes.Buffer
	c.Text(&text, nil)
	golden(t, "compare.golden.txt", text.Bytes())
	golden(t, "differences.golden.json", encode(t, c.Differences))
}

// TestRead: what was written as JSON is shown as it was.
func TestRead(t *testing.T) {
	for _, name := range []string{"key0", "key1"} {
		w := recorded(t, name)
		again, err := Read(encode(t, w))
		if err != nil {
			t.Fatal(err)
		}
		var want, got bytes.Buffer
		w.Text(&want, nil)
		again.Text(&got, nil)
		if diff := cmp.Diff(want.String(), got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":          {"", "unexpected end of JSON input"},
		"another document": {`{"schema": 1, "items": []}`, "it has no client or no server"},
		"a later schema":   {`{"schema": 2}`, "schema 2 is not one that this version knows"},
		"a later verdict":  {`{"schema": 1, "client": "10.0.0.1", "server": "10.0.0.2", "verdict": "delayed"}`, `verdict "delayed" is not one that this version knows`},
		"nowhere":          {`{"schema": 1, "client": "10.0.0.1", "server": "10.0.0.2", "verdict": "unseen", "packets": [{}]}`, "packet 1 was nowhere"},
		"of no trace":      {"[" + strings.Repeat("0,", maxCommas+1) + "0]", "it is longer than any trace"},
		"for a terminal":   {`{"schema": 1, "client": "10.0.0.1", "server": "10.0.0.2", "verdict": "unseen", "notes": ["\u001b[2J"]}`, `"\x1b[2J" cannot be shown`},
	} {
		if _, err := Read([]byte(tt.text)); err == nil || err.Error() != tt.want {
			t.Errorf("%s: error %v, want %s", name, err, tt.want)
		}
	}
}

// FuzzRead: whatever a file says, it is refused or can be shown.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"key0", "key1"} {
		b, err := os.ReadFile("testdata/" + name + ".golden.json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"schema": 1, "client": "10.0.0.1", "server": "10.0.0.2", "verdict": "untranslated", "packets": [{"steps": [{}]}, {"direction": "reply", "steps": [{}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := Read(b)
		if err != nil {
			return
		}
		c := Compare(w, w)
		if len(c.Differences) > 0 {
			t.Errorf("a way differs from itself: %+v", c.Differences)
		}
		for _, s := range []interface {
			Text(out io.Writer, paint Paint)
			SVG(out io.Writer) error
		}{w, c} {
			s.Text(io.Discard, nil)
			var picture bytes.Buffer
			if err := s.SVG(&picture); err != nil {
				t.Error(err)
			}
			if err := xml.Unmarshal(picture.Bytes(), new(any)); err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("not well-formed: %v", err)
			}
		}
	})
}

// words is a text of a picture, with the room that it takes.
type words struct {
	left, top, right, bottom float64
	text                     string
}

// TestPictureIsReadable: no text touches another, leaves the picture or its
// box, or has a line run through it; and all of it is well-formed XML, whatever
// the comments of rules have in them.
func TestPictureIsReadable(t *testing.T) {
	hostile := recorded(t, "key0")
	rules := hostile.Packets[0].Steps[2].Rules
	rules[0].Comment = `<script>alert("&")</script>` + "\x00\x1b[31m"
	rules[1].Comment = strings.Repeat("long ", 100)
	v6 := recorded(t, "key0")
	raw := encode(t, v6)
	for old, long := range map[string]string{"10.244.0.1:": "[fd00:1234:5678:9abc:def0:1234:5678:0001]:", "10.96.0.1:": "[fd00:1234:5678:9abc:def0:1234:5678:9abc]:"} {
		raw = bytes.ReplaceAll(raw, []byte(old), []byte(long))
	}
	long, err := Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	dropped := recorded(t, "key1")
	dropped.Packets[0].Dropped = "ip filter FORWARD, its policy"
	stuck := recorded(t, "key1")
	stuck.Packets = stuck.Packets[:1]
	stuck.Packets[0].Steps = stuck.Packets[0].Steps[:2]
	for name, svg := range map[string]func(io.Writer) error{
		"key 0": recorded(t, "key0").SVG, "key 1": recorded(t, "key1").SVG, "both": Compare(recorded(t, "key0"), recorded(t, "key1")).SVG,
		"hostile comments": hostile.SVG, "long addresses": long.SVG, "dropped": dropped.SVG, "stuck": stuck.SVG, "nothing": New(&Record{}).SVG,
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := svg(&b); err != nil {
				t.Fatal(err)
			}
			width, height, all, lines := layout(t, &b)
			for i, a := range all {
				if a.left < 0 || a.top < 0 || a.right > width || a.bottom > height {
					t.Errorf("%q leaves the picture", a.text)
				}
				for _, o := range all[i+1:] {
					if a.left < o.right && o.left < a.right && a.top < o.bottom && o.top < a.bottom {
						t.Errorf("%q and %q overlap", a.text, o.text)
					}
				}
				for _, p := range lines {
					if a.left < p[0] && p[0] < a.right && a.top < p[1] && p[1] < a.bottom {
						t.Errorf("a line runs through %q", a.text)
						break
					}
				}
			}
			if name != "nothing" && (len(all) < 15 || len(lines) < 100) {
				t.Errorf("only %d texts and %d points of lines were seen", len(all), len(lines))
			}
		})
	}
}

// layout reads where the texts are, and points of the lines.
func layout(t *testing.T, r io.Reader) (width, height float64, all []words, lines [][2]float64) {
	t.Helper()
	number := func(s string) float64 {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	d := xml.NewDecoder(r)
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return width, height, all, lines
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		is := make(map[string]string)
		for _, a := range e.Attr {
			is[a.Name.Local] = a.Value
		}
		switch {
		case e.Name.Local == "svg":
			width, height = number(is["width"]), number(is["height"])
		case e.Name.Local == "text":
			var s string
			if err := d.DecodeElement(&s, &e); err != nil {
				t.Fatal(err)
			}
			size := 12.0
			if is["class"] == "title" {
				size = 16
			}
			x, y := number(is["x"]), number(is["y"])
			all = append(all, words{x, y - 0.8*size, x + float64(utf8.RuneCountInString(s))*0.6*size, y + 0.25*size, s})
		case e.Name.Local == "path" && (is["class"] == "way" || is["class"] == "lost"):
			var p [4][2]float64
			for i, n := range strings.FieldsFunc(is["d"], func(c rune) bool { return strings.ContainsRune("MC ", c) }) {
				p[i/2][i%2] = number(n)
			}
			for i := range 101 {
				u := float64(i) / 100
				v := 1 - u
				var at [2]float64
				for k := range at {
					at[k] = v*v*v*p[0][k] + 3*v*v*u*p[1][k] + 3*v*u*u*p[2][k] + u*u*u*p[3][k]
				}
				lines = append(lines, at)
			}
		}
	}
}
