package metrics

import (
	"math"
	"strconv"
	"time"

	"github.com/nfguard/nfguard/internal/printable"
)

// The types of a family, as its TYPE line has them.
const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// text is a file in Prometheus' text format 0.0.4, in the making.
type text struct{ b []byte }

// family begins a family of samples. Its head is written with the first.
func (t *text) family(name, kind, help string) *family {
	return &family{t: t, name: name, kind: kind, help: help}
}

// family is the samples of one name, which have to stand together.
type family struct {
	t                *text
	name, kind, help string
	headed           bool
}

// add writes a sample; labels are names and values by turns.
func (f *family) add(value float64, labels ...string) { f.sample("", value, labels...) }

// sample writes a sample whose name has a suffix, as those of a histogram do.
func (f *family) sample(suffix string, value float64, labels ...string) {
	t := f.t
	if !f.headed {
		f.headed = true
		t.b = append(t.b, "# HELP "+f.name+" "+f.help+"\n# TYPE "+f.name+" "+f.kind+"\n"...)
	}
	t.b = append(t.b, f.name+suffix...)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		t.b = append(t.b, sep)
		t.b = append(t.b, labels[i]+`="`...)
		t.value(labels[i+1])
		t.b = append(t.b, '"')
	}
	if len(labels) > 0 {
		t.b = append(t.b, '}')
	}
	t.b = append(t.b, ' ')
	t.b = append(t.b, number(value)...)
	t.b = append(t.b, '\n')
}

// value writes the value of a label. One that is no UTF-8 would have the whole
// file refused, and so would two samples of the same name and labels.
func (t *text) value(s string) {
	s = printable.Name(s)
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\', '"':
			t.b = append(t.b, '\\', c)
		default:
			t.b = append(t.b, c)
		}
	}
}

// number prints v in full where a person would: 1.7e+09 is a time that nobody reads.
func number(v float64) string {
	if a := math.Abs(v); a != 0 && a < 1e-6 || a >= 1e15 {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return strconv.FormatFloat(v, 'f', -1, 64) // NaN, too
}

// truth is 1 for true, as everywhere in Prometheus.
func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is t since the epoch, to the millisecond.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
