package netfilter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// cuts are the ports at which what is asked for a port changes: between two of
// them, all fare alike.
type cuts struct {
	at   []int
	over bool // there are too many
}

// maxCuts is how many there may be. A firewall that lets more through is told by
// the rule.
const maxCuts = 24

// add takes a range of ports that a rule asks for.
func (c *cuts) add(low, high int) {
	if c == nil {
		return
	}
	for _, n := range []int{low, high + 1} {
		if n > 1 && n <= 0xffff && !slices.Contains(c.at, n) {
			if len(c.at) == maxCuts {
				c.over = true
				return
			}
			c.at = append(c.at, n)
		}
	}
}

// ranges are those between the cuts, by their first port and their last.
func (c *cuts) ranges() (list [][2]int) {
	at := slices.Sorted(slices.Values(append([]int{1, 0x10000}, c.at...)))
	for i := range at[:len(at)-1] {
		list = append(list, [2]int{at[i], at[i+1] - 1})
	}
	return list
}

// inRange says whether the port that the packet is for is in a range.
func (p *packet) inRange(low, high int) answer {
	switch {
	case low <= 1 && high >= 0xffff:
		return yes
	case p.untranslated():
		return perhaps
	case p.port == 0:
		p.ports.add(low, high)
		return perhaps
	}
	return is(low <= p.port && p.port <= high)
}

// clientInRange says whether the port of who began the connection is in a range.
func clientInRange(low, high int) answer {
	switch {
	case low <= ephemeral && high >= 0xffff:
		return yes
	case high < ephemeral:
		return no
	}
	return perhaps
}

func portCount(list [][2]int) (n int) {
	for _, r := range list {
		n += r[1] - r[0] + 1
	}
	return n
}

// portWords are ranges of ports in words: "the port 80", "the ports 80 and 8000-8100".
func portWords(list [][2]int) string {
	var joined [][2]int
	for _, r := range list {
		if n := len(joined); n > 0 && joined[n-1][1]+1 == r[0] {
			joined[n-1][1] = r[1]
			continue
		}
		joined = append(joined, r)
	}
	var words []string
	for _, r := range joined {
		if r[0] == r[1] {
			words = append(words, strconv.Itoa(r[0]))
		} else {
			words = append(words, fmt.Sprintf("%d-%d", r[0], r[1]))
		}
	}
	if len(words) == 1 && joined[0][0] == joined[0][1] {
		return "the port " + words[0]
	}
	if n := len(words); n > 1 {
		words = append(words[:n-2], words[n-2]+" and "+words[n-1])
	}
	return "the ports " + strings.Join(words, ", ")
}
