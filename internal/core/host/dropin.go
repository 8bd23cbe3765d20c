package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/nfguard/nfguard/internal/core/guard"
	"github.com/nfguard/nfguard/internal/core/step"
	"github.com/nfguard/nfguard/internal/files"
)

// maxDropin limits how much of our file is read; a longer one is no longer ours.
const maxDropin = 64 << 10

// dropins looks at the drop-ins that p keeps. With unopened t could not be.
func dropins(ctx context.Context, t *files.Tree, unopened error, p *guard.Policy) (list []guard.Dropin) {
	if unopened == nil && p.ModulesLoad != "" && p.SysctlD != "" && oneFile(t, p.ModulesLoad, p.SysctlD) {
		return []guard.Dropin{dropin(ctx, t, p, p.ModulesLoad), {
			Path: p.SysctlD, State: guard.Present, Have: "the file of another path", Obstacle: &guard.Obstacle{
				Reason: "it is the same file as " + p.ModulesLoad + ", through a link",
				Next:   "give each a file of its own: sysctl under [persist]",
			},
		}}
	}
	for _, path := range []string{p.ModulesLoad, p.SysctlD} {
		switch {
		case path == "":
		case unopened != nil:
			list = append(list, guard.Dropin{Path: path, Err: unopened})
		default:
			list = append(list, dropin(ctx, t, p, path))
		}
	}
	return list
}

// oneFile reports whether links make one file of two paths. The files themselves
// are no links: what is written is put there as a whole.
func oneFile(t *files.Tree, a, b string) bool {
	x, err := t.Resolve(path.Dir(a))
	y, other := t.Resolve(path.Dir(b))
	return err == nil && other == nil && path.Join(x, path.Base(a)) == path.Join(y, path.Base(b))
}

func dropin(ctx context.Context, t *files.Tree, p *guard.Policy, path string) guard.Dropin {
	step.Begin(ctx, "reading "+path)
	d := guard.Dropin{Path: path}
	text, err := t.ReadNoLink(path, maxDropin)
	var other *files.NotRegular
	switch {
	case files.Hidden(err):
		d.State, d.Have = guard.Absent, "absent"
		d.Obstacle = &guard.Obstacle{Reason: "what is there is not kept in an image", Next: "name a file below /etc under [persist]"}
	case errors.Is(err, fs.ErrNotExist):
		d.State = guard.Absent
	case errors.As(err, &other):
		d.State, d.Have, d.Obstacle = guard.Present, other.Kind(), p.NotAFile(path, other.Kind())
	case err != nil && !errors.As(err, new(*files.TooLarge)):
		d.Err = err
	default:
		d.State, d.Have = guard.Present, string(text)
	}
	return d
}

// written explains the error of writing a drop-in.
func written(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, files.ErrForeign), errors.As(err, new(*files.NotRegular)):
		return &obstacleError{
			op: "write " + path, reason: reason(err), err: err,
			next: "move it away if nobody needs it there, or name another file under [persist]",
		}
	}
	return fmt.Errorf("write %s: %w", path, bare(err))
}

// bare is an error without the name of the file, which the message already has.
func bare(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

func reason(err error) string { return bare(err).Error() }

// write puts a drop-in of the host in place. It refuses to replace a file that
// is not ours, and to follow a link that is another user's.
func (l *Linux) write(path, content string) error {
	return written(path, files.Put(l.path(path), []byte(content), guard.Ours))
}

// dropins looks at the drop-ins of the host.
func (l *Linux) dropins(ctx context.Context, p *guard.Policy) []guard.Dropin {
	t, err := files.OpenTree(l.dir)
	if err == nil {
		defer t.Close()
	}
	return dropins(ctx, t, err, p)
}

// absent reports whether one of the drop-ins is not there.
func absent(list []guard.Dropin) bool {
	return slices.ContainsFunc(list, func(d guard.Dropin) bool { return d.State == guard.Absent })
}
