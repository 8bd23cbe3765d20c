// Package hook tells of every write to a guarded sysctl of one network
// namespace, by two BPF programs that are written in C.
package hook

// Answer is what foreign values are answered by.
type Answer uint32

// The answers.
const (
	Observe Answer = iota // they are stored, and told of
	Refuse                // the writer gets EPERM
	Rewrite               // the right value is stored, and the writer told that all went well
)

// Use says how a loaded program is used.
type Use struct {
	Answer     Answer
	Netns      uint32 // inode of the network namespace whose sysctls are guarded; 0: the calling thread's
	ExemptSelf bool   // this process writes what it likes, without an event
	Watched    bool   // the reader has a watch on the files as well
	Limit      int    // events of one key in a second; 0: 20
}

// Hook is a program in use.
type Hook struct{}

// Open takes a loaded program into use, and its files. It makes no bpf(2)
// call and takes no capability.
func Open(l *Loaded, u Use) (*Hook, error) { return nil, ErrNotSupported }

// Execs is the exec program in use.
type Execs struct{}

// OpenExec takes a loaded exec program into use, and its files, as [Open] does.
func OpenExec(l *Loaded) (*Execs, error) { return nil, ErrNotSupported }
