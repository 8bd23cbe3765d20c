package boot

import (
	"path"
	"slices"
	"strings"
)

// cloudInit returns what cloud-init runs: bootcmd at each boot, runcmd at the first
// one only, and the scripts of each boot. It reads the host's configuration, and
// the data of the instance that it has kept.
func (f *forecast) cloudInit() []start {
	if f.t.exists("/etc/cloud/cloud-init.disabled") || !f.t.exists("/etc/cloud") && !f.t.exists("/var/lib/cloud") {
		return nil
	}
	files := []string{"/etc/cloud/cloud.cfg"}
	for _, e := range f.t.list("/etc/cloud/cloud.cfg.d") {
		if strings.HasSuffix(e.Name(), ".cfg") {
			files = append(files, path.Join("/etc/cloud/cloud.cfg.d", e.Name()))
		}
	}
	// user-data.txt is what the instance was given, vendor-data.txt what its provider adds.
	files = append(files, "/var/lib/cloud/instance/vendor-data.txt", "/var/lib/cloud/instance/user-data.txt")
	done := f.t.exists("/var/lib/cloud/instance/sem/config_runcmd")
	var starts []start
	for _, file := range files {
		text, ok := f.t.read(file, maxFile)
		if !ok || !f.suspicious(string(text)) {
			continue
		}
		if strings.HasPrefix(string(text), "#!") { // a script, for the first boot
			if s := f.runs(Place{file, 1}, string(text), true); len(s.acts) > 0 && !f.t.exists("/var/lib/cloud/instance/sem/config_scripts_user") {
				starts = append(starts, start{Reader: CloudInit, when: "once cloud-init runs its scripts", acts: s.acts})
			}
			continue
		}
		for _, c := range cloudCommands(file, string(text)) {
			if c.key == "runcmd" && done {
				continue // it was the first boot's
			}
			acts := f.runs(c.Place, c.text, c.block).acts
			if c.args != nil {
				acts = f.executes(c.Place, c.args).acts
			}
			when := "once cloud-init runs its " + c.key
			s := start{Reader: CloudInit, Place: c.Place, when: when, text: c.text, acts: acts}
			if c.block {
				s.Place = Place{} // the acts have their own
			}
			if len(acts) > 0 {
				starts = append(starts, s)
			}
		}
	}
	const perBoot = "/var/lib/cloud/scripts/per-boot"
	for _, e := range f.t.list(perBoot) {
		file := path.Join(perBoot, e.Name())
		text := f.t.script(file, false)
		if text == "" || !f.suspicious(text) || !f.t.executable(file) {
			continue
		}
		if acts := f.runs(Place{file, 1}, text, true).acts; len(acts) > 0 {
			starts = append(starts, start{Reader: CloudInit, when: "once cloud-init runs its scripts", acts: acts})
		}
	}
	return starts
}

// cloudCommand is an element of bootcmd or runcmd.
type cloudCommand struct {
	Place
	key   string
	text  string
	args  []string // of a list, which is run without a shell; nil: text is for a shell
	block bool     // text is of several lines, the first of which is at Place
}

// cloudCommands reads the lists bootcmd and runcmd of a file in YAML, in the forms
// that people write them in: a line each, quoted or not, a list in brackets, a list
// below it, or a block of lines.
func cloudCommands(file, text string) (list []cloudCommand) {
	lines := strings.Split(text, "\n")
	key := ""
	for i := 0; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], " \t\r")
		bare := strings.TrimLeft(line, " ")
		indent := len(line) - len(bare)
		if bare == "" || bare[0] == '#' {
			continue
		}
		if indent == 0 && bare[0] != '-' {
			name, rest, _ := strings.Cut(bare, ":")
			if key = ""; slices.Contains([]string{"bootcmd", "runcmd"}, name) {
				key = name
				if flow := strings.TrimSpace(rest); strings.HasPrefix(flow, "[") {
					for _, item := range flowItems(flow) {
						list = append(list, item.command(Place{file, i + 1}, key))
					}
				}
			}
			continue
		}
		item, ok := strings.CutPrefix(bare, "-")
		if key == "" || !ok {
			continue
		}
		at := Place{file, i + 1}
		item = strings.TrimSpace(item)
		inside := func(j int) bool { // of this element
			l := lines[j]
			return strings.TrimSpace(l) == "" || len(l)-len(strings.TrimLeft(l, " ")) > indent
		}
		switch {
		case strings.HasPrefix(item, "["):
			list = append(list, flowItem{list: flowItems(item)}.command(at, key))
		case strings.HasPrefix(item, "- "):
			args := []string{scalar(item[2:])}
			for ; i+1 < len(lines) && inside(i+1); i++ {
				if more, ok := strings.CutPrefix(strings.TrimSpace(lines[i+1]), "- "); ok {
					args = append(args, scalar(more))
				}
			}
			list = append(list, cloudCommand{Place: at, key: key, text: strings.Join(args, " "), args: args})
		case item != "" && strings.Trim(item, "|>+-0123456789") == "":
			var block []string
			for ; i+1 < len(lines) && inside(i+1); i++ {
				block = append(block, strings.TrimSpace(lines[i+1]))
			}
			c := cloudCommand{Place: Place{file, at.Line + 1}, key: key, text: strings.Join(block, "\n"), block: true}
			if item[0] == '>' {
				c.text, c.block = strings.Join(block, " "), false
			}
			list = append(list, c)
		default:
			list = append(list, cloudCommand{Place: at, key: key, text: scalar(item)})
		}
	}
	return list
}

// flowItem is an element of a list in brackets: a scalar or a list.
type flowItem struct {
	text string
	list []flowItem
}

func (i flowItem) command(at Place, key string) cloudCommand {
	c := cloudCommand{Place: at, key: key, text: i.text}
	if i.list != nil {
		c.args = []string{}
		for _, a := range i.list {
			c.args = append(c.args, a.text)
		}
		if c.text = strings.Join(c.args, " "); len(c.args) == 0 {
			c.args = nil
		}
	}
	return c
}

// flowItems reads what stands in brackets, in one line.
func flowItems(text string) (list []flowItem) {
	list, _ = flow(text[1:], 0)
	return list
}

func flow(text string, depth int) (list []flowItem, rest string) {
	list = []flowItem{}
	for text != "" && depth < maxDepth {
		text = strings.TrimLeft(text, " ,")
		switch {
		case text == "":
		case text[0] == ']':
			return list, text[1:]
		case text[0] == '[':
			var inner []flowItem
			inner, text = flow(text[1:], depth+1)
			list = append(list, flowItem{list: inner})
		case text[0] == '"', text[0] == '\'':
			end := strings.IndexByte(text[1:], text[0])
			if end < 0 {
				return list, ""
			}
			list, text = append(list, flowItem{text: scalar(text[:end+2])}), text[end+2:]
		default:
			end := strings.IndexAny(text, ",]")
			if end < 0 {
				end = len(text)
			}
			list, text = append(list, flowItem{text: scalar(text[:end])}), text[end:]
		}
	}
	return list, text
}

// scalar is a value without its quotes, and without a comment behind it.
func scalar(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > 1 && (text[0] == '"' || text[0] == '\'') {
		if end := strings.LastIndexByte(text, text[0]); end > 0 {
			quote := text[0]
			if text = text[1:end]; quote == '"' {
				return strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\n`, "\n", `\t`, "\t").Replace(text)
			}
			return strings.ReplaceAll(text, "''", "'")
		}
	}
	text, _, _ = strings.Cut(text, " #")
	return strings.TrimSpace(text)
}
