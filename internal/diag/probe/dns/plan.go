package dns

import (
	"slices"
	"strings"
)

// Questions are what is asked of a cluster with that domain: a name that every
// one has, external unless it is "", and what search makes of name unless that
// is "". Each name is asked for once, whatever it is for.
func Questions(domain, external, name string, search *ResolvConf) []Question {
	list := []Question{{Name: "kubernetes.default.svc." + strings.TrimSuffix(domain, ".") + ".", Purpose: Cluster}}
	add := func(name string, p Purpose) {
		if !slices.ContainsFunc(list, func(q Question) bool { return strings.EqualFold(q.Name, name) }) {
			list = append(list, Question{name, p})
		}
	}
	if external != "" {
		add(strings.TrimSuffix(external, ".")+".", External)
	}
	if name != "" {
		for _, c := range search.Candidates(name) {
			add(c, Given)
		}
	}
	return list
}
