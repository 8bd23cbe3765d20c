package main

import "testing"

func TestBody(t *testing.T) {
	lead := "\xed\xab\xee\xdb" + string(make([]byte, leadSize-4))
	// One entry and three bytes of data: 16 + 16 + 3, filled up to 40.
	signature := "\x8e\xad\xe8\x01\x00\x00\x00\x00" + "\x00\x00\x00\x01" + "\x00\x00\x00\x03" + string(make([]byte, 24))
	for _, test := range []struct{ name, file, want, err string }{
		{"a signature, and the rest", lead + signature + "rest", "rest", ""},
		{"no rest", lead + signature, "", ""},
		{"cut off", lead + signature[:30], "", "it ends within its signature"},
		{"a size beyond the file", lead + "\x8e\xad\xe8\x01\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff", "", "it ends within its signature"},
		{"a deb", "!<arch>\n" + lead + signature, "", "not an rpm"},
		{"empty", "", "", "not an rpm"},
	} {
		got, err := body([]byte(test.file))
		said := ""
		if err != nil {
			said = err.Error()
		}
		if string(got) != test.want || said != test.err {
			t.Errorf("%s: want %q and %q, got %q and %q", test.name, test.want, test.err, got, said)
		}
	}
}
