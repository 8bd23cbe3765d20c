/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only
 *
 * The members of the kernel's structures that the sysctl program reads. The
 * loader finds where they are in the running kernel (CO-RE), so their order and
 * the other members do not matter here.
 */
#pragma once

#include "bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ctl_table_set {
	int unused;
};

struct ctl_table_header {
	struct ctl_table_set *set;
};

/* The context of a program of type cgroup/sysctl is a view of this. */
struct bpf_sysctl_kern {
	struct ctl_table_header *head;
	long long *ppos;
};

struct ns_common {
	u32 inum;
};

struct net {
	struct ns_common ns;
	struct ctl_table_set sysctls;
};

struct super_block {
	u32 s_dev;
};

struct inode {
	struct super_block *i_sb;
};

struct file {
	struct inode *f_inode;
};

struct kiocb {
	struct file *ki_filp;
	long long ki_pos;
};

struct task_struct {
	int tgid;
	u8 comm[16];
};

#pragma clang attribute pop

static void *(*get_current_task)(void) = (void *)35;
static long (*probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;

/* Questions that the loader answers. linux/bpf.h has no names for them; clang
 * calls them BPF_FIELD_BYTE_OFFSET and BPF_FIELD_EXISTS.
 */
#define offset_of(type, member) __builtin_preserve_field_info(((type *)0)->member, 0)
#define exists(type, member) __builtin_preserve_field_info(((type *)0)->member, 2)

/* get reads a member; it is zero if the memory cannot be read. */
#define get(p, member)                                              \
	({                                                          \
		__typeof__((p)->member) value_;                     \
		probe_read_kernel(&value_, sizeof(value_), &(p)->member); \
		value_;                                             \
	})
