package printable

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"unicode/utf16"
	"unicode/utf8"
)

// ForText returns a copy of v with [Text] of every string in it, so that no string
// in v can add a line to what people are shown.
func ForText[T any](v T) T { return each(v, Text) }

// ForJSON returns a copy of v with [UTF8] of every string in it, including keys of
// maps: encoding/json would write the same character for every byte that is not
// UTF-8.
func ForJSON[T any](v T) T { return each(v, UTF8) }

// Marshal is json.Marshal of [ForJSON], on one line or indented. Characters that
// [Text] would escape are written as JSON escapes, which mean the same.
func Marshal(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", indent)
	e.SetEscapeHTML(false)
	if err := e.Encode(ForJSON(v)); err != nil {
		return nil, err
	}
	text := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if !bytes.ContainsFunc(text, odd) {
		return text, nil
	}
	shown := make([]byte, 0, len(text)+16)
	for _, r := range string(text) {
		if !odd(r) {
			shown = utf8.AppendRune(shown, r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			shown = fmt.Appendf(shown, `\u%04x`, unit)
		}
	}
	return shown, nil
}

// odd reports whether r has to be escaped in JSON.
func odd(r rune) bool { return r != '\n' && !visible(r) }

// each copies v, with f applied to each string in exported fields. Types that
// marshal themselves as JSON or text are left alone.
func each[T any](v T, f func(string) string) T {
	in := reflect.ValueOf(&v).Elem()
	out := reflect.New(in.Type()).Elem()
	convert(out, in, f)
	return out.Interface().(T)
}

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
	failure       = reflect.TypeFor[error]()
)

// convert sets out, a zero value of in's type, to the copy.
func convert(out, in reflect.Value, f func(string) string) {
	t := in.Type()
	if t.Implements(marshaler) || t.Implements(textMarshaler) || t.Implements(failure) {
		out.Set(in)
		return
	}
	switch in.Kind() { //nolint:exhaustive // the other kinds hold no strings
	case reflect.String:
		out.SetString(f(in.String()))
	case reflect.Pointer:
		if !in.IsNil() {
			out.Set(reflect.New(t.Elem()))
			convert(out.Elem(), in.Elem(), f)
		}
	case reflect.Interface:
		if !in.IsNil() {
			fresh := reflect.New(in.Elem().Type()).Elem()
			convert(fresh, in.Elem(), f)
			out.Set(fresh)
		}
	case reflect.Struct:
		out.Set(in) // this includes the fields that are not exported
		for i := range t.NumField() {
			if field := out.Field(i); field.CanSet() || t.Field(i).Anonymous {
				into(field, in.Field(i), f)
			}
		}
	case reflect.Slice:
		if !in.IsNil() {
			out.Set(reflect.MakeSlice(t, in.Len(), in.Len()))
			for i := range in.Len() {
				convert(out.Index(i), in.Index(i), f)
			}
		}
	case reflect.Array:
		for i := range in.Len() {
			convert(out.Index(i), in.Index(i), f)
		}
	case reflect.Map:
		if !in.IsNil() {
			out.Set(reflect.MakeMapWithSize(t, in.Len()))
			for k, v := range in.Seq2() {
				key, value := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
				convert(key, k, f)
				convert(value, v, f)
				out.SetMapIndex(key, value)
			}
		}
	default:
		out.Set(in)
	}
}

// into converts a field. It can be an embedded struct whose type is not exported:
// its own fields can be.
func into(out, in reflect.Value, f func(string) string) {
	switch {
	case out.CanSet():
		fresh := reflect.New(in.Type()).Elem()
		convert(fresh, in, f)
		out.Set(fresh)
	case in.Kind() == reflect.Struct:
		for i := range in.NumField() {
			if field := out.Field(i); field.CanSet() || in.Type().Field(i).Anonymous {
				into(field, in.Field(i), f)
			}
		}
	}
}
