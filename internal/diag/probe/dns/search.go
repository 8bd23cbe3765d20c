package dns

import (
	"fmt"
	"strings"
)

// reached are the candidates that a resolver asks for: those up to the first
// that there is.
func (d *diagnosis) reached() []string {
	if d.Name == "" {
		return nil
	}
	list := d.Search.Candidates(d.Name)
	for i, name := range list {
		if d.heard(d.service(), name).rcode() == noError {
			return list[:i+1]
		}
	}
	return list
}

// given explains what a resolver made of the name that the user gave: which
// names it asks, in order, and where it stops.
func (d *diagnosis) given() {
	if d.Name == "" || d.heard(d.service(), d.base).Replied == 0 {
		return // who does not answer has nothing to say of names
	}
	typed := strings.TrimSuffix(d.Name, ".") + "."
	var walk []string
	failed := "" // the first candidate that brought an error, and not NXDOMAIN
	for i, name := range d.reached() {
		t := d.heard(d.service(), name)
		if t.Asked == 0 {
			return // nothing is known of what was not asked for
		}
		what := t.rcode()
		if what == "" {
			if d.asked(d.service(), d.base).silent() > 0 {
				return // asks get lost whatever they are for, and that is told above
			}
			what = t.worst()
		}
		walk = append(walk, name+" ("+what+")")
		switch {
		case what == noError && failed != "" && failed != name:
			d.searchFails(failed, name)
			return
		case what == noError:
			if i > 0 {
				d.searchList(walk, name, typed)
			}
			return
		case what != nxDomain && failed == "":
			failed = name
		}
	}
	order := strings.Join(walk, ", ")
	switch {
	case failed == "":
		d.finding(NoSuchName, true, fmt.Sprintf("there is no %q; asked for, in this order: %s", d.Name, order),
			"a Service is asked for as name.namespace: kubectl get services -A")
	case failed != typed:
		d.finding(SearchFails, true,
			fmt.Sprintf("%q fails, but first as %s, which the search list made of it; asked for, in this order: %s", d.Name, failed, order),
			dotted(typed))
	default:
		d.finding(NameFails, true, fmt.Sprintf("%q fails; asked for, in this order: %s", d.Name, order), "see what fails above")
	}
}

// worst is what most of the asks ended in that no reply came of.
func (t *tally) worst() string {
	worst, most := "", 0
	for _, o := range []Outcome{Refused, Unreachable, Malformed, Truncated, Unsent, Timeout} {
		if n := t.count(o); n > most {
			worst, most = string(o), n
		}
	}
	return worst
}

func dotted(name string) string {
	return fmt.Sprintf("with a trailing dot, %q, it is asked for as it is, and nothing else", name)
}

// searchFails is about a name that is found, but after one that got an error.
func (d *diagnosis) searchFails(failed, found string) {
	d.finding(SearchFails, true,
		fmt.Sprintf("%q is first asked for as %s, and that fails: the search list made it. musl's resolver gives up there, glibc's goes on to %s", d.Name, failed, found),
		dotted(found))
}

// searchList is about a name that is found after others that there are not.
func (d *diagnosis) searchList(walk []string, found, typed string) {
	next := dotted(found)
	if found == typed {
		next += fmt.Sprintf("; so it is, too, with ndots:%d or less in the pod's dnsConfig", strings.Count(d.Name, "."))
	}
	d.finding(SearchList, false,
		fmt.Sprintf("%q has fewer than %d dots (ndots), so the search list goes first; asked for, in this order: %s", d.Name, d.Search.NDots, strings.Join(walk, ", ")),
		next)
}
