package boot

import (
	"path"
	"slices"
	"strings"
)

// ifupdown returns what interfaces(5) and the programs of directories like its own
// run as interfaces come up. An interface that is not brought up at boot may be later.
func (f *forecast) ifupdown() []start {
	const when = "once its interface comes up"
	files := []string{"/etc/network/interfaces"}
	for _, e := range f.t.list("/etc/network/interfaces.d") {
		if name := path.Join("/etc/network/interfaces.d", e.Name()); !e.IsDir() && !strings.ContainsAny(e.Name(), "~") {
			files = append(files, name)
		}
	}
	var starts []start
	auto := make(map[string]bool)
	of := make(map[int]string) // the interface of a start
	for _, file := range files {
		text, _ := f.t.read(file, maxFile)
		n, iface := 0, ""
		for line := range strings.Lines(string(text)) {
			n++
			fields := strings.Fields(line)
			if len(fields) < 2 {
				continue
			}
			switch verb := fields[0]; {
			case verb == "iface":
				iface = fields[1]
			case verb == "auto", strings.HasPrefix(verb, "allow-"):
				for _, name := range fields[1:] {
					auto[name] = true
				}
			case slices.Contains([]string{"pre-up", "up", "post-up"}, verb):
				command := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), verb))
				if acts := f.runs(Place{file, n}, command, false).acts; len(acts) > 0 {
					of[len(starts)] = iface
					starts = append(starts, start{Reader: Ifupdown, Place: Place{file, n}, when: when, text: command, acts: acts})
				}
			}
		}
	}
	for i, iface := range of {
		if !auto[iface] {
			starts[i].acts = doubtful(starts[i].acts)
		}
	}
	for _, d := range hookDirs {
		for _, e := range f.t.list(d.dir) {
			name := path.Join(d.dir, e.Name())
			text := f.t.script(name, false)
			if text == "" || !f.suspicious(text) || !f.t.executable(name) {
				continue
			}
			acts := f.runs(Place{name, 1}, text, true).acts
			reader := Ifupdown
			if d.of != "" {
				reader = Dispatcher
				if !f.t.exists("/etc/systemd/system/multi-user.target.wants/" + d.of) {
					acts = doubtful(acts)
				}
			}
			if len(acts) > 0 {
				starts = append(starts, start{Reader: reader, when: when, acts: acts})
			}
		}
	}
	return starts
}

// hookDirs are those of programs that are run as interfaces come up, by ifupdown
// and by services that are enabled or not.
var hookDirs = []struct{ dir, of string }{
	{dir: "/etc/network/if-pre-up.d"},
	{dir: "/etc/network/if-up.d"},
	{"/etc/NetworkManager/dispatcher.d", "NetworkManager.service"},
	{"/etc/NetworkManager/dispatcher.d/pre-up.d", "NetworkManager.service"},
	{"/etc/networkd-dispatcher/carrier.d", "networkd-dispatcher.service"},
	{"/etc/networkd-dispatcher/configured.d", "networkd-dispatcher.service"},
	{"/etc/networkd-dispatcher/routable.d", "networkd-dispatcher.service"},
}
