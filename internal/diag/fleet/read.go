package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/files"
)

// Limits for reading. An answer of nfguard check has some 10 KB, and can take a
// hundred times as much in memory as in the file.
const (
	maxAnswer  = 1 << 20
	maxFile    = 64 << 20
	maxAnswers = 20_000
)

// Errors for input beyond the limits.
var (
	errLong = errors.New("more than 1 MiB in one piece is no answer of nfguard check")
	errMany = errors.New("it has more than 20000 answers: merge it in parts")
)

// ErrEmpty says that a file has no result of any host.
var ErrEmpty = errors.New("no host in it: it takes the JSON of nfguard check, or what ansible prints of it")

// Read reads the results of hosts from a file, or from every file of a directory that
// ansible --tree made. In such a directory, the name of a file is the host's, and a
// file without a result is a host without an answer.
func Read(path string) ([]Host, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return readTree(path)
	}
	text, err := files.Read(path, maxFile)
	if err != nil {
		return nil, err
	}
	hosts, err := Parse(text, "")
	if err != nil {
		if one, e := Parse(text, filepath.Base(path)); e == nil { // of a tree
			return one, nil
		}
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return hosts, nil
}

func readTree(dir string) ([]Host, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var hosts []Host
	answered := false
	for _, f := range entries {
		if f.IsDir() || strings.HasPrefix(f.Name(), ".") {
			continue
		}
		text, err := files.Read(filepath.Join(dir, f.Name()), maxAnswer)
		var of []Host
		if err == nil {
			of, err = Parse(text, f.Name())
		}
		if err != nil {
			hosts = append(hosts, silent(f.Name(), err.Error()))
			continue
		}
		answered = true
		hosts = append(hosts, of...)
	}
	if !answered {
		return nil, fmt.Errorf("read %s: %w", dir, ErrEmpty)
	}
	return hosts, nil
}

// head matches the beginning of what ansible prints for a host. It is compiled when
// it is needed: the daemon is the same program, and never does.
var head = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^(\S+) \| (?:CHANGED|SUCCESS|FAILED|UNREACHABLE)!?(?: \| rc=-?\d+)?(?: >>| => | \| |: )`)
})

// Parse reads one or more documents of nfguard check or results of ansible, one after
// the other, or what ansible prints, with or without -o. name is the name of a host
// for which the text has none; if it is "", the document's own name counts.
func Parse(text []byte, name string) ([]Host, error) {
	h := head().FindSubmatchIndex(text)
	if h == nil {
		return values(text, name)
	}
	var hosts []Host
	for h != nil {
		if len(hosts) == maxAnswers {
			return nil, errMany
		}
		host, said := string(text[h[2]:h[3]]), text[h[1]:]
		line := bytes.IndexByte(said, '\n') + 1 // where the next host can begin
		if line == 0 {
			line = len(said)
		}
		text = said[line:]
		if h = head().FindSubmatchIndex(text); h != nil {
			said = said[:line+h[0]]
		}
		hosts = append(hosts, printed(host, said))
	}
	return hosts, nil
}

// values reads a sequence of JSON values.
func values(text []byte, name string) ([]Host, error) {
	var hosts []Host
	r := &inPieces{text: text, limit: maxAnswer}
	d := json.NewDecoder(r)
	for {
		var v json.RawMessage
		err := d.Decode(&v)
		r.limit = int(d.InputOffset()) + maxAnswer
		switch {
		case len(hosts) == maxAnswers && err == nil:
			return nil, errMany
		case errors.Is(err, errLong):
			return nil, errLong
		case errors.Is(err, io.EOF) && len(hosts) > 0:
			return hosts, nil
		case errors.Is(err, io.EOF):
			return nil, ErrEmpty
		case err != nil:
			return nil, fmt.Errorf("%w (%s)", ErrEmpty, err.Error())
		}
		h, ok := value(v, name)
		if !ok {
			return nil, ErrEmpty
		}
		hosts = append(hosts, h)
	}
}

// inPieces reads text up to limit. The limit moves forward with each complete value,
// so that a value without an end cannot fill the memory.
type inPieces struct {
	text      []byte
	at, limit int
}

func (r *inPieces) Read(p []byte) (int, error) {
	switch {
	case r.at == len(r.text):
		return 0, io.EOF
	case r.at >= r.limit:
		return 0, errLong
	}
	n := copy(p, r.text[r.at:min(r.limit, len(r.text))])
	r.at += n
	return n, nil
}

// value reads a document, or the result of an ansible module that contains one.
func value(v []byte, name string) (Host, bool) {
	var d document
	if json.Unmarshal(v, &d) == nil && d.Schema == 1 && known(d.Verdict) && (name != "" || d.Host != "") {
		return d.host(name), true
	}
	var result struct {
		Stdout, Stderr, Msg string
		Changed             *bool
	}
	if json.Unmarshal(v, &result) != nil || result.Changed == nil || name == "" {
		return Host{}, false
	}
	if h, ok := value([]byte(result.Stdout), name); ok {
		return h, true
	}
	return silent(name, firstLine(result.Stderr, result.Msg, result.Stdout)), true
}

// known reports whether v is a verdict that a document can have.
func known(v guard.Verdict) bool {
	return v == guard.Right || v == guard.Wrong || v == guard.Uncertain
}

// printed reads what ansible prints for a host after the head. The text after a
// document is the command's standard error.
func printed(name string, text []byte) Host {
	if len(text) > maxAnswer {
		return silent(name, errLong.Error())
	}
	text = bytes.TrimSpace(text)
	rest, oneLine := bytes.CutPrefix(text, []byte("(stdout) "))
	if oneLine {
		text = lines(rest)
	}
	var v json.RawMessage
	if json.NewDecoder(bytes.NewReader(text)).Decode(&v) == nil {
		if h, ok := value(v, name); ok {
			return h
		}
	}
	return silent(name, firstLine(string(text)))
}

// lines undoes what ansible -o does to line ends: it writes them as the two
// characters \n. Inside a string of the document, the two characters stay.
func lines(text []byte) []byte {
	out := make([]byte, 0, len(text))
	inside := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\\' && i+1 < len(text) {
			i++
			if !inside && (text[i] == 'n' || text[i] == 'r') {
				out = append(out, '\n')
				continue
			}
			out = append(out, c, text[i])
			continue
		}
		if c == '"' {
			inside = !inside
		}
		out = append(out, c)
	}
	return out
}

// firstLine returns the first line of the first text that is not empty.
func firstLine(texts ...string) string {
	for _, s := range texts {
		if line, _, _ := strings.Cut(strings.TrimSpace(s), "\n"); line != "" {
			return line
		}
	}
	return "it said nothing"
}
