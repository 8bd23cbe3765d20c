//go:build ignore

/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only
 *
 * The program that sees each packet that the kernel drops, with its reason, and
 * tells of those from or to some addresses.
 */
#include "../hook/bpf.h"

/* The kernel lends probe_read_kernel to GPL programs only. This object's
 * sources may be had under these licences besides nfguard's own.
 */
char licence[] SEC("license") = "Dual BSD/GPL";

typedef unsigned short u16;

/* The members of the kernel's structures that are read here: the loader finds
 * where they are in the running kernel (CO-RE).
 */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	u32 inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	possible_net_t nd_net;
	int ifindex;
};

struct dst_entry {
	struct net_device *dev;
};

struct sock_common {
	possible_net_t skc_net;
};

struct sock {
	struct sock_common __sk_common;
};

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned long _skb_refdst;
	unsigned char *head;
	u16 network_header;
	u32 len;
};

#pragma clang attribute pop

static long (*probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;

/* get reads a member, zero if there is no memory. */
#define get(p, member)                                              \
	({                                                          \
		__typeof__((p)->member) value_;                     \
		probe_read_kernel(&value_, sizeof(value_), &(p)->member); \
		value_;                                             \
	})

enum { HEADERS = 64 };

struct drop {
	u64 location; /* where in the kernel's text */
	u32 reason;
	u32 len;     /* of the packet, from where the kernel was in it */
	u32 ifindex; /* the device that the packet is at */
	u32 of_dev, of_dst, of_sock; /* network namespaces, by inode */
	u8 headers[HEADERS]; /* from the header of IP on */
};

struct address {
	u8 b[16]; /* of IPv4 the first four */
};

/* Whose packets are told of: those from or to one of them. */
struct {
	number(type, MAP_HASH);
	number(max_entries, 1024);
	type_of(key, struct address);
	type_of(value, u32);
} addresses SEC(".maps");

/* How many did not fit into the ring. */
struct {
	number(type, MAP_ARRAY);
	number(max_entries, 1);
	type_of(key, u32);
	type_of(value, u64);
} lost SEC(".maps");

struct {
	number(type, MAP_RINGBUF);
	number(max_entries, 256 << 10);
	type_of(value, struct drop); /* for bpf2go */
} ring SEC(".maps");

static always_inline u32 namespace_of(struct net *net)
{
	return net ? get(net, ns.inum) : 0;
}

static always_inline int wanted(const u8 *at, u32 size)
{
	struct address a;

	zero(a.b, sizeof(a.b));
	if (size == 4)
		__builtin_memcpy(a.b, at, 4);
	else
		__builtin_memcpy(a.b, at, 16);
	return map_lookup(&addresses, &a) != 0;
}

/* The arguments of trace_kfree_skb: the packet, the location, the reason (5.17). */
SEC("raw_tp/kfree_skb") int dropped(u64 *arguments)
{
	struct sk_buff *skb = (struct sk_buff *)arguments[0];
	struct drop d;
	u8 version;

	zero((void *)&d, sizeof(d));
	if (probe_read_kernel(d.headers, HEADERS, get(skb, head) + get(skb, network_header)))
		return 0;
	version = d.headers[0] >> 4;
	if (version == 4) {
		if (!wanted(d.headers + 12, 4) && !wanted(d.headers + 16, 4))
			return 0;
	} else if (version == 6) {
		if (!wanted(d.headers + 8, 16) && !wanted(d.headers + 24, 16))
			return 0;
	} else {
		return 0;
	}
	d.location = arguments[1];
	d.reason = arguments[2];
	d.len = get(skb, len);

	struct net_device *dev = get(skb, dev);
	if (dev) {
		d.of_dev = namespace_of(get(dev, nd_net.net));
		d.ifindex = get(dev, ifindex);
	}
	struct dst_entry *dst = (struct dst_entry *)(get(skb, _skb_refdst) & ~7UL);
	if (dst) {
		dev = get(dst, dev);
		if (dev)
			d.of_dst = namespace_of(get(dev, nd_net.net));
	}
	struct sock *sk = get(skb, sk);
	if (sk)
		d.of_sock = namespace_of(get(sk, __sk_common.skc_net.net));

	if (ringbuf_output(&ring, &d, sizeof(d), 0) == 0)
		return 0;
	u32 first = 0;
	u64 *n = map_lookup(&lost, &first);
	if (n)
		add(n, 1);
	return 0;
}
