/* SPDX-License-Identifier: MIT
 *
 * Counts the instructions that an emulated core (Thumb, RISC-V) executes, by basic block and by marked function.
 *
 * The engine calls counter_block at the start of every block. A shadow stack of (marked function, return address,
 * stack pointer) says whose block it is: the innermost marked function's that has not returned. Unmarked callees count
 * for their caller. PythonCounter in unicorn_engine.py is this file's twin.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unicorn/unicorn.h>

enum { MAX_DEPTH = 4096, MAX_MEMORIES = 32, NO_MARK = -1, FIRST_CAPACITY = 4096 };

struct memory {
    uint64_t origin, size;
    const uint8_t *bytes;
};

/* A block, as run on behalf of one name. size 0: an empty slot. */
struct block {
    uint32_t address, size;
    int32_t name;          /* for which these instructions count */
    int32_t entry;         /* the mark whose first block this is */
    uint64_t instructions; /* in the block */
    uint64_t runs;
};

/* A marked function; its calls count for the names [first, end) of `names` in turn, from the start of every run. */
struct mark {
    uint32_t address;
    int32_t first, end, next;
};

struct frame {
    int32_t mark, name;
    uint32_t return_address, sp;
};

struct counter {
    bool is_riscv;
    int link_register, stack_register; /* unicorn's numbers */
    uc_err (*reg_read)(uc_engine *, int, void *);
    uc_err (*emu_stop)(uc_engine *);
    struct memory memories[MAX_MEMORIES];
    int memory_count;
    struct mark *marks;
    int32_t mark_count, *names;
    uint64_t total, limit;
    struct frame frames[MAX_DEPTH];
    int depth; /* frames[0] is the ground: no mark, an address that no block has */
    bool too_deep;
    struct block *blocks; /* open addressing, capacity a power of two */
    uint32_t capacity, used;
};

/* Function i has address marks[i]; its calls take names[ends[i - 1]], ..., names[ends[i] - 1]. */
struct counter *counter_new(void *reg_read, void *emu_stop, const uint32_t *marks, const int32_t *ends,
                            int32_t mark_count, const int32_t *names, bool is_riscv) {
    struct counter *counter = calloc(1, sizeof *counter);
    counter->is_riscv = is_riscv;
    counter->link_register = is_riscv ? UC_RISCV_REG_RA : UC_ARM_REG_LR;
    counter->stack_register = is_riscv ? UC_RISCV_REG_SP : UC_ARM_REG_SP;
    counter->reg_read = (uc_err(*)(uc_engine *, int, void *))reg_read;
    counter->emu_stop = (uc_err(*)(uc_engine *))emu_stop;
    counter->marks = calloc((size_t)mark_count + 1, sizeof *counter->marks);
    counter->mark_count = mark_count;
    for (int32_t i = 0; i < mark_count; ++i) {
        const int32_t first = i > 0 ? ends[i - 1] : 0;
        counter->marks[i] = (struct mark){.address = marks[i], .first = first, .end = ends[i], .next = first};
    }
    const size_t name_count = mark_count > 0 ? (size_t)ends[mark_count - 1] : 0;
    counter->names = calloc(name_count + 1, sizeof *counter->names);
    memcpy(counter->names, names, name_count * sizeof *names);
    counter->capacity = FIRST_CAPACITY;
    counter->blocks = calloc(counter->capacity, sizeof *counter->blocks);
    counter->frames[0] = (struct frame){.mark = NO_MARK, .name = NO_MARK, .return_address = UINT32_MAX};
    return counter;
}

void counter_free(struct counter *counter) {
    free(counter->marks);
    free(counter->names);
    free(counter->blocks);
    free(counter);
}

bool counter_add_memory(struct counter *counter, uint64_t origin, uint64_t size, const uint8_t *bytes) {
    if (counter->memory_count == MAX_MEMORIES) {
        return false;
    }
    counter->memories[counter->memory_count++] = (struct memory){origin, size, bytes};
    return true;
}

void counter_clear(struct counter *counter) {
    for (uint32_t i = 0; i < counter->capacity; ++i) {
        counter->blocks[i].runs = 0;
    }
    counter->total = 0;
}

/* To be called before every run: at most `instructions` more, from outside of every marked function. */
void counter_arm(struct counter *counter, uint64_t instructions) {
    counter->limit = counter->total + instructions;
    counter->depth = 0;
    counter->too_deep = false;
    for (int32_t i = 0; i < counter->mark_count; ++i) {
        counter->marks[i].next = counter->marks[i].first;
    }
}

uint64_t counter_total(const struct counter *counter) {
    return counter->total;
}

bool counter_over(const struct counter *counter) {
    return counter->total > counter->limit;
}

bool counter_too_deep(const struct counter *counter) {
    return counter->too_deep;
}

/* Writes the blocks that ran as rows of five: address, size, name, instructions, runs. Returns how many there are. */
uint32_t counter_rows(const struct counter *counter, int64_t *rows) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < counter->capacity; ++i) {
        const struct block *block = &counter->blocks[i];
        if (block->runs == 0) {
            continue;
        }
        if (rows != NULL) {
            const int64_t row[5] = {block->address, block->size, block->name, (int64_t)block->instructions,
                                    (int64_t)block->runs};
            memcpy(rows + 5 * (size_t)count, row, sizeof row);
        }
        ++count;
    }
    return count;
}

/* Armv7-M ARM, A5.1: a halfword whose top five bits are 0b11101 or more is the first of two. RISC-V specification, 1.5:
 * so is one whose lowest two bits are 0b11. */
static bool is_wide(const struct counter *counter, const uint8_t *code) {
    return counter->is_riscv ? (code[0] & 3) == 3 : (code[1] >> 3) >= 0x1D;
}

static uint64_t count_instructions(const struct counter *counter, uint32_t address, uint32_t size) {
    for (int i = 0; i < counter->memory_count; ++i) {
        const struct memory *memory = &counter->memories[i];
        if (address >= memory->origin && address - memory->origin + size <= memory->size) {
            const uint8_t *code = memory->bytes + (address - memory->origin);
            uint64_t count = 0;
            for (uint32_t at = 0; at < size; at += is_wide(counter, code + at) ? 4 : 2) {
                ++count;
            }
            return count;
        }
    }
    return 0;
}

static int32_t mark_at(const struct counter *counter, uint32_t address) {
    for (int32_t i = 0; i < counter->mark_count; ++i) {
        if (counter->marks[i].address == address) {
            return i;
        }
    }
    return NO_MARK;
}

/* The slot of that block, or the empty one where it belongs. */
static struct block *find_slot(const struct counter *counter, uint32_t address, uint32_t size, int32_t name) {
    uint32_t slot = ((address >> 1) ^ ((uint32_t)name * 0x9E3779B1u)) & (counter->capacity - 1);
    for (;; slot = (slot + 1) & (counter->capacity - 1)) {
        struct block *block = &counter->blocks[slot];
        if (block->size == 0 || (block->address == address && block->size == size && block->name == name)) {
            return block;
        }
    }
}

static void grow(struct counter *counter) {
    struct block *old = counter->blocks;
    const uint32_t old_capacity = counter->capacity;
    counter->capacity *= 2;
    counter->blocks = calloc(counter->capacity, sizeof *counter->blocks);
    for (uint32_t i = 0; i < old_capacity; ++i) {
        if (old[i].size != 0) {
            *find_slot(counter, old[i].address, old[i].size, old[i].name) = old[i];
        }
    }
    free(old);
}

static struct block *get_block(struct counter *counter, uint32_t address, uint32_t size) {
    const int32_t name = counter->frames[counter->depth].name;
    struct block *block = find_slot(counter, address, size, name);
    if (block->size == 0) {
        if (2 * ++counter->used > counter->capacity) {
            grow(counter);
            block = find_slot(counter, address, size, name);
        }
        *block = (struct block){.address = address, .size = size, .name = name};
        block->entry = mark_at(counter, address);
        block->instructions = count_instructions(counter, address, size);
    }
    return block;
}

static uint32_t read_register(const struct counter *counter, uc_engine *uc, int register_id) {
    uint32_t value = 0;
    counter->reg_read(uc, register_id, &value);
    return value;
}

/* Pushes a frame for the marked function, unless this is a loop back to the function's own first instruction. */
static void enter(struct counter *counter, uc_engine *uc, int32_t mark) {
    struct frame frame = {.mark = mark,
                                .return_address = read_register(counter, uc, counter->link_register) & ~1u,
                                .sp = read_register(counter, uc, counter->stack_register)};
    const struct frame *top = &counter->frames[counter->depth];
    if (top->mark == mark && top->return_address == frame.return_address && top->sp == frame.sp) {
        return;
    }
    if (counter->depth + 1 == MAX_DEPTH) {
        counter->too_deep = true;
        counter->emu_stop(uc);
        return;
    }
    struct mark *of = &counter->marks[mark];
    of->next = of->next < of->end ? of->next : of->first;
    frame.name = counter->names[of->next++];
    counter->frames[++counter->depth] = frame;
}

/* Pops the frames that return here: more than one after a tail call. */
static void leave(struct counter *counter, uc_engine *uc, uint32_t address) {
    const uint32_t sp = read_register(counter, uc, counter->stack_register);
    while (counter->frames[counter->depth].return_address == address && counter->frames[counter->depth].sp == sp) {
        --counter->depth;
    }
}

/* The engine's UC_HOOK_BLOCK callback. */
void counter_block(uc_engine *uc, uint64_t pc, uint32_t size, void *user_data) {
    struct counter *counter = user_data;
    const uint32_t address = (uint32_t)pc;
    if (counter->frames[counter->depth].return_address == address) {
        leave(counter, uc, address);
    }
    struct block *block = get_block(counter, address, size);
    if (block->entry != NO_MARK) {
        enter(counter, uc, block->entry);
        block = get_block(counter, address, size);
    }
    ++block->runs;
    counter->total += block->instructions;
    if (counter->total > counter->limit) {
        counter->emu_stop(uc);
    }
}
