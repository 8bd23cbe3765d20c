/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only
 *
 * The part of the kernel's interface that the programs need: types, helpers by
 * number (include/uapi/linux/bpf.h), and how a map is declared to the loader.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define always_inline inline __attribute__((always_inline))

/* Members of a map's declaration, which the loader reads from the BTF. */
#define number(name, value) int(*name)[value]
#define type_of(name, t) __typeof__(t) *name

enum { MAP_HASH = 1, MAP_ARRAY = 2, MAP_RINGBUF = 27 };
enum { MAP_MMAPABLE = 1 << 10 };

enum { RINGBUF_NO_WAKEUP = 1, RINGBUF_FORCE_WAKEUP = 2 };

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static u64 (*ktime_get_ns)(void) = (void *)5;
static u64 (*get_current_pid_tgid)(void) = (void *)14;
static u64 (*get_current_uid_gid)(void) = (void *)15;
static long (*get_current_comm)(void *to, u32 size) = (void *)16;
static u64 (*get_current_cgroup_id)(void) = (void *)80;
static long (*ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;

/* add is the only atomic operation of Linux 5.10. */
#define add(p, n) ((void)__sync_fetch_and_add(p, n))

/* zero clears size bytes of the stack, a multiple of four, in words of four. To
 * the verifier, eight bytes stored from a register are a spilled register, and
 * without CAP_PERFMON no helper can write a part of one (Linux 6.1).
 */
static always_inline void zero(void *at, u32 size)
{
	volatile u32 *word = at;

#pragma unroll
	for (u32 i = 0; i < size / 4; i++)
		word[i] = 0;
}
