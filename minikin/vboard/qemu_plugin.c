/* SPDX-License-Identifier: MIT
 *
 * A TCG plugin for qemu-system-arm that counts the Thumb instructions of a core by basic block and by marked function.
 *
 * It shares a file with the engine that started QEMU: the engine reads it, and writes to it, only while the core stands
 * still. Plugins cannot read registers, so a shadow stack of all calls says whose block it is: the innermost marked
 * function's that has not returned. Unmarked callees count for their caller. The prototypes are those of QEMU's
 * qemu-plugin.h, which no package has; these few are the same from QEMU 6.0 on.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*callback)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*callback)(unsigned, void *), int flags,
                                          void *argument);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

enum { MAX_DEPTH = 4096, NO_MARK = 0 };

/* A marked function; its calls count for the names [first, end) of `names` in turn, from the start of every run. */
struct mark {
    uint32_t address, first, end;
};

/* The head of the shared file; then marks, the names of their calls, code and blocks. A mark or a name is its index + 1. */
struct shared {
    uint64_t total;
    uint32_t restart; /* set by the engine: a call begins, from an empty stack */
    uint32_t too_deep, full;
    uint32_t mark_count, name_count, block_count, block_capacity;
    uint32_t code_address, code_size;
    uint64_t code_at, blocks_at; /* offsets in the file */
    struct mark marks[];
};

/* What ran at an address; `runs` has one counter for each name, and one for none. */
struct block {
    uint32_t address, size, instructions, entry; /* entry: the mark whose first block this is */
    uint32_t calls, returns;                     /* how it ends */
    uint64_t runs[];
};

struct frame {
    uint32_t return_address, mark, name;
    bool is_tail; /* returns with the frame below it */
};

static struct shared *shared;
static struct frame frames[MAX_DEPTH];
static int depth; /* frames[0] is the ground */
static struct block *last;
static uint32_t *next_call; /* of each mark, in its names */

static struct block *block_at(uint32_t index) {
    const size_t size = sizeof(struct block) + (shared->name_count + 1) * sizeof(uint64_t);
    return (struct block *)((char *)shared + shared->blocks_at + index * size);
}

static uint32_t code_half(uint32_t address) {
    const uint8_t *code = (const uint8_t *)shared + shared->code_at + (address - shared->code_address);
    return address - shared->code_address + 2 <= shared->code_size ? (uint32_t)(code[0] | code[1] << 8) : 0;
}

/* Armv7-M ARM, A7.7.18 and A7.7.19: BL (immediate) and BLX (register). */
static bool is_call(uint32_t address, uint32_t size) {
    const uint32_t first = code_half(address);
    return size == 2 ? (first & 0xFF80) == 0x4780
                     : (first & 0xF800) == 0xF000 && (code_half(address + 2) & 0xD000) == 0xD000;
}

/* BX, POP or LDM of the pc, LDR of the pc from the stack: A7.7.20, A7.7.98, A7.7.40, A7.7.42. */
static bool is_return(uint32_t address, uint32_t size) {
    const uint32_t first = code_half(address), second = code_half(address + 2);
    if (size == 2) {
        return (first & 0xFF80) == 0x4700 || (first & 0xFF00) == 0xBD00;
    }
    return ((first & 0xFFD0) == 0xE890 && second >> 15) || (first == 0xF85D && second >> 12 == 15);
}

/* The name for which the next call of a mark counts. */
static uint32_t take_name(uint32_t mark) {
    const struct mark *of = &shared->marks[mark - 1];
    const uint32_t *names = (const uint32_t *)&shared->marks[shared->mark_count];
    uint32_t *next = &next_call[mark - 1];
    *next = *next < of->end ? *next : of->first;
    return names[(*next)++];
}

static void push(uint32_t return_address, uint32_t mark, uint32_t name, bool is_tail) {
    if (depth + 1 == MAX_DEPTH) {
        shared->too_deep = 1;
        return;
    }
    frames[++depth] = (struct frame){return_address, mark, name, is_tail};
}

static void enter(uint32_t return_address, uint32_t mark, bool is_tail) {
    push(return_address, mark, take_name(mark), is_tail);
}

/* Follows calls and returns, from the end of the last block to the start of this one. */
static void follow(const struct block *block) {
    if (shared->restart) {
        shared->restart = shared->too_deep = 0;
        depth = 0;
        frames[0] = (struct frame){UINT32_MAX, NO_MARK, NO_MARK, false};
        for (uint32_t mark = 0; mark < shared->mark_count; ++mark) {
            next_call[mark] = shared->marks[mark].first;
        }
        last = NULL;
    }
    const uint32_t end = last ? last->address + last->size : 0;
    if (last && last->calls && block->address != end) {
        if (block->entry) {
            enter(end, block->entry, false);
        } else {
            push(end, frames[depth].mark, frames[depth].name, false);
        }
    } else if (last && last->returns && block->address == frames[depth].return_address) {
        while (frames[depth].is_tail) {
            --depth;
        }
        --depth;
    }
    if (block->entry && block->entry != frames[depth].mark) {
        enter(frames[depth].return_address, block->entry, depth > 0);
    }
}

static void on_exec(unsigned vcpu, void *argument) {
    struct block *block = argument;
    (void)vcpu;
    follow(block);
    last = block;
    shared->total += block->instructions;
    ++block->runs[frames[depth].name];
}

static struct block *find_block(uint32_t address, uint32_t size) {
    for (uint32_t i = shared->block_count; i-- > 0;) {
        struct block *block = block_at(i);
        if (block->address == address && block->size == size) {
            return block;
        }
    }
    return NULL;
}

static void on_translation(uint64_t id, struct qemu_plugin_tb *tb) {
    const size_t count = qemu_plugin_tb_n_insns(tb);
    const uint32_t address = (uint32_t)qemu_plugin_tb_vaddr(tb);
    const uint32_t at = (uint32_t)qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, count - 1));
    /* Not QEMU's size: at the end of a page it has looked at the next instruction, and counts that in. */
    const uint32_t tail = code_half(at) >> 11 >= 0x1D ? 4 : 2;
    const uint32_t size = at - address + tail;
    (void)id;
    struct block *block = find_block(address, size);
    if (block == NULL) {
        if (shared->block_count == shared->block_capacity) {
            shared->full = 1;
            return;
        }
        block = block_at(shared->block_count++);
        block->address = address;
        block->size = size;
        block->instructions = (uint32_t)count;
        block->calls = is_call(at, tail);
        block->returns = is_return(at, tail);
        for (uint32_t mark = shared->mark_count; mark > 0; --mark) {
            block->entry = shared->marks[mark - 1].address == address ? mark : block->entry;
        }
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_exec, 0, block);
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
    (void)info;
    const char *path = argc == 1 ? strchr(argv[0], '=') : NULL;
    const int file = path ? open(path + 1, O_RDWR) : -1;
    const off_t size = file < 0 ? -1 : lseek(file, 0, SEEK_END);
    if (size < 0) {
        return 1;
    }
    void *memory = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) {
        return 1;
    }
    shared = memory;
    next_call = calloc(shared->mark_count + 1, sizeof *next_call);
    if (next_call == NULL) {
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    return 0;
}
