/* Reads what stands on standard input with each function of numbers.c: the table of powers, then texts, each behind its
 * length in four bytes. Every text and every array is a block of its own, so that a sanitizer sees a byte too far. */
#include "numbers.c"

#include <stdio.h>
#include <stdlib.h>

static uint64_t sum; /* of all bytes that were stored, and where they stand */

static int read_all(const uint8_t *text, uint32_t length, const uint64_t *powers, int kind, uint64_t capacity,
                    uint64_t slice)
{
    struct reading r = {.end = length, .pause = slice, .capacity = capacity, .rank_limit = RANK_LIMIT, .powers = powers};
    r.width = kind == INTEGER ? 2 : 0;
    r.negative_limit = 1 << 15;
    r.positive_limit = (1 << 15) - 1;
    r.negative_limit64 = UINT64_C(1) << 63;
    r.positive_limit64 = r.negative_limit64 - 1;
    r.numbers = calloc(1, capacity * (kind == FLOAT32 ? 4 : kind == FLOAT64 ? 8 : 2));
    int outcome;
    do {
        outcome = kind == FLOAT32   ? setpoint_numbers_float32(text, &r)
                  : kind == FLOAT64 ? setpoint_numbers_float64(text, &r)
                                    : setpoint_numbers_integer(text, &r);
        if (outcome == UNDECIDED) { /* as the caller does, that reads this number itself */
            r.position = r.number_end;
            r.behind = 1;
            r.count++;
        }
        r.pause = r.position + slice;
    } while (outcome == PAUSED || outcome == UNDECIDED);
    uint64_t stored = r.count < capacity ? r.count : capacity;
    for (uint64_t i = 0; outcome == DONE && i < stored * (kind == FLOAT32 ? 4 : kind == FLOAT64 ? 8 : 2); i++)
        sum = sum * 31 + ((uint8_t *)r.numbers)[i];
    free(r.numbers);
    return outcome;
}

int main(void)
{
    static uint64_t powers[2 * (LARGEST - SMALLEST + 1)];
    unsigned texts = 0, read = 0, refused = 0;
    uint32_t length;
    if (fread(powers, sizeof powers, 1, stdin) != 1)
        return 2;
    while (fread(&length, sizeof length, 1, stdin) == 1) {
        uint8_t *text = malloc(length);
        if (text == NULL || fread(text, 1, length, stdin) != length)
            return 2;
        texts++;
        for (int kind = FLOAT32; kind <= INTEGER; kind++)
            for (uint64_t capacity = 0; capacity <= 64; capacity += 32) {
                int outcome = read_all(text, length, powers, kind, capacity, capacity ? 1 << 20 : 7);
                read += outcome == DONE;
                refused += outcome == NOT_NUMBERS;
            }
        free(text);
    }
    printf("texts=%u read=%u refused=%u sum=%llu\n", texts, read, refused, (unsigned long long)sum);
    return 0;
}
