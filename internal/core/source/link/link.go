// Package link tells of bridge devices, and of those of a few names, that are
// created, changed and deleted in the network namespace in which it is run. It
// does not look at them, and other devices, ports of bridges among them, never
// wake it: a thousand veths cost it nothing. Where it is asked to, it tells of
// ports, too, as long as they are not in hairpin mode.
package link

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfguard/nfguard/internal/core/source"
	"github.com/nfguard/nfguard/internal/kernel/rtnl"
)

const name = "link"

// receiveBuffer holds about a thousand messages of 4 kB: a burst of bridges
// that the kernel's default, with room for fifty, would lose.
const receiveBuffer = 4 << 20

// Source is the source "link".
type Source struct {
	buffer  int
	ports   bool
	devices []string
}

var _ source.Source = (*Source)(nil)

// New returns the source of news of bridges and of devices of those names, and,
// where ports is true, of ports that are not in hairpin mode.
func New(ports bool, devices ...string) *Source {
	return &Source{buffer: receiveBuffer, ports: ports, devices: devices}
}

// Name is "link".
func (*Source) Name() string { return name }

// Run hints "bridge NAME appeared" and "… changed", with the device, "bridge
// NAME was removed", "port NAME changed" with the port's device, "device NAME …" of
// those that are neither, and "news lost" where they came faster than they were
// read; it goes on after that. It subscribes in
// the network namespace of the calling thread.
func (s *Source) Run(ctx context.Context, hint func(source.Hint)) error {
	sub, err := rtnl.Subscribe(s.buffer, s.ports, s.devices...)
	if err != nil {
		return err
	}
	defer sub.Close()

	say := func(kind source.Kind, reason, device string) {
		hint(source.Hint{Source: name, About: source.Devices, Kind: kind, Reason: reason, Time: time.Now(), Device: device})
	}
	say(source.Subscribed, "subscribed", "")
	for {
		news, err := sub.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			say(source.Lost, "news lost", "")
		case err != nil:
			return err
		case news.Port:
			hint(source.Hint{
				Source: name, About: source.Ports, Kind: source.Changed, Reason: "port " + news.Name + " changed", Time: time.Now(), Device: news.Name,
			})
		default:
			kind, what, device := kindOf(news.Change), "device ", ""
			if news.Bridge {
				what = "bridge "
				if kind != source.Removed {
					device = news.Name
				}
			}
			say(kind, what+news.Name+" "+kind.String(), device)
		}
	}
}

func kindOf(c rtnl.Change) source.Kind {
	switch c {
	case rtnl.Appeared:
		return source.Appeared
	case rtnl.Went:
		return source.Removed
	case rtnl.Changed:
	}
	return source.Changed
}
