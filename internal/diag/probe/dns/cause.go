package dns

// Cause is why a name is not answered rightly.
type Cause string

// The causes. In JSON they are these words.
const (
	BridgeNetfilter Cause = "bridge_netfilter" // replies cross the bridge and bypass kube-proxy's rules
	OtherSource     Cause = "other_source"     // a reply of the wrong source, and no bridge in sight
	DeadReplica     Cause = "dead_replica"     // one does not answer, others do
	Down            Cause = "down"             // nobody answers
	NoEndpoints     Cause = "no_endpoints"     // refused before anybody was asked
	NoPath          Cause = "no_path"          // the replicas answer, the cluster IP does not
	Lossy           Cause = "lossy"            // a share of the asks gets no answer
	Broken          Cause = "broken"           // a reply that is malformed, or too long without TCP
	NotTheCluster   Cause = "not_the_cluster"  // it answers, and does not know the cluster's name
	ClusterFails    Cause = "cluster_fails"    // it answers with an error for the cluster's name
	NoForward       Cause = "no_forward"       // it has nobody to ask for names of the world
	UpstreamFails   Cause = "upstream_fails"   // it asks somebody, in vain
	NoExternalName  Cause = "no_external_name" // somebody says that there is no such name
	SearchFails     Cause = "search_fails"     // a name fails that the search list made
	SearchList      Cause = "search_list"      // a name is found after others that there are not
	NoSuchName      Cause = "no_such_name"     // whatever the search list makes of it
	NameFails       Cause = "name_fails"       // the name that was given, for whatever reason
	FromNode        Cause = "from_node"        // asked from a node, and not as a pod
	CannotAsk       Cause = "cannot_ask"       // nothing left this machine
)

// words are a cause as it stands in a summary.
func (c Cause) words() string {
	switch c {
	case BridgeNetfilter:
		return "replies bypass netfilter on the bridge"
	case OtherSource:
		return "replies come from another address"
	case DeadReplica:
		return "a replica does not answer"
	case Down:
		return "nobody answers"
	case NoEndpoints:
		return "asks are refused"
	case NoPath:
		return "no answer, although replicas answer"
	case Lossy:
		return "a share of the asks gets no answer"
	case Broken:
		return "replies are broken"
	case NotTheCluster:
		return "it does not know the cluster"
	case ClusterFails:
		return "the cluster's names fail"
	case NoForward:
		return "external names are passed to nobody"
	case UpstreamFails:
		return "external names fail"
	case NoExternalName:
		return "an external name is said not to be"
	case SearchFails:
		return "a name made by the search list fails"
	case NoSuchName:
		return "there is no such name"
	case NameFails:
		return "the name fails"
	case SearchList, FromNode, CannotAsk: // notes, of which a summary has nothing to say
	}
	return string(c)
}
