/* One JSON number: its text to the nearest double, or to an integer. numbers.c reads lists of them.
 *
 * Two ways: that for any number, from its beginning; and that for usual ones whose end is known, from there back. */
#include <stdint.h>
#include <string.h>

#if !defined(__SIZEOF_INT128__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "needs 128-bit products and little-endian words; without this reader simdjson is used"
#endif

#define INLINE static inline __attribute__((always_inline))
#define LIKELY(condition) __builtin_expect(!!(condition), 1)

__extension__ typedef unsigned __int128 uint128;

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

/* The value of up to 18 digits before a comma. From its end back, so that no digit is looked for; five and twelve are where
 * few numbers' lengths lie around. A bit stays in *others if not all are digits. Reads 24 bytes before the comma. */
INLINE uint64_t digits_before(const uint8_t *comma, uint64_t count, uint64_t *others)
{
    const uint8_t *masks = (const uint8_t *)LAST_BYTES + count;
    uint64_t word = (load(comma - 8) ^ ZEROS) & load(masks + 16), digits = value_of(word);
    *others |= others_in(word);
    if (count > 5) {
        word = (load(comma - 16) ^ ZEROS) & load(masks + 8);
        *others |= others_in(word);
        digits += value_of(word) * TENS[8];
        if (count > 12) {
            word = (load(comma - 24) ^ ZEROS) & load(masks);
            *others |= others_in(word);
            digits += value_of(word) * TENS[16];
        }
    }
    return digits;
}

/* The number whose `length` digits before the point are worth `whole`, and whose point stands `places` digits before the
 * comma. Returns 0 where that is not all there is, or where it has more than 19 digits. */
INLINE int read_behind_point(const uint8_t *comma, uint64_t length, uint64_t places, uint64_t whole, uint64_t others,
                             const uint64_t *powers, int single, uint64_t negative, double *number)
{
    if (places - 1 > 18 - length)
        return 0;
    uint64_t digits = digits_before(comma, places, &others) + whole * TENS[places], bits;
    if (others || digits >> 63)
        return 0;
    if (single || length + places <= 15) {
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

/* Read a number as most are, " -d.ddd" of at most 19 digits or " -ddd" of at most 7, that ends at a comma. Returns 0 where
 * it is another, for read_double. */
INLINE int read_usual_double(const uint8_t *at, const uint8_t *comma, const uint64_t *powers, int single, double *number)
{
    at += *at == ' ';
    uint64_t negative = *at == '-', whole; /* signs are anybody's guess: no branch */
    at += negative;
    if (at[1] == '.') {
        whole = (uint64_t)*at - '0';
        return read_behind_point(comma, 1, (uint64_t)(comma - at) - 2, whole, whole > 9, powers, single, negative, number);
    }
    uint64_t word = load(at), points = word ^ UINT64_C(0x2E2E2E2E2E2E2E2E);
    points = (points - UINT64_C(0x0101010101010101)) & ~points & UINT64_C(0x8080808080808080);
    uint64_t length = points ? (uint64_t)__builtin_ctzll(points) >> 3 : 8; /* the first bit stands for a point, if any */
    if (length > (uint64_t)(comma - at))
        length = (uint64_t)(comma - at);
    if (length - 1 > 6 || (*at == '0' && length > 1))
        return 0;
    word = (word ^ ZEROS) << (64 - 8 * length);
    whole = value_of(word);
    if (at + length != comma)
        return read_behind_point(comma, length, (uint64_t)(comma - at) - length - 1, whole, others_in(word), powers, single,
                                 negative, number);
    *number = (double)(int64_t)(negative ? -whole : whole);
    return !others_in(word); /* -0 is 0 here, as for the other readers */
}
