package record

import "time"

// Write is a foreign write to a sysctl, as the kernel told of it: what the
// source of it found out goes to the keeper as it is.
type Write struct {
	File   string         // the sysctl's, "/proc/sys/…"; "": one of those that are watched
	Writer Process        // what is known already; a PID of zero: nobody is
	Who    func() Process // all that can be read of the writer, which takes its time; nil: Writer is all

	// Vague says that somebody has written, and that it may have been us: it
	// explains a value that does not stay, and accounts for no correction.
	Vague bool

	// Exact says that the kernel told of it before it stored the value, and
	// told what it was: the rest is known then. The value may not be there
	// yet when it is looked for.
	Exact   bool
	At      time.Time
	Old     string  // what was there
	New     string  // what was to be; "": several writes, which are only counted
	Outcome Outcome // Denied or Rewritten where it was not stored; "" otherwise
	Missed  int     // how many more writes to this file the kernel did not tell of
}
