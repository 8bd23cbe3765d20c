//go:build ignore

/* SPDX-License-Identifier: Apache-2.0
 *
 * This program reports when root starts a process with one of the given names. It
 * runs at each exec; for any other process it costs a lookup and wakes nobody. It
 * calls no helper that is reserved for GPL programs, and reads no kernel memory.
 */
#include "bpf.h"

char licence[] SEC("license") = "Apache-2.0";

enum { MAX_COMM = 16 };

struct start {
	u64 tgid;
	u8 comm[MAX_COMM];
};

struct {
	number(type, MAP_HASH);
	number(max_entries, 1);
	type_of(key, u8[MAX_COMM]);
	type_of(value, u32);
} names SEC(".maps");

/* The number of starts that did not fit into the ring. */
struct {
	number(type, MAP_ARRAY);
	number(map_flags, MAP_MMAPABLE);
	number(max_entries, 1);
	type_of(key, u32);
	type_of(value, u64);
} lost SEC(".maps");

struct {
	number(type, MAP_RINGBUF);
	number(max_entries, 4096);
	type_of(value, struct start); /* for bpf2go */
} ring SEC(".maps");

/* It uses no arguments: the current task is what has started. */
SEC("raw_tp/sched_process_exec") int starts(void *ctx __attribute__((unused)))
{
	struct start s;
	u32 first = 0;

	/* The real user, in the initial user namespace: anybody can name a file
	 * kube-proxy. Checked first, so that other users' processes cost the least.
	 */
	if ((u32)get_current_uid_gid() != 0)
		return 0;
	zero(s.comm, sizeof(s.comm));
	get_current_comm(s.comm, sizeof(s.comm));
	if (!map_lookup(&names, s.comm))
		return 0;
	s.tgid = get_current_pid_tgid() >> 32;
	if (ringbuf_output(&ring, &s, sizeof(s), 0) == 0)
		return 0;
	u64 *n = map_lookup(&lost, &first);
	if (n)
		add(n, 1);
	return 0;
}
