//go:build ignore

/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only
 *
 * The program that sees each write to a sysctl, before the value is stored.
 * It judges the writes to guarded sysctls of one network namespace, tells of
 * the foreign ones, and refuses or rewrites them where it is told to.
 */
#include "kernel.h"

/* The kernel lends probe_read_kernel and get_current_task to GPL programs only.
 * This object's sources, and nothing else of nfguard, may be had under these
 * licences besides its own.
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
	MAX_PATH = 96, /* with the zero; net/ipv6/conf/INTERFACE/KEY has at most 70 */
	MAX_WANT = 16, /* of a number that a write can be rewritten to, with its newline and a zero */
	MAX_TEXT = 64, /* of a value that an event carries, with the zero */
	MAX_COMM = 16,
};

/* How a written text is judged. */
enum kind {
	KIND_TEXT,    /* not here: each write is an event */
	KIND_NUMBER,  /* by the number that it begins with; what is no number is another value */
	KIND_BOOLEAN, /* as a number of which the kernel keeps only whether it is zero; what is no number is left to the kernel, which answers EINVAL */
};

/* A guarded sysctl. It is found by its path, and never changes. */
struct rule {
	s64 number;          /* what is right */
	u32 slot;            /* index of struct slot */
	enum kind kind;
	u32 namespaced;      /* it belongs to a network namespace */
	u32 text_len;        /* without the newline */
	u8 text[MAX_WANT]; /* what is right, and a newline */
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
	STATE_ASLEEP,   /* nobody uses the program yet, or any more */
	STATE_REHEARSE, /* struct found is filled by a write at POSITION */
	STATE_GUARD,
};

/* What a rehearsal finds. */
struct found {
	u32 ran;
	u32 tgid;
	u32 netns;
	u32 device;
};

/* What the using process sets, in memory that it shares with the program. */
struct control {
	enum state state;
	u32 netns; /* inode of the namespace whose sysctls are guarded; 0: not known whose they are, so they are observed */
	u32 self;  /* thread group that may write what it likes; 0: none */
	u32 quiet; /* device of the procfs through which a write wakes nobody; 0: none */
	u32 limit; /* events of a key in a second */
	struct found found;
	u32 unused;
};

/* What belongs to one key and changes. The using process sets answer and yields. */
struct slot {
	u64 start;  /* of the second that count is about, by CLOCK_MONOTONIC */
	u64 count;  /* events in that second */
	u64 missed[VERDICTS]; /* events left out since the program was loaded, by verdict */
	enum answer answer;
	u32 yields; /* 1: it is observed, whatever the answer */
};

/* Who wrote what was left out. A place is taken by the first writer that finds
 * it free (id 0), and freed by the using process. Two processors that take one at
 * once may give a write to the other's writer; where all WRITER_TRIES places are
 * taken a write is only in struct slot's missed.
 */
struct writer {
	u64 id; /* WRITER_TAKEN, the verdict, the slot, and the thread group */
	u64 count;
	u64 cgroup;
	u8 comm[MAX_COMM];
};

enum { WRITERS = 512, WRITER_TRIES = 8 };
#define WRITER_TAKEN (1ull << 63)

/* Each number has eight bytes to itself: half of that is a spilled register
 * being corrupted to the verifier of a program without CAP_PERFMON (Linux 5.10, 6.1).
 */
struct event {
	u64 at; /* CLOCK_MONOTONIC */
	u64 cgroup;
	u64 slot;
	u64 verdict;
	u64 tgid; /* in the initial PID namespace; 0: not known */
	u64 uid;  /* in the initial user namespace */
	u8 comm[MAX_COMM];
	u8 new_value[MAX_TEXT];
	u8 old_value[MAX_TEXT];
};

/* The loader sets how many rules and slots there are, and the size of the ring. */
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

/* Where a program of this object gets the writer's name and number from, and
 * whether it may read the kernel's memory.
 */
enum means {
	MEANS_NONE,
	MEANS_HELPERS, /* lent to this type of program by 6.1 (comm) and 6.10 (tgid) */
	MEANS_MEMORY,
};

/* netns_of returns which network namespace the sysctl itself belongs to: the set
 * of tables in which it is registered is part of struct net. The writer's own
 * namespace would be wrong where a descriptor was opened in one and is used in
 * another, and no helper tells either to programs of this type
 * (bpf_get_netns_cookie is refused, Linux 6.18).
 *
 * A sysctl that is in no namespace's set leads to memory that is not of a struct
 * net, and so to no inode that is guarded.
 */
static always_inline u32 netns_of(struct bpf_sysctl *ctx)
{
	struct bpf_sysctl_kern *kernel = (void *)ctx;
	struct ctl_table_header *head = get(kernel, head);
	struct ctl_table_set *set = get(head, set);
	struct net *net = (void *)set - offset_of(struct net, sysctls);

	return get(net, ns.inum);
}

/* device_of returns the device of the procfs that is written through, 0 where
 * this kernel does not let it be found. Since Linux 5.10 the position in the
 * context is that of a struct kiocb; before, this leads anywhere, which the
 * rehearsal finds.
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

/* comm_of_writer leaves the name of the writer's thread, or zeroes. */
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

/* is_right reports whether the text is the value that is wanted, or one that the
 * kernel will not take. What is longer than the buffer is judged by what fits: a
 * number of more than 20 digits is EINVAL (proc_get_long, kernel/sysctl.c), and
 * blanks as far as one can see may hide one.
 */
static always_inline int is_right(const struct rule *rule, const u8 *text, long len)
{
	s64 value = 0;

	if (len == -EINVAL) /* write(fd, "", 0) stores nothing */
		return 1;
	if (rule->kind == KIND_TEXT)
		return 0;
	/* The kernel reads numbers by the same function, so that ` 0x0`, `-0` and `00`
	 * are zero here as there. Base 0: it is in the text.
	 */
	if (strtol(text, MAX_TEXT, 0, &value) < 0)
		return rule->kind == KIND_BOOLEAN && len != -E2BIG;
	if (rule->kind == KIND_BOOLEAN && value != 0)
		value = 1;
	return value == rule->number;
}

/* rewrite puts the right value in place of the written one. Only where the length
 * stays, because write(2) returns the length of what it was given last, and
 * programs compare. A text of another length is stored, and put right afterwards.
 *
 * The length also keeps clear of a kernel bug: up to 2026 a rewrite freed the
 * caller's buffer by kfree, which for a buffer of more than a few pages,
 * vmalloc'ed, was an oops (4508943794ef, "proc: use kvzalloc for our kernel
 * buffer").
 */
static always_inline int rewrite(struct bpf_sysctl *ctx, const struct rule *rule, long len)
{
	u64 size = (u64)len - 1;

	if (len < 1 || len >= MAX_WANT)
		return 0;
	if (len != rule->text_len && len != rule->text_len + 1) /* with the newline */
		return 0;
	/* What was found about len is lost on the verifier of Linux 6.1, and this the
	 * compiler would leave out as needless.
	 */
	asm volatile("" : "+r"(size));
	size = (size & (MAX_WANT - 1)) + 1;
	return sysctl_set_new_value(ctx, rule->text, size) == 0;
}

/* count_writer counts an event that was left out for its writer. */
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
 * second. Two processors at once may let one or two more pass; none goes uncounted.
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

	zero(path, sizeof(path)); /* the whole of it is the key of the map */
	if (sysctl_get_name(ctx, path, sizeof(path), 0) < 0) /* longer than any that has a rule */
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
	/* Where whose sysctl it is, is not known, nothing is refused. */
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
	u64 wake = RINGBUF_FORCE_WAKEUP; /* events that woke nobody may lie before it */
	if (means == MEANS_MEMORY && verdict == VERDICT_ALLOWED && c->quiet != 0 && device_of(ctx) == c->quiet)
		wake = RINGBUF_NO_WAKEUP;
	comm_of_writer(means, e.comm);
	sysctl_get_current_value(ctx, e.old_value, sizeof(e.old_value));
	e.uid = (u32)get_current_uid_gid(); /* the upper half is the group */
	e.cgroup = get_current_cgroup_id();
	/* It is copied: a reserved one would be seen, and waited for, while it is being filled. */
	if (ringbuf_output(&ring, &e, sizeof(e), wake) < 0)
		goto missed; /* the ring is full */
	goto end;
missed:
	add(&slot->missed[verdict], 1);
	count_writer(means, &e);
end:
	return verdict == VERDICT_REFUSED ? REFUSE : ALLOW;
}

/* The three programs are one, by what this kernel and boot allow. */

SEC("cgroup/sysctl") int guards(struct bpf_sysctl *ctx)
{
	return guard(ctx, MEANS_MEMORY);
}

/* Without BTF, or where the kernel's memory may not be read, it only observes. */
SEC("cgroup/sysctl") int observes(struct bpf_sysctl *ctx)
{
	return guard(ctx, MEANS_HELPERS);
}

/* And without the helpers it does not name the writer. */
SEC("cgroup/sysctl") int observes_unnamed(struct bpf_sysctl *ctx)
{
	return guard(ctx, MEANS_NONE);
}
