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
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#if !defined(__SIZEOF_INT128__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "needs 128-bit products and little-endian words; without this reader simdjson is used"
#endif

#define EXPORTED __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define LIKELY(condition) __builtin_expect(!!(condition), 1)

__extension__ typedef unsigned __int128 uint128;

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

enum { SMALLEST = -342, LARGEST = 308 }; /* below, 19 digits are 0; above, they are infinite */

#define ZEROS UINT64_C(0x3030303030303030) /* eight times '0' */

static const uint64_t TENS[19] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000,
                                  100000000000, 1000000000000, 10000000000000, 100000000000000, 1000000000000000,
                                  10000000000000000, 100000000000000000, 1000000000000000000};
static const double EXACT_TENS[19] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
                                      1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};
static const uint64_t LAST_BYTES[6] = {0, 0, 0, ~UINT64_C(0), ~UINT64_C(0), ~UINT64_C(0)};

INLINE uint64_t load(const void *at)
{
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

/* Up to eight bytes of text; zeros, which are no digits, past its end. */
INLINE uint64_t word_at(const uint8_t *at, const uint8_t *end)
{
    if (LIKELY(end - at >= 8))
        return load(at);
    uint64_t word = 0;
    for (int shift = 0; at < end; shift += 8)
        word |= (uint64_t)*at++ << shift;
    return word;
}

/* A bit is set in the first byte that is no digit, of a word whose digits are 0 to 9. Behind it, bits say nothing. */
INLINE uint64_t others_in(uint64_t word)
{
    return (word | (word + 0x7676767676767676)) & 0x8080808080808080;
}

/* The value of eight digits, the first in the lowest byte, each as 0 to 9. */
INLINE uint32_t value_of(uint64_t digits)
{
    digits = digits * 10 + (digits >> 8);
    return (uint32_t)(((digits & 0x000000FF000000FF) * 0x000F424000000064 +
                       ((digits >> 16) & 0x000000FF000000FF) * 0x0000271000000001) >> 32);
}

/* Read digits into *digits, modulo 2^64. How many the last word has costs no branch: a predictor would guess that wrong
 * for every second number. */
INLINE const uint8_t *read_digits(const uint8_t *at, const uint8_t *end, uint64_t *digits)
{
    for (;;) {
        uint64_t word = word_at(at, end) ^ ZEROS;
        uint64_t others = others_in(word);
        if (others == 0) {
            *digits = *digits * 100000000 + value_of(word);
            at += 8;
            continue;
        }
        unsigned bits = (unsigned)__builtin_ctzll(others) & 56, half = (64 - bits) / 2; /* shifting by 64 is undefined */
        *digits = *digits * TENS[bits / 8] + value_of(word << half << half);
        return at + bits / 8;
    }
}

/* The double nearest to digits * 10^exponent, without its sign, as bits; infinity where it is beyond.
 *
 * Lemire 2021, "Number parsing at a gigabyte per second", with Mushtak and Lemire 2023, "Fast number parsing without
 * fallback", who prove that 128 bits of the power always decide. digits must be exact. */
INLINE uint64_t nearest(uint64_t digits, int64_t exponent, const uint64_t *powers)
{
    if (digits == 0 || exponent < SMALLEST)
        return 0;
    if (exponent > LARGEST)
        return 0x7FF0000000000000;
    const uint64_t *power = powers + 2 * (exponent - SMALLEST);
    int zeros = __builtin_clzll(digits);
    digits <<= zeros;
    uint128 product = (uint128)digits * power[0];
    if ((uint64_t)(product >> 64 & 0x1FF) == 0x1FF) /* what the power's low half adds could carry up to the last bit */
        product += (uint64_t)((uint128)digits * power[1] >> 64);
    uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    int top = (int)(high >> 63);
    int shift = top + 9;
    uint64_t mantissa = high >> shift; /* 53 bits, and one to round by */
    int64_t binary = ((217706 * exponent) >> 16) + 1086 + top - zeros;
    if (__builtin_expect(binary <= 0, 0)) { /* subnormal */
        if (binary < -62)
            return 0;
        mantissa >>= 1 - binary;
        return (mantissa + (mantissa & 1)) >> 1; /* if this carries, it makes the smallest normal: the bits are the same */
    }
    if (low <= 1 && exponent >= -4 && exponent <= 23 && (mantissa & 3) == 1 && mantissa << shift == high)
        mantissa &= ~(uint64_t)1; /* half way exactly: to even */
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    uint64_t bits = mantissa + ((uint64_t)(binary - 1) << 52); /* its 53rd bit, or a carry's 54th, raises the exponent */
    return bits < 0x7FF0000000000000 ? bits : 0x7FF0000000000000;
}

/* As nearest, for a number of more digits than 64 bits hold: from the first 19 that count. 0 in *decided where these do
 * not decide: the number lies between them and them plus one. */
static uint64_t nearest_of_many(const uint8_t *at, const uint8_t *end, int64_t exponent, const uint64_t *powers,
                                int *decided)
{
    uint64_t digits = 0;
    int64_t dropped = 0;
    int count = 0, rest = 0;
    for (; at < end && (*at == '.' || (unsigned)(*at - '0') < 10); at++) {
        if (*at == '.')
            continue;
        if (count < 19) {
            digits = digits * 10 + (uint64_t)(*at - '0');
            count += digits != 0;
        } else {
            dropped++;
            rest |= *at != '0';
        }
    }
    uint64_t bits = nearest(digits, exponent + dropped, powers);
    *decided = !rest || bits == nearest(digits + 1, exponent + dropped, powers);
    return bits;
}

/* Read any number; returns where it ends, NULL if there is none. Bytes are looked at one by one without asking for the
 * end: the text's last one is a bracket, and none of the steps here goes past a bracket. */
INLINE const uint8_t *read_double(const uint8_t *at, const uint8_t *end, const uint64_t *powers, double *number,
                                  int *decided)
{
    uint64_t digits = 0, negative = *at == '-', bits;
    int64_t exponent = 0, shown = 0;
    at += negative;
    const uint8_t *first = at;
    at = read_digits(at, end, &digits);
    int64_t count = at - first;
    if (count == 0 || (count > 1 && *first == '0'))
        return NULL;
    if (*at == '.') {
        const uint8_t *point = ++at;
        at = read_digits(at, end, &digits);
        exponent = point - at;
        if (exponent == 0)
            return NULL;
        count = (*first == '0' ? 0 : count) - exponent;
    }
    const uint8_t *behind = at;
    if ((*at | 0x20) == 'e') {
        int down = *++at == '-';
        at += down || *at == '+';
        if ((unsigned)(*at - '0') >= 10)
            return NULL;
        for (; (unsigned)(*at - '0') < 10; at++)
            if (shown < INT64_C(1000000000000000)) /* no text is as long as would bring this back */
                shown = shown * 10 + (*at - '0');
        exponent += down ? -shown : shown;
    } else if (exponent == 0)
        negative &= digits != 0 || count > 1; /* an integer, as which -0 is 0 to the other readers */
    *decided = 1;
    bits = LIKELY(count <= 19) ? nearest(digits, exponent, powers)
                               : nearest_of_many(first, behind, exponent, powers, decided);
    if (bits == 0x7FF0000000000000 && *decided)
        return NULL;
    bits |= negative << 63;
    memcpy(number, &bits, 8);
    return at;
}

/* Read an integer's sign and magnitude; returns where it ends, NULL if there is none or it needs more than 64 bits. */
INLINE const uint8_t *read_integer(const uint8_t *at, const uint8_t *end, uint64_t *magnitude, int *negative)
{
    *magnitude = 0;
    *negative = *at == '-';
    at += *negative;
    const uint8_t *first = at;
    at = read_digits(at, end, magnitude);
    if (at == first || (at - first > 1 && *first == '0') || at - first > 20)
        return NULL;
    if (at - first == 20 && (*first != '1' || *magnitude < UINT64_C(10000000000000000000)))
        return NULL; /* twenty digits that fit begin with 1, and those that do not fit came round to less */
    return at;
}

INLINE const uint8_t *past_space(const uint8_t *at)
{
    while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')
        at++;
    return at;
}

INLINE void store_integer(struct reading *r, uint64_t index, uint64_t magnitude, int negative)
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

/* Read a number as most are, " -d.ddd" with at most 18 digits behind the point, that ends at a comma. Returns 0 where it is
 * another; read_double reads those. Reads as far as 24 bytes before the comma. */
INLINE int read_usual(const uint8_t *at, const uint8_t *comma, const uint64_t *powers, int single, double *number)
{
    at += *at == ' ';
    uint64_t negative = *at == '-', bits; /* signs are anybody's guess: no branch */
    at += negative;
    uint64_t whole = (uint64_t)*at - '0', places = (uint64_t)(comma - at) - 2;
    if (whole > 9 || at[1] != '.' || places - 1 > 17)
        return 0;
    /* From the comma back, so that no digit is looked for. Five and twelve are where few numbers' lengths lie around. */
    const uint8_t *masks = (const uint8_t *)LAST_BYTES + places;
    uint64_t word = (load(comma - 8) ^ ZEROS) & load(masks + 16), others = others_in(word), digits = value_of(word);
    if (places > 5) {
        word = (load(comma - 16) ^ ZEROS) & load(masks + 8);
        others |= others_in(word);
        digits += value_of(word) * TENS[8];
        if (places > 12) {
            word = (load(comma - 24) ^ ZEROS) & load(masks);
            others |= others_in(word);
            digits += value_of(word) * TENS[16];
        }
    }
    digits += whole * TENS[places];
    if (others || digits >> 63)
        return 0;
    if (single || places <= 14) {
        /* Clinger 1990: up to 2^53 both are exact, so the division rounds once. Beyond, the quotient is off by less than
         * three units of its last place: as a float32 it is the same, unless half way between two is as near. */
        *number = (double)(int64_t)digits / EXACT_TENS[places];
        memcpy(&bits, number, 8);
        if (!LIKELY((digits <= UINT64_C(1) << 53) | (((bits - 0x10000000 + 4) & 0x1FFFFFFF) > 8)))
            bits = nearest(digits, -(int64_t)places, powers);
    } else
        bits = nearest(digits, -(int64_t)places, powers);
    bits |= negative << 63;
    memcpy(number, &bits, 8);
    return 1;
}

/* Read usual numbers, up to the first that is another, and to about `until`, behind which 64 bytes can be read. Where
 * they end is found for 64 bytes at once: looked for one by one, each number would wait for the one before it. */
INLINE const uint8_t *read_usual_ones(const uint8_t *at, const uint8_t *until, struct reading *r, enum kind kind,
                                      uint64_t *count)
{
    const uint64_t *powers = r->powers, capacity = r->capacity;
    void *numbers = r->numbers;
    uint64_t stored = *count; /* kept in a register: the arrays might overlap *count, for all that a compiler knows */
    for (const uint8_t *block = at; block < until; block += 64)
        for (uint64_t commas = commas_in(block); commas; commas &= commas - 1) {
            const uint8_t *comma = block + __builtin_ctzll(commas);
            double number;
            if (stored >= capacity || !read_usual(at, comma, powers, kind == FLOAT32, &number)) {
                *count = stored;
                return at;
            }
            if (kind == FLOAT32)
                ((float *)numbers)[stored++] = (float)number; /* none of these is too large */
            else
                ((double *)numbers)[stored++] = number;
            at = comma + 1;
        }
    *count = stored;
    return at;
}

INLINE int read_lists(const uint8_t *text, struct reading *r, enum kind kind)
{
    const uint8_t *at = text + r->position, *end = text + r->end, *pause = text + r->pause;
    const uint8_t *until = r->end < 64 ? at : end - 64 < pause ? end - 64 : pause;
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
        if (kind != INTEGER && at < until && at - text >= 24)
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
                r->beyond |= magnitude > (negative ? r->negative_limit : r->positive_limit);
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
