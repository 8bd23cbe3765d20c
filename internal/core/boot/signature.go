package boot

import (
	"io"
	"strings"
)

// signedOnly reports whether the command line has the kernel refuse modules
// without a signature. Lockdown by Secure Boot is not seen here.
func (f *forecast) signedOnly() bool {
	if w, ok := f.param("module.sig_enforce"); ok && !disabled(w.value) {
		return true
	}
	_, ok := f.param("lockdown")
	return ok
}

// signed reports whether a module's file ends with a signature's mark. Of a
// compressed one it is not known, and it is taken to be signed.
func (t *tree) signed(name string) bool {
	const mark = "~Module signature appended~\n"
	if t.files == nil || !strings.HasSuffix(name, ".ko") {
		return true
	}
	f, err := t.files.Open(name)
	if err != nil {
		return true
	}
	defer f.Close()
	end := make([]byte, len(mark))
	if _, err := f.Seek(-int64(len(mark)), io.SeekEnd); err != nil {
		return false // it is shorter
	}
	_, err = io.ReadFull(f, end)
	return err != nil || string(end) == mark
}
