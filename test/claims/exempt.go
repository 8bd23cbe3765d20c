package claims

// parts are the packages below internal whose sentences are claims.
var parts = []string{
	"core/boot", "core/guard", "core/host", "core/journal", "core/keep", "core/words",
	"diag/history", "diag/history/report", "diag/probe", "diag/probe/dns", "diag/services", "diag/trace",
}

// exempt are functions and tables, or single texts of theirs, that are no facts about
// the node and stand where role.go does not see it; and why.
var exempt = map[string]string{
	"core/boot start.how: sets it":                                                     "the verb of the sentences of its callers",
	"core/guard group.text: pods on …":                                                 "the beginning of the sentences beside it",
	"core/guard Path.route: what is for …":                                             "the beginning of the sentences beside it",
	"diag/history Record.foreign: … of uid …":                                          "the end of the sentences beside it",
	"diag/history/report doc.head: nfguard: what was changed":                          "a title",
	"diag/probe failure: a pod that calls a Service with an endpoint on its own node ": "the beginning of the sentences beside it",
	"diag/trace Path.inWords: The %s passes":                                           "the beginning of a description, whatever it is of",
	"core/boot tree.kmods":                                                             "words that are looked for in a program",
	"core/boot tree.signed":                                                            "a mark that is looked for in a module's file",
	"core/guard Impact.Describe: …… of … through Services":                             "a number, for the sentences of its callers",
	"core/guard Path.giveRoute":                                                        "words of a next step",
	"core/guard Policy.ModulesLoadText":                                                "the text of a drop-in",
	"core/guard Policy.SysctlText":                                                     "the text of a drop-in",
	"core/guard abandoned: nf_call_… 0":                                                "words of a next step",
	"core/host JournalQuery.op":                                                        "words of an error",
	"core/host Linux.Do":                                                               "the names of steps",
	"core/host Tree.Survey":                                                            "a command, for next steps",
	"core/host allocatorByName":                                                        "the names of programs",
	"core/host cniConfig.allocates":                                                    "the name of a program",
	"core/host loading.start":                                                          "words of an error",
	"core/journal Open":                                                                "log lines",
	"diag/history Columns":                                                             "the heads of columns",
	"diag/history/report Page.Write":                                                   "who made the page",
	"diag/history/report doc.zones":                                                    "the form of a time zone",
	"diag/probe Attachment.AskItself":                                                  "the values of Cell.Port; package probe has words for them in hairpin",
	"diag/probe/dns PodConf":                                                           "the name of a source, which the asker has chosen",
	"diag/probe/dns corefile":                                                          "lines of a Corefile, for a next step",
	"diag/trace Path.atEndpoint: TcpExt ListenOverflows":                               "the name of a counter",
	"diag/trace Path.atEndpoint: Udp RcvbufErrors":                                     "the name of a counter",
	"diag/trace Path.bySettings: Ip InHdrErrors":                                       "the name of a counter",
	"diag/trace Path.bySettings: TcpExt IPReversePathFilter":                           "the name of a counter",
	"diag/trace missingLines":                                                          "the lines of a box; Path.fault has the sentence",
	"diag/trace draw":                                                                  "the style of a picture",
	"diag/trace picture.packet":                                                        "the name of a lane",
	"diag/trace picture.path":                                                          "the elements of a picture",
	"diag/trace Path.boxes":                                                            "the classes of elements",
	"diag/trace Path.ends":                                                             "the classes of elements",
}

func (p *pkg) exempted(c *Claim) bool {
	found := false
	for _, key := range []string{c.Package + " " + c.Function, c.Package + " " + c.Function + ": " + c.Text} {
		if _, ok := exempt[key]; ok {
			p.exempt[key], found = true, true
		}
	}
	return found
}
