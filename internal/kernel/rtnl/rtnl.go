// Package rtnl is the one place that speaks netlink: it lists the bridges,
// sets their flags nf_call_*, and joins multicast groups with a filter in the
// kernel, so that news of no interest costs nothing. Who asks another protocol
// than rtnetlink has the socket from here. It works in the network namespace of
// the calling thread, changes nothing else, and does not know why anybody asks
// or listens.
package rtnl
