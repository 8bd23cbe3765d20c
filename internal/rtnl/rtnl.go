// Package rtnl is the one place that speaks netlink: it lists the bridges,
// and joins multicast groups with a filter in the kernel, so that news of no
// interest costs nothing. It works in the network namespace of the calling
// thread, changes nothing, and does not know why anybody listens.
package rtnl
