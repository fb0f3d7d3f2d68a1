/* Numbers of JSON lists, flat or regularly nested, from the text straight into an array.
 *
 * Strict: RFC 8259's grammar and nothing beside it. What is no list of numbers is not judged here: the caller reads it
 * with the reader for everything, which says what is wrong. Exact: each number is the nearest double of its decimal text;
 * a float32 is that double, rounded again, as numpy does it. Never reads outside [position, end), never writes past
 * `capacity`, calls nothing but memcpy, keeps no state of its own.
 *
 * Why plain C and no Python.h: many machines have a compiler and no headers; ctypes also gives up the interpreter's lock.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "decimal.h"

#define EXPORTED __attribute__((visibility("default")))

enum { ABI = 1, RANK_LIMIT = 32 };
enum outcome { DONE = 0, PAUSED = 1, UNDECIDED = 2, NOT_NUMBERS = 3 };
enum kind { FLOAT32, FLOAT64, INTEGER };

/* Mirrored by ctypes in native_numbers.py: raise ABI when this changes. Offsets count from the text's first byte. */
struct reading {
    uint64_t position;   /* where to go on: at the opening bracket, before a number, or behind one */
    uint64_t end;        /* behind the closing bracket */
    uint64_t pause;      /* PAUSED before the first number from here on */
    uint64_t number_end; /* when UNDECIDED, of the number at `position` */
    uint64_t behind;     /* 1: `position` is behind a number that the caller has read */
    uint64_t count;      /* numbers met */
    uint64_t capacity;   /* numbers that `numbers` can hold; those beyond are counted only */
    uint64_t beyond;     /* 1: a stored number did not fit its type */
    uint64_t width;      /* of an integer, in bytes */
    uint64_t negative_limit, positive_limit;     /* of an integer's magnitude, by its type */
    uint64_t negative_limit64, positive_limit64; /* likewise for 64 bits of its signedness: past these NOT_NUMBERS */
    uint64_t rank_limit;
    uint64_t rank;  /* 0 until the first number is met */
    uint64_t depth; /* brackets open */
    void *numbers;
    const uint64_t *powers;       /* pairs (high, low): the first 128 bits of 10^q, q from SMALLEST to LARGEST */
    uint64_t lengths[RANK_LIMIT]; /* of each axis; 0 until its first list is closed */
    uint64_t counts[RANK_LIMIT];  /* of values in the list that is open on each axis; the innermost: `count` at its start */
};

INLINE const uint8_t *past_space(const uint8_t *at)
{
    while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')
        at++;
    return at;
}

INLINE void store_integer(const struct reading *r, uint64_t index, uint64_t magnitude, int negative)
{
    uint64_t value = negative ? -magnitude : magnitude;
    switch (r->width) {
    case 1: ((uint8_t *)r->numbers)[index] = (uint8_t)value; break;
    case 2: ((uint16_t *)r->numbers)[index] = (uint16_t)value; break;
    case 4: ((uint32_t *)r->numbers)[index] = (uint32_t)value; break;
    default: ((uint64_t *)r->numbers)[index] = value;
    }
}

/* Behind a closing bracket or a row's last number: close lists, up to the comma that has another value behind it, and
 * open lists, down to where numbers are. Returns where the next number begins; `end` when all is read; NULL if it is not
 * regular. */
static const uint8_t *next_row(struct reading *r, const uint8_t *at, const uint8_t *end, uint64_t count)
{
    if (r->rank) {
        r->counts[r->depth - 1] = count - r->counts[r->depth - 1];
        for (;;) {
            if (*at != ']')
                return NULL;
            at++;
            uint64_t *length = &r->lengths[--r->depth];
            if (*length == 0)
                *length = r->counts[r->depth];
            if (*length != r->counts[r->depth])
                return NULL;
            if (at == end || r->depth == 0)
                return at == end && r->depth == 0 ? end : NULL;
            r->counts[r->depth - 1]++;
            at = past_space(at);
            if (*at == ',')
                break;
        }
        at = past_space(at + 1);
    }
    for (; *at == '['; at = past_space(at + 1)) {
        if (r->depth == (r->rank ? r->rank : r->rank_limit))
            return NULL;
        r->counts[r->depth++] = 0;
    }
    if (r->rank == 0)
        r->rank = r->depth;
    if (r->depth != r->rank || r->depth == 0)
        return NULL;
    r->counts[r->depth - 1] = count;
    return at;
}

/* Which of 64 bytes are commas, the first in the lowest bit. */
INLINE uint64_t commas_in(const uint8_t *at)
{
    uint64_t commas = 0;
#ifdef __SSE2__
    for (int i = 0; i < 64; i += 16) {
        __m128i same = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(at + i)), _mm_set1_epi8(','));
        commas |= (uint64_t)(unsigned)_mm_movemask_epi8(same) << i;
    }
#else
    for (int i = 0; i < 64; i += 8) {
        uint64_t others = load(at + i) ^ UINT64_C(0x2C2C2C2C2C2C2C2C), low = UINT64_C(0x7F7F7F7F7F7F7F7F);
        others = ((others & low) + low) | others; /* the highest bit of each byte that is no comma; nothing carries */
        commas |= ((~others & ~low) >> 7) * UINT64_C(0x0102040810204080) >> 56 << i;
    }
#endif
    return commas;
}

INLINE int fits(const struct reading *r, uint64_t magnitude, int negative)
{
    return magnitude <= (negative ? r->negative_limit : r->positive_limit);
}

/* Likewise an integer of at most 18 digits that fits its type, for read_integer. */
INLINE int read_usual_integer(const uint8_t *at, const uint8_t *comma, const struct reading *r, uint64_t *magnitude,
                              int *negative)
{
    at += *at == ' ';
    *negative = *at == '-';
    at += *negative;
    uint64_t length = (uint64_t)(comma - at), others = 0;
    if (length - 1 > 17 || (*at == '0' && length > 1))
        return 0;
    *magnitude = digits_before(comma, length, &others);
    return !others && fits(r, *magnitude, *negative);
}

/* Read usual numbers, up to the first that is another, and to about `until`, behind which 72 bytes can be read. Where
 * they end is found for 64 bytes at once: looked for one by one, each number would wait for the one before it. */
INLINE const uint8_t *read_usual_ones(const uint8_t *at, const uint8_t *until, struct reading *r, enum kind kind,
                                      uint64_t *count)
{
    uint64_t stored = *count; /* a register: for all that a compiler knows, the numbers might overlap *count */
    const struct reading about = *r;
    for (const uint8_t *block = at; block < until; block += 64)
        for (uint64_t commas = commas_in(block); commas; commas &= commas - 1) {
            const uint8_t *comma = block + __builtin_ctzll(commas);
            double number;
            uint64_t magnitude;
            int negative, usual;
            if (kind == INTEGER)
                usual = read_usual_integer(at, comma, &about, &magnitude, &negative);
            else
                usual = read_usual_double(at, comma, about.powers, kind == FLOAT32, &number);
            if (!usual || stored >= about.capacity) {
                *count = stored;
                return at;
            }
            if (kind == INTEGER)
                store_integer(&about, stored++, magnitude, negative);
            else if (kind == FLOAT32)
                ((float *)about.numbers)[stored++] = (float)number; /* none of these is too large */
            else
                ((double *)about.numbers)[stored++] = number;
            at = comma + 1;
        }
    *count = stored;
    return at;
}

INLINE int read_lists(const uint8_t *text, struct reading *r, enum kind kind)
{
    const uint8_t *at = text + r->position, *end = text + r->end, *pause = text + r->pause;
    const uint8_t *until = r->end < 72 ? at : end - 72 < pause ? end - 72 : pause;
    uint64_t count = r->count;
    if (r->position >= r->end || end[-1] != ']' || r->rank_limit > RANK_LIMIT)
        return NOT_NUMBERS;
    if (r->rank == 0) {
        at = next_row(r, past_space(at), end, count);
        if (at == NULL)
            return NOT_NUMBERS;
    }
    if (r->behind) {
        r->behind = 0;
        goto behind_number;
    }
    for (;;) {
        const uint8_t *number_end;
        if (at < until && at - text >= 24)
            at = past_space(read_usual_ones(at, until, r, kind, &count));
        if (at >= pause) {
            r->position = (uint64_t)(at - text);
            r->count = count;
            return PAUSED;
        }
        if (kind == INTEGER) {
            uint64_t magnitude;
            int negative;
            number_end = read_integer(at, end, &magnitude, &negative);
            if (number_end == NULL || magnitude > (negative ? r->negative_limit64 : r->positive_limit64))
                return NOT_NUMBERS;
            if (LIKELY(count < r->capacity)) {
                r->beyond |= !fits(r, magnitude, negative);
                store_integer(r, count, magnitude, negative);
            }
        } else {
            double number;
            int decided;
            number_end = read_double(at, end, r->powers, &number, &decided);
            if (number_end == NULL)
                return NOT_NUMBERS;
            if (!LIKELY(decided)) {
                r->position = (uint64_t)(at - text);
                r->number_end = (uint64_t)(number_end - text);
                r->count = count;
                return UNDECIDED;
            }
            if (LIKELY(count < r->capacity)) {
                if (kind == FLOAT32) {
                    float single = (float)number;
                    r->beyond |= isinf(single) != 0;
                    ((float *)r->numbers)[count] = single;
                } else
                    ((double *)r->numbers)[count] = number;
            }
        }
        count++;
        at = number_end;
    behind_number:
        if (*at != ',') {
            at = past_space(at);
            if (*at == ']') {
                at = next_row(r, at, end, count);
                if (at == NULL || at == end) {
                    r->count = count;
                    return at == NULL ? NOT_NUMBERS : DONE;
                }
                continue;
            }
            if (*at != ',')
                return NOT_NUMBERS;
        }
        at++;
        if (*at <= ' ')
            at = past_space(at);
    }
}

EXPORTED int setpoint_numbers_abi(void) { return ABI; }
EXPORTED int setpoint_numbers_float32(const uint8_t *text, struct reading *r) { return read_lists(text, r, FLOAT32); }
EXPORTED int setpoint_numbers_float64(const uint8_t *text, struct reading *r) { return read_lists(text, r, FLOAT64); }
EXPORTED int setpoint_numbers_integer(const uint8_t *text, struct reading *r) { return read_lists(text, r, INTEGER); }
