package pods

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nfguard/nfguard/internal/kernel/proc"
)

// Name is the name of a pod and of one of its containers. Unknown parts are empty.
type Name struct {
	Namespace string
	Pod       string
	Container string
}

// String is "namespace/pod", or "" for no pod.
func (n Name) String() string {
	if n.Pod == "" {
		return ""
	}
	return n.Namespace + "/" + n.Pod
}

// Names are the names of the pods that have logs on this node. Anyone who can write
// to the log directories can choose these names, so use them as names only.
type Names struct {
	pods       map[string]Name // by uid
	containers map[string]Name // by id
}

// maxLogs limits how many entries of a directory are read: one for each pod, and
// one for each start of a container whose log is still kept.
const maxLogs = 5000

// ReadNames reads the names of the entries in pods and containers below logs, which
// is "/var/log": the kubelet makes NAMESPACE_NAME_UID in pods, and
// NAME_NAMESPACE_CONTAINER-ID.log in containers. It opens none of them, and follows
// no link that leads out of logs. The error says what could not be read; a missing
// directory is no error.
func ReadNames(logs string) (n *Names, unread error) {
	n = &Names{pods: make(map[string]Name), containers: make(map[string]Name)}
	root, err := os.OpenRoot(logs)
	if err != nil {
		return n, ignoreGone(err)
	}
	defer root.Close()
	return n, errors.Join(
		entries(root, "pods", func(entry string) { note(n.pods, podOf, entry) }),
		entries(root, "containers", func(entry string) { note(n.containers, containerOf, entry) }))
}

// entries calls f for each entry of a directory, up to a limit.
func entries(root *os.Root, dir string, f func(string)) error {
	d, err := root.Open(dir)
	if err != nil {
		return ignoreGone(err)
	}
	defer d.Close()
	for left := maxLogs; left > 0; {
		list, err := d.Readdirnames(min(left, 1000))
		for _, entry := range list {
			f(entry)
		}
		left -= len(list)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
	return &fs.PathError{Op: "read", Path: d.Name(), Err: errors.New("too many entries")}
}

// note adds the name that an entry gives. If two entries give an id different names,
// the id has none.
func note(names map[string]Name, parse func(string) (string, Name), entry string) {
	id, name := parse(entry)
	if id == "" {
		return
	}
	if had, ok := names[id]; ok && had != name {
		name = Name{}
	}
	names[id] = name
}

// podOf reads NAMESPACE_NAME_UID.
func podOf(entry string) (uid string, n Name) {
	p := strings.Split(entry, "_")
	if len(p) != 3 || !isLabel(p[0]) || !isSubdomain(p[1]) || proc.Locate("/pod"+p[2]).Pod != p[2] {
		return "", Name{}
	}
	return p[2], Name{Namespace: p[0], Pod: p[1]}
}

// containerOf reads NAME_NAMESPACE_CONTAINER-ID.log.
func containerOf(entry string) (id string, n Name) {
	entry, ok := strings.CutSuffix(entry, ".log")
	p := strings.Split(entry, "_")
	if !ok || len(p) != 3 || !isSubdomain(p[0]) || !isLabel(p[1]) {
		return "", Name{}
	}
	i := strings.LastIndexByte(p[2], '-')
	if i < 0 || !isLabel(p[2][:i]) || proc.Locate("/"+p[2][i+1:]).Container != p[2][i+1:] {
		return "", Name{}
	}
	return p[2][i+1:], Name{Namespace: p[1], Pod: p[0], Container: p[2][:i]}
}

// What Kubernetes accepts as a name.
var (
	label     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

func isLabel(s string) bool     { return label.MatchString(s) }
func isSubdomain(s string) bool { return len(s) <= 253 && subdomain.MatchString(s) }

// Of returns the name of the pod with that uid, and of its container with that id.
// If the two directories disagree, pods counts.
func (n *Names) Of(uid, container string) Name {
	if n == nil {
		return Name{}
	}
	pod, c := n.pods[uid], n.containers[container]
	switch {
	case container == "" || c == (Name{}):
		return pod
	case uid == "" || pod == (Name{}):
		return c
	case pod.Namespace != c.Namespace || pod.Pod != c.Pod:
		return pod
	}
	return c
}

// Book keeps [Names], and reads them again if a name is missing. It is safe for
// concurrent use.
type Book struct {
	logs string

	mu      sync.Mutex
	names   *Names
	read    time.Time     // when the last read began
	reading chan struct{} // closed at the end of the current read; nil: nobody reads
}

// NewBook returns a book of the names below logs.
func NewBook(logs string) *Book { return &Book{logs: logs} }

const (
	rereadEvery = time.Second           // at most, so that a pod without a log does not cause constant reading
	maxPatience = 20 * time.Millisecond // how long to wait for a disk: the caller has a record to write
)

// Of is [Names.Of], but waits for a moment if the name is not known yet. While a
// disk hangs, new pods have no name.
func (b *Book) Of(uid, container string) Name {
	if uid == "" {
		return Name{} // not in a pod
	}
	b.mu.Lock()
	n := b.names.Of(uid, container)
	if n.Pod != "" && (container == "" || n.Container != "") || time.Since(b.read) < rereadEvery && b.reading == nil {
		b.mu.Unlock()
		return n
	}
	if b.reading == nil {
		b.read, b.reading = time.Now(), make(chan struct{})
		go b.reread(b.reading) // it ends when the disk has answered
	}
	done := b.reading
	b.mu.Unlock()
	select {
	case <-done:
	case <-time.After(maxPatience):
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.names.Of(uid, container)
}

func (b *Book) reread(done chan struct{}) {
	names, _ := ReadNames(b.logs) // on an error, some names are better than none
	b.mu.Lock()
	defer b.mu.Unlock()
	b.names, b.reading = names, nil
	close(done)
}
