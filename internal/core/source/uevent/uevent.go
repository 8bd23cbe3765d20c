// Package uevent tells when a kernel module is loaded and unloaded, from the
// kernel's own uevents. All other uevents are refused in the kernel: devices
// that come and go cost nothing. A module that is built in has none.
package uevent

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

const name = "uevent"

// kernelGroup is the multicast group of the kernel; the other, 2, is udevd's
// copies of it (MONITOR_GROUP_KERNEL in systemd's sd-device).
const kernelGroup = 1

// Source is the source "uevent".
type Source struct {
	module string // with underscores
}

var _ source.Source = (*Source)(nil)

// New returns the source of news of one module. A dash in its name is an
// underscore, as modprobe has it.
func New(module string) *Source {
	return &Source{module: strings.ReplaceAll(module, "-", "_")}
}

// Name is "uevent".
func (*Source) Name() string { return name }

// Run hints "module NAME loaded" and "module NAME unloaded", and "news lost"
// where uevents came faster than they were read; it goes on after that. The
// calling thread's network namespace must belong to the initial user
// namespace: there the kernel sends module uevents to every one of them.
//
// The kernel says "loaded" when the module's init is done, so its sysctls are
// there, from 5.11 on; before that, when it is about to begin.
func (s *Source) Run(ctx context.Context, hint func(source.Hint)) error {
	group, err := rtnl.Join(unix.NETLINK_KOBJECT_UEVENT, kernelGroup, rtnl.StartsWith(loaded, unloaded), 0)
	if err != nil {
		return err
	}
	defer group.Close()

	say := func(kind source.Kind, reason string) {
		hint(source.Hint{Source: name, About: source.Module, Kind: kind, Reason: reason, Time: time.Now()})
	}
	say(source.Subscribed, "subscribed")
	return s.follow(ctx, group.Receive, say)
}

// follow says what receive, which is [rtnl.Group.Receive], brings about the
// module.
func (s *Source) follow(ctx context.Context, receive func(context.Context, []byte) (int, error), say func(source.Kind, string)) error {
	var b [4096]byte // the first line is far shorter; the rest is of no use
	for {
		n, err := receive(ctx, b[:])
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // told to stop: the error is of that
		case errors.Is(err, unix.ENOBUFS):
			say(source.Lost, "news lost")
		case err != nil:
			return err
		default:
			switch module, did := parse(b[:n]); {
			case module != s.module:
			case did == source.Appeared:
				say(did, "module "+module+" loaded")
			case did == source.Removed:
				say(did, "module "+module+" unloaded")
			}
		}
	}
}

// How the uevents of a module begin: ACTION@DEVPATH, then a zero.
const (
	loaded   = "add@/module/"
	unloaded = "remove@/module/"
)

// parse returns a module's name and what became of it, [source.Appeared] or
// [source.Removed], for a uevent that says so, and zeros for any other.
func parse(b []byte) (module string, did source.Kind) {
	line, _, ok := bytes.Cut(b, []byte{0})
	if !ok {
		return "", 0
	}
	if m, ok := strings.CutPrefix(string(line), loaded); ok {
		return m, source.Appeared
	}
	if m, ok := strings.CutPrefix(string(line), unloaded); ok {
		return m, source.Removed
	}
	return "", 0
}
