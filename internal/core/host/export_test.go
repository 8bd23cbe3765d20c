package host

// NewAt is New for a host whose files are below dir.
func NewAt(dir string, o Options) *Linux {
	l := New(o)
	l.dir = dir
	return l
}
