//go:build ignore

/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only
 *
 * This program sees each write to a sysctl before the value is stored. It judges
 * the writes to guarded sysctls of one network namespace, reports those of foreign
 * values, and refuses or rewrites them where it is told to.
 */
#include "kernel.h"

/* The kernel offers probe_read_kernel and get_current_task to GPL programs only.
 * So the sources of this object, and nothing else in nfguard, are also available
 * under these licences.
 */
char licence[] SEC("license") = "Dual BSD/GPL";

/* The context, struct bpf_sysctl of include/uapi/linux/bpf.h. */
struct bpf_sysctl {
	u32 write;
	u32 file_pos;
};

/* What the program returns: 0 is EPERM for the caller. */
enum { REFUSE = 0, ALLOW = 1 };

enum { EINVAL = 22, E2BIG = 7 };

static long (*sysctl_get_name)(void *ctx, void *to, u64 size, u64 flags) = (void *)101;
static long (*sysctl_get_current_value)(void *ctx, void *to, u64 size) = (void *)102;
static long (*sysctl_get_new_value)(void *ctx, void *to, u64 size) = (void *)103;
static long (*sysctl_set_new_value)(void *ctx, const void *from, u64 size) = (void *)104;
static long (*strtol)(const void *text, u64 size, u64 flags, s64 *to) = (void *)105;

enum {
	MAX_PATH = 96, /* with the zero byte; net/ipv6/conf/INTERFACE/KEY has at most 70 */
	MAX_WANT = 16, /* of a number that a write can be rewritten to, with its newline and a zero byte */
	MAX_TEXT = 64, /* of a value in an event, with the zero byte */
	MAX_COMM = 16,
};

/* How a written text is judged. */
enum kind {
	KIND_TEXT,    /* not here: each write is an event */
	KIND_NUMBER,  /* by the number that it begins with; text without a number counts as foreign */
	KIND_BOOLEAN, /* by whether the number is zero, which is all that the kernel keeps; text without a number is left to the kernel, which answers EINVAL */
};

/* A guarded sysctl. It is found by its path, and never changes. */
struct rule {
	s64 number;          /* the right value */
	u32 slot;            /* index of struct slot */
	enum kind kind;
	u32 namespaced;      /* it belongs to a network namespace */
	u32 text_len;        /* without the newline */
	u8 text[MAX_WANT]; /* the right value, and a newline */
};

enum answer {
	ANSWER_OBSERVE,
	ANSWER_REFUSE,
	ANSWER_REWRITE,
};

enum verdict {
	VERDICT_ALLOWED,
	VERDICT_REFUSED,
	VERDICT_REWRITTEN,
	VERDICTS,
};

enum state {
	STATE_ASLEEP,   /* nobody uses the program */
	STATE_REHEARSE, /* a write at POSITION fills struct found */
	STATE_GUARD,
};

/* What a rehearsal finds. */
struct found {
	u32 ran;
	u32 tgid;
	u32 netns;
	u32 device;
};

/* Set by the process that uses the program, in memory that both share. */
struct control {
	enum state state;
	u32 netns; /* inode of the namespace whose sysctls are guarded; 0: a sysctl's namespace is not known, so all are only observed */
	u32 self;  /* thread group that is allowed to write anything; 0: none */
	u32 quiet; /* device of the procfs mount through which a write wakes nobody; 0: none */
	u32 limit; /* events per key and second */
	struct found found;
	u32 unused;
};

/* The state of one key. The process that uses the program sets answer and yields. */
struct slot {
	u64 start;  /* of the second that count belongs to, by CLOCK_MONOTONIC */
	u64 count;  /* events in that second */
	u64 missed[VERDICTS]; /* events left out since the program was loaded, by verdict */
	enum answer answer;
	u32 yields; /* 1: the key is only observed, whatever the answer */
};

/* A writer whose events were left out. The first writer that finds a place free
 * (id 0) takes it; the process that uses the program frees it. If two processors
 * take the same place at once, a write can be counted for the wrong writer. If all
 * WRITER_TRIES places are taken, a write is counted in struct slot's missed only.
 */
struct writer {
	u64 id; /* WRITER_TAKEN, the verdict, the slot, and the thread group */
	u64 count;
	u64 cgroup;
	u8 comm[MAX_COMM];
};

enum { WRITERS = 512, WRITER_TRIES = 8 };
#define WRITER_TAKEN (1ull << 63)

/* Each number has eight bytes to itself. Writing four of them would be corrupting
 * a spilled register to the verifier, if CAP_PERFMON is missing (Linux 5.10, 6.1).
 */
struct event {
	u64 at; /* CLOCK_MONOTONIC */
	u64 cgroup;
	u64 slot;
	u64 verdict;
	u64 tgid; /* in the initial PID namespace; 0: unknown */
	u64 uid;  /* in the initial user namespace */
	u8 comm[MAX_COMM];
	u8 new_value[MAX_TEXT];
	u8 old_value[MAX_TEXT];
};

/* The loader sets the number of rules and slots, and the size of the ring. */
struct {
	number(type, MAP_HASH);
	number(max_entries, 1);
	type_of(key, u8[MAX_PATH]);
	type_of(value, struct rule);
} rules SEC(".maps");

struct {
	number(type, MAP_ARRAY);
	number(map_flags, MAP_MMAPABLE);
	number(max_entries, 1);
	type_of(key, u32);
	type_of(value, struct control);
} shared SEC(".maps");

struct {
	number(type, MAP_ARRAY);
	number(map_flags, MAP_MMAPABLE);
	number(max_entries, 1);
	type_of(key, u32);
	type_of(value, struct slot);
} slots SEC(".maps");

struct {
	number(type, MAP_ARRAY);
	number(map_flags, MAP_MMAPABLE);
	number(max_entries, WRITERS);
	type_of(key, u32);
	type_of(value, struct writer);
} writers SEC(".maps");

struct {
	number(type, MAP_RINGBUF);
	number(max_entries, 4096);
	type_of(value, struct event); /* for bpf2go */
} ring SEC(".maps");

/* The rehearsal is one write that the kernel ignores, at this position. */
enum { POSITION = 0x6e66677d };

static const u64 SECOND = 1000000000;

/* Where a program gets the writer's name and PID from, and whether it can read
 * the kernel's memory.
 */
enum means {
	MEANS_NONE,
	MEANS_HELPERS, /* offered to this type of program since 6.1 (comm) and 6.10 (tgid) */
	MEANS_MEMORY,
};

/* netns_of returns the network namespace that the sysctl itself belongs to: the
 * set of tables in which it is registered is part of struct net. The writer's
 * namespace would be wrong where a descriptor was opened in one namespace and is
 * used in another. No helper gives programs of this type either of the two
 * (bpf_get_netns_cookie is refused, Linux 6.18).
 *
 * A sysctl that is in no namespace's set leads to memory outside any struct net,
 * and so to no inode that is guarded.
 */
static always_inline u32 netns_of(struct bpf_sysctl *ctx)
{
	struct bpf_sysctl_kern *kernel = (void *)ctx;
	struct ctl_table_header *head = get(kernel, head);
	struct ctl_table_set *set = get(head, set);
	struct net *net = (void *)set - offset_of(struct net, sysctls);

	return get(net, ns.inum);
}

/* device_of returns the device of the procfs mount that the write goes through, or
 * 0 if it cannot be found on this kernel. Since Linux 5.10 the context points to
 * the position in a struct kiocb. Before that, the result is arbitrary, and the
 * rehearsal finds that out.
 */
static always_inline u32 device_of(struct bpf_sysctl *ctx)
{
	struct bpf_sysctl_kern *kernel = (void *)ctx;

	if (!exists(struct bpf_sysctl_kern, ppos) || !exists(struct kiocb, ki_pos) ||
	    !exists(struct kiocb, ki_filp) || !exists(struct file, f_inode) ||
	    !exists(struct inode, i_sb) || !exists(struct super_block, s_dev))
		return 0;
	struct kiocb *io = (void *)get(kernel, ppos) - offset_of(struct kiocb, ki_pos);
	struct file *file = get(io, ki_filp);
	struct inode *inode = get(file, f_inode);
	struct super_block *sb = get(inode, i_sb);

	return get(sb, s_dev);
}

/* tgid_of_writer returns the writer's thread group as the initial PID namespace
 * numbers it, or 0.
 */
static always_inline u32 tgid_of_writer(enum means means)
{
	if (means == MEANS_MEMORY && exists(struct task_struct, tgid)) {
		struct task_struct *task = get_current_task();

		return get(task, tgid);
	}
	if (means == MEANS_HELPERS)
		return get_current_pid_tgid() >> 32;
	return 0;
}

/* comm_of_writer stores the name of the writer's thread, or zeroes. */
static always_inline void comm_of_writer(enum means means, u8 *to)
{
	zero(to, MAX_COMM);
	if (means == MEANS_MEMORY && exists(struct task_struct, comm)) {
		struct task_struct *task = get_current_task();

		probe_read_kernel(to, MAX_COMM, &task->comm);
	}
	if (means == MEANS_HELPERS)
		get_current_comm(to, MAX_COMM);
}

static always_inline void rehearse(struct bpf_sysctl *ctx, enum means means, struct found *f)
{
	f->tgid = tgid_of_writer(means);
	if (means == MEANS_MEMORY) {
		f->netns = netns_of(ctx);
		f->device = device_of(ctx);
		u8 other[2] = { 'x', '\n' };

		sysctl_set_new_value(ctx, other, sizeof(other));
	}
	f->ran = 1;
}

/* is_right reports whether the text is the right value, or one that the kernel
 * will refuse anyway. Of a text that is longer than the buffer, only the beginning
 * is judged: a number of more than 20 digits is EINVAL (proc_get_long,
 * kernel/sysctl.c), but a buffer full of blanks can hide a number behind it.
 */
static always_inline int is_right(const struct rule *rule, const u8 *text, long len)
{
	s64 value = 0;

	if (len == -EINVAL) /* write(fd, "", 0) stores nothing */
		return 1;
	if (rule->kind == KIND_TEXT)
		return 0;
	/* The kernel parses numbers with the same function, so ` 0x0`, `-0` and `00` are
	 * zero here too. Base 0: the text itself tells the base.
	 */
	if (strtol(text, MAX_TEXT, 0, &value) < 0)
		return rule->kind == KIND_BOOLEAN && len != -E2BIG;
	if (rule->kind == KIND_BOOLEAN && value != 0)
		value = 1;
	return value == rule->number;
}

/* rewrite replaces the written value by the right one, but only if the length stays
 * the same: write(2) returns the length of the value that is stored, and programs
 * compare it with what they wrote. A text of another length is stored, and put
 * right afterwards.
 *
 * The limit on the length also avoids a kernel bug: until 2026 a rewrite freed the
 * caller's buffer with kfree. A buffer of more than a few pages is vmalloc'ed, so
 * that was an oops (4508943794ef, "proc: use kvzalloc for our kernel buffer").
 */
static always_inline int rewrite(struct bpf_sysctl *ctx, const struct rule *rule, long len)
{
	u64 size = (u64)len - 1;

	if (len < 1 || len >= MAX_WANT)
		return 0;
	if (len != rule->text_len && len != rule->text_len + 1) /* with the newline */
		return 0;
	/* The verifier of Linux 6.1 does not remember the checks of len above. Without
	 * the asm, the compiler would drop the mask as redundant.
	 */
	asm volatile("" : "+r"(size));
	size = (size & (MAX_WANT - 1)) + 1;
	return sysctl_set_new_value(ctx, rule->text, size) == 0;
}

/* count_writer counts an event that was left out, by its writer. */
static always_inline void count_writer(enum means means, const struct event *e)
{
	u64 id = WRITER_TAKEN | e->verdict << 56 | e->slot << 32 | e->tgid;
	u32 first = e->slot * 31 + e->tgid;

	if (means == MEANS_NONE)
		return;
#pragma unroll
	for (u32 i = 0; i < WRITER_TRIES; i++) {
		u32 at = (first + i) % WRITERS;
		struct writer *w = map_lookup(&writers, &at);

		if (!w)
			return;
		if (*(volatile u64 *)&w->id == 0) {
			w->count = 0;
			w->cgroup = get_current_cgroup_id();
			comm_of_writer(means, w->comm);
			*(volatile u64 *)&w->id = id;
		}
		if (*(volatile u64 *)&w->id == id) {
			add(&w->count, 1);
			return;
		}
	}
}

/* too_many counts the event and reports whether there were too many in this
 * second. Two processors at once can let one or two more pass; every event is
 * counted, here or in missed.
 */
static always_inline int too_many(struct slot *slot, u64 now, u32 limit)
{
	if (now - slot->start >= SECOND) {
		slot->start = now;
		slot->count = 0;
	}
	if (slot->count >= limit)
		return 1;
	add(&slot->count, 1);
	return 0;
}

static always_inline int guard(struct bpf_sysctl *ctx, enum means means)
{
	u32 first = 0;
	u8 path[MAX_PATH];
	struct event e;

	if (!ctx->write)
		return ALLOW;
	struct control *c = map_lookup(&shared, &first);
	if (!c || c->state == STATE_ASLEEP)
		return ALLOW;
	if (c->state == STATE_REHEARSE) {
		if (ctx->file_pos == POSITION)
			rehearse(ctx, means, &c->found);
		return ALLOW;
	}

	zero(path, sizeof(path)); /* all of its bytes are the key of the map */
	if (sysctl_get_name(ctx, path, sizeof(path), 0) < 0) /* longer than any path that has a rule */
		return ALLOW;
	struct rule *rule = map_lookup(&rules, path);
	if (!rule)
		return ALLOW;
	if (means == MEANS_MEMORY && rule->namespaced && c->netns != 0 && netns_of(ctx) != c->netns)
		return ALLOW;
	e.tgid = tgid_of_writer(means);
	if (e.tgid != 0 && e.tgid == c->self)
		return ALLOW;

	long len = sysctl_get_new_value(ctx, e.new_value, sizeof(e.new_value));
	if (is_right(rule, e.new_value, len))
		return ALLOW;

	u32 at = rule->slot;
	struct slot *slot = map_lookup(&slots, &at);
	if (!slot)
		return ALLOW;
	u32 answer = slot->yields ? ANSWER_OBSERVE : slot->answer;
	u32 verdict = VERDICT_ALLOWED;
	/* If the sysctl's namespace is not known, nothing is refused. */
	if (means == MEANS_MEMORY && c->netns != 0 && rule->namespaced && rule->kind != KIND_TEXT && answer != ANSWER_OBSERVE) {
		if (answer == ANSWER_REFUSE)
			verdict = VERDICT_REFUSED;
		else if (rewrite(ctx, rule, len))
			verdict = VERDICT_REWRITTEN;
	}

	/* Only events are limited, never answers. */
	e.at = ktime_get_ns();
	e.slot = rule->slot;
	e.verdict = verdict;
	if (too_many(slot, e.at, c->limit))
		goto missed;
	u64 wake = RINGBUF_FORCE_WAKEUP; /* forced, because events that woke nobody can lie before this one */
	if (means == MEANS_MEMORY && verdict == VERDICT_ALLOWED && c->quiet != 0 && device_of(ctx) == c->quiet)
		wake = RINGBUF_NO_WAKEUP;
	comm_of_writer(means, e.comm);
	sysctl_get_current_value(ctx, e.old_value, sizeof(e.old_value));
	e.uid = (u32)get_current_uid_gid(); /* the upper half is the group */
	e.cgroup = get_current_cgroup_id();
	/* Copied, not reserved: a reader would see a reserved record and wait until it is filled. */
	if (ringbuf_output(&ring, &e, sizeof(e), wake) < 0)
		goto missed; /* the ring is full */
	goto end;
missed:
	add(&slot->missed[verdict], 1);
	count_writer(means, &e);
end:
	return verdict == VERDICT_REFUSED ? REFUSE : ALLOW;
}

/* Three variants of one program, for what this kernel and this boot of it allow. */

SEC("cgroup/sysctl") int guards(struct bpf_sysctl *ctx)
{
	return guard(ctx, MEANS_MEMORY);
}

/* Without BTF, or where the kernel's memory may not be read, it only observes. */
SEC("cgroup/sysctl") int observes(struct bpf_sysctl *ctx)
{
	return guard(ctx, MEANS_HELPERS);
}

/* Without the helpers, it does not name the writer either. */
SEC("cgroup/sysctl") int observes_unnamed(struct bpf_sysctl *ctx)
{
	return guard(ctx, MEANS_NONE);
}
