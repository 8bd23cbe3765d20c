// Package helper does the few things that take more rights than the daemon keeps:
// loading the kernel module, writing the drop-ins, loading the BPF programs, and
// having the journal written to disk. [Serve] does them in a process that has the
// rights, for a [Client] in a process that does not.
//
// A request is one of a fixed list and has no parameters that the client could
// choose: root's own configuration says what is loaded and written. So an attacker
// who takes over the daemon gains only what the configuration asks for anyway.
//
// # The protocol
//
// A request is one datagram to the helper's socket: a JSON object of at most
// [maxRequest] bytes and one descriptor, an end of a pair of sockets of type
// SOCK_SEQPACKET. The answer is one packet on that pair: a JSON object of at
// most [maxAnswer] bytes, with the requested descriptors. A packet before it says
// that the work has begun. It distinguishes a slow helper from a dead one, which the
// daemon must not wait for when it starts. The client never calls connect(2), so its
// sandbox can forbid it: then it cannot reach other sockets that root has access to,
// such as those of container runtimes. All other datagrams are dropped.
package helper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Request is what a client can ask for.
type Request string

// The requests.
const (
	LoadModule   Request = "load the module"
	WriteModules Request = "write the drop-in that loads the module"
	WriteSysctls Request = "write the drop-in that sets the sysctls"
	LoadHook     Request = "load the sysctl hook"
	LoadExecHook Request = "load the exec hook"
	SyncJournal  Request = "sync the journal"
)

// Requests returns all requests.
func Requests() []Request {
	return []Request{LoadModule, WriteModules, WriteSysctls, LoadHook, LoadExecHook, SyncJournal}
}

// How long a client waits at most: for the work to begin, since systemd has to start
// the helper first, and then for it to end. modprobe has 10 s, and 2 s to end after
// that. Loading a BPF program takes some tenths of a second; on an emulated machine,
// seven seconds.
const (
	beginTime = 5 * time.Second
	workTime  = 20 * time.Second
)

// Limits for messages from the other side.
const (
	version    = 1
	maxRequest = 128
	maxAnswer  = 64 << 10
	maxFiles   = 16
)

// message is a request on its way.
type message struct {
	Version int     `json:"version"`
	Request Request `json:"request"`
}

// answer is the result of a request.
type answer struct {
	Version int             `json:"version"`
	Begun   bool            `json:"begun,omitempty"` // another answer follows
	Error   string          `json:"error,omitempty"` // "": it was done
	Next    string          `json:"next,omitempty"`  // what a person can do about the error
	Never   bool            `json:"never,omitempty"` // trying again does not help: errors.ErrUnsupported
	Facts   json.RawMessage `json:"facts,omitempty"` // about the descriptors
}

// parse reads a request, and accepts nothing unknown in it.
func parse(b []byte) (Request, error) {
	if len(b) > maxRequest {
		return "", errors.New("the request is too long")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var m message
	if err := d.Decode(&m); err != nil {
		return "", fmt.Errorf("read the request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New("read the request: there is more after it")
	}
	if m.Version != version {
		return "", fmt.Errorf("the request is of version %d and not %d: was nfguard upgraded? restart nfguard.service", m.Version, version)
	}
	if !slices.Contains(Requests(), m.Request) {
		return "", errors.New("no such request")
	}
	return m.Request, nil
}

// encode returns the answer to a request that ended with err, of at most maxAnswer
// bytes.
func encode(facts any, err error) []byte {
	a := answer{Version: version}
	if err == nil && facts != nil {
		a.Facts, err = json.Marshal(facts)
	}
	if err != nil {
		a.Facts, a.Error, a.Never = nil, cut(err.Error(), maxText), errors.Is(err, errors.ErrUnsupported)
		var known interface{ Next() string }
		if errors.As(err, &known) {
			a.Next = cut(known.Next(), maxText)
		}
		if a.Error == "" {
			a.Error = "it failed"
		}
	}
	b, err := json.Marshal(a)
	if err != nil || len(b) > maxAnswer {
		return []byte(`{"version":1,"error":"the answer is too long"}`)
	}
	return b
}

// maxText limits a text for people, in bytes. In JSON, a byte can become six.
const maxText = 4 << 10

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + " …"
	}
	return s
}

// begun is the answer to a request that is being worked on.
func begun() []byte { return []byte(`{"version":1,"begun":true}`) }

// decode reads an answer. The error is the helper's, with its next step, or it is
// about the answer itself, or errBegun.
func decode(b []byte) (facts json.RawMessage, err error) {
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if a.Version != version {
		return nil, &refusedError{fmt.Sprintf("the answer is of version %d and not %d", a.Version, version), "was nfguard upgraded? systemctl restart nfguard", false}
	}
	if a.Error != "" {
		return nil, &refusedError{a.Error, a.Next, a.Never}
	}
	if a.Begun {
		return nil, errBegun
	}
	return a.Facts, nil
}

// errBegun says that another answer follows.
var errBegun = errors.New("the work has begun")

// refusedError says why the helper did not carry out a request.
type refusedError struct {
	reason, next string
	never        bool
}

func (e *refusedError) Error() string { return e.reason }

// Is reports errors.ErrUnsupported if trying again at once does not help.
func (e *refusedError) Is(target error) bool { return e.never && target == errors.ErrUnsupported }

// Next says what a person can do about it; "" if that is not known.
func (e *refusedError) Next() string { return e.next }
