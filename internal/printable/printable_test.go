package printable_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/nfguard/nfguard/internal/printable"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "",
		"tuned → 0, ü, 中":     "tuned → 0, ü, 中",
		"br\x1b[2J":           `br\x1b[2J`,
		"\x1b]0;title\a":      `\x1b]0;title\a`,
		"two\nlines\tand\r":   `two\nlines\tand\r`,
		"C1 \u009b2J":         `C1 \u009b2J`,
		"no UTF-8 \xff":       `no UTF-8 \xff`,
		"its sign \ufffd":     "its sign \ufffd",
		"\x01":                `\x01`,
		"right to left\u202e": `right to left\u202e`,
		"isolate\u2066":       `isolate\u2066`,
		"a\u200bb\u200dc":     `a\u200bb\u200dc`,
		"\ufeffmark":          `\ufeffmark`,
		"filler\u3164":        `filler\u3164`,
		"selector\ufe0f":      `selector\ufe0f`,
		"braille\u2800":       `braille\u2800`,
		"space\u00a0":         `space\u00a0`,
		"tag\U000e0041":       `tag\U000e0041`,
		`dev-x\x2dy.mount`:    `dev-x\x2dy.mount`,
	} {
		if got := printable.Text(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
}

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"cni0":             "cni0",
		"x\xff":            `x\xff`,
		`x\xff`:            `x\\xff`,
		`x\\xff`:           `x\\\\xff`,
		"x\\\xff":          `x\\\xff`,
		"x\\\\":            `x\\`,
		`dev-x\x2dy.mount`: `dev-x\x2dy.mount`,
		`a\nb`:             `a\\nb`,
		"a\nb":             `a\nb`,
		`C:\dir`:           `C:\dir`,
	} {
		if got := printable.Name(in); got != want {
			t.Errorf("%q has the name %q, want %q", in, got, want)
		}
	}
}

// hostile adds seeds for the fuzz tests.
func hostile(f *testing.F) {
	for _, s := range []string{"", "x\xff", "x\xfe", `x\xff`, `x\\xff`, "x\\\xff", "\\", "\\\\\n", `\\n`, "\n", "\u202e", `\u202e`, "\x7f", `\x7f`, `\x2d`, "\xe2\x80"} {
		for _, other := range []string{"", "x\xff", `x\xff`, `\n`, "\\\n"} {
			f.Add(s, other)
		}
	}
}

// What is shown is printable, on one line, and unchanged if shown again; different
// strings have different names and different JSON.
func FuzzPrintable(f *testing.F) {
	hostile(f)
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, shown := range []string{printable.Text(a), printable.Name(a)} {
			if strings.ContainsAny(shown, "\n\x1b\x00\u202e\u200b") || !utf8.ValidString(shown) || printable.Text(shown) != shown {
				t.Errorf("%q is shown as %q", a, shown)
			}
		}
		if !utf8.ValidString(printable.UTF8(a)) {
			t.Errorf("%q is %q", a, printable.UTF8(a))
		}
		if a == b {
			return
		}
		if n := printable.Name(a); n == printable.Name(b) {
			t.Errorf("%q and %q have the name %q", a, b, n)
		}
		if n := printable.UTF8(a); n == printable.UTF8(b) {
			t.Errorf("%q and %q are %q", a, b, n)
		}
	})
}

type embedded struct{ In string }

type value struct {
	embedded
	Name  string
	Map   map[string][]string
	Any   any
	Next  *value
	Four  [2]string
	When  time.Time
	Where netip.Addr
	Err   error
	N     int

	own string
}

func TestForText(t *testing.T) {
	err := errors.New("a\nb")
	in := value{
		embedded: embedded{"\x1b"}, Name: "a\nb", Map: map[string][]string{"\xff": {"\xfe", "c"}}, Any: []any{"\x01", 7},
		Next: &value{Name: "\u202e"}, Four: [2]string{"\r"}, When: time.Unix(7, 0), Where: netip.MustParseAddr("::1"), Err: err, N: 3, own: "\x1b",
	}
	want := value{
		embedded: embedded{`\x1b`}, Name: `a\nb`, Map: map[string][]string{`\xff`: {`\xfe`, "c"}}, Any: []any{`\x01`, 7},
		Next: &value{Name: `\u202e`}, Four: [2]string{`\r`}, When: in.When, Where: in.Where, Err: err, N: 3, own: "\x1b",
	}
	same := []cmp.Option{
		cmp.AllowUnexported(value{}, embedded{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) }),
	}
	if diff := cmp.Diff(want, printable.ForText(in), same...); diff != "" {
		t.Errorf("for text (-want +got):\n%s", diff)
	}
	if in.Name != "a\nb" || in.Next.Name != "\u202e" || in.Map["\xff"][0] != "\xfe" {
		t.Errorf("what was copied has changed: %+v", in)
	}
	in.Err = nil
	text, jsonErr := json.Marshal(printable.ForJSON(&in))
	if jsonErr != nil || strings.Contains(string(text), `\ufffd`) || !strings.Contains(string(text), `{"\\xff":["\\xfe","c"]}`) ||
		!strings.Contains(string(text), `"Name":"a\nb"`) {
		t.Errorf("JSON: %s, %v", text, jsonErr)
	}
}

// The JSON contains nothing that acts on a terminal, and decodes to the original.
func TestMarshal(t *testing.T) {
	in := "\u202e\x7f\U000e0041\x1b\u200b<&>中"
	for _, indent := range []string{"", "  "} {
		text, err := printable.Marshal(map[string]string{"name": in, "\xff": "\xfe"}, indent)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			if printable.Text(line) != line {
				t.Errorf("not printable: %q", line)
			}
		}
		var out map[string]string
		if err := json.Unmarshal(text, &out); err != nil || out["name"] != in || out[`\xff`] != `\xfe` {
			t.Errorf("%s is %q, %v", text, out, err)
		}
		if !strings.Contains(string(text), "<&>中") {
			t.Errorf("escaped without need: %s", text)
		}
	}
}
