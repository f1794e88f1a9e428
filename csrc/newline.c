/* SPDX-License-Identifier: MIT */
/*
 * newline - where a byte is, 64 at a time
 *
 * DESCRIPTION
 *   A block of 64 bytes is compared at once, and the bits that say where it is
 *   equal become offsets: the first two without asking whether there are two, as
 *   a branch that is guessed wrong costs more.  What walks the offsets is written
 *   once.
 *
 *   The widest implementation for the processor is selected on each call: the caller's machine is known only then,
 *   and this library keeps no state.
 *
 *   A last block that is not full is copied aside: no byte behind the data is
 *   read, mapped or not.
 */
#include "system.h"
#include "frame.h"

#include <string.h>

#if SB_HAS_VECTORS && (defined(__x86_64__) || defined(__i386__))
#define HAVE_X86 1
#include <immintrin.h>
#if SB_HAS_CPU_FEATURES
#include <sys/platform/x86.h>
#define HAS(feature, name) (int)CPU_FEATURE_ACTIVE(feature) /* kept by the dynamic linker */
#else
#define HAS(feature, name) (__builtin_cpu_supports(name) != 0) /* kept by the compiler's run-time support */
#endif
#elif SB_HAS_VECTORS
#define HAVE_NEON 1
#include <arm_neon.h>
#endif

#define INLINE static inline __attribute__((always_inline))

enum { VECTORS_AT_ONCE = 2 };

/* Ask for what is looked at in the next call: while offsets are walked nothing
 * is read, and the processor's own reading ahead falls asleep (a half to twice
 * as fast from memory).  No fault comes of it, whatever is there. */
INLINE void ask_ahead(const char *block)
{
    __builtin_prefetch((const void *)((uintptr_t)block + SB_STRIDE));
}

/* Offsets of the bits that are set, behind those that ends has.  Room for
 * VECTORS_AT_ONCE more is written to. */
INLINE size_t put_ends(uint64_t bits, size_t base, uint32_t *ends, size_t n)
{
    if (bits == 0)
        return n;
    size_t count = (size_t)__builtin_popcountll(bits);
    for (size_t i = 0; i < VECTORS_AT_ONCE; i++) {
        ends[n + i] = (uint32_t)(base + (unsigned)__builtin_ctzll(bits | (uint64_t)1 << 63));
        bits &= bits - 1;
    }
    for (size_t i = VECTORS_AT_ONCE; i < count; i++) {
        ends[n + i] = (uint32_t)(base + (unsigned)__builtin_ctzll(bits));
        bits &= bits - 1;
    }
    return n + count;
}

/* ---- the portable way: eight bytes in a word, in an order of our own */

static uint64_t load(const char *data)
{
    const unsigned char *p = (const unsigned char *)data;
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32
        | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

/* Bit i is set where byte i of the word is the needle: no carry leaves a byte. */
static uint64_t bits_of(uint64_t word, uint64_t needles)
{
    const uint64_t low = 0x7f7f7f7f7f7f7f7f;
    uint64_t differs = word ^ needles;
    uint64_t zero = ~(((differs & low) + low) | differs | low); /* 0x80 for each byte that is 0 */
    return (zero >> 7) * 0x0102040810204080 >> 56;
}

static size_t ends_portable(const char *data, size_t blocks, char needle, uint32_t *ends)
{
    uint64_t needles = (unsigned char)needle * (uint64_t)0x0101010101010101;
    size_t n = 0;
    for (size_t i = 0; i < blocks; i++) {
        uint64_t bits = 0;
        ask_ahead(data + i * SB_BLOCK);
        for (unsigned j = 0; j < SB_BLOCK; j += 8)
            bits |= bits_of(load(data + i * SB_BLOCK + j), needles) << j;
        for (; bits != 0; bits &= bits - 1)
            ends[n++] = (uint32_t)(i * SB_BLOCK + (unsigned)__builtin_ctzll(bits));
    }
    return n;
}

#ifdef HAVE_X86

/* Without an instruction that counts bits, a loop is as good. */
__attribute__((target("sse2")))
static size_t ends_sse2(const char *data, size_t blocks, char needle, uint32_t *ends)
{
    __m128i needles = _mm_set1_epi8(needle);
    size_t n = 0;
    for (size_t i = 0; i < blocks; i++) {
        uint64_t bits = 0;
        ask_ahead(data + i * SB_BLOCK);
        for (unsigned j = 0; j < SB_BLOCK; j += 16) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(data + i * SB_BLOCK + j));
            bits |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, needles)) << j;
        }
        for (; bits != 0; bits &= bits - 1)
            ends[n++] = (uint32_t)(i * SB_BLOCK + (unsigned)__builtin_ctzll(bits));
    }
    return n;
}

__attribute__((target("avx2,bmi,popcnt")))
static size_t ends_avx2(const char *data, size_t blocks, char needle, uint32_t *ends)
{
    __m256i needles = _mm256_set1_epi8(needle);
    size_t n = 0;
    for (size_t i = 0; i < blocks; i++) {
        const char *block = data + i * SB_BLOCK;
        ask_ahead(block);
        __m256i low = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)(const void *)block), needles);
        __m256i high = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)(const void *)(block + 32)), needles);
        uint64_t bits = (uint64_t)(uint32_t)_mm256_movemask_epi8(low) | (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32;
        n = put_ends(bits, i * SB_BLOCK, ends, n);
    }
    return n;
}

/* A sum and no question, so that every processor takes the same path. */
int sb__widest(void)
{
    int has_sse2 = HAS(SSE2, "sse2"), has_avx2 = HAS(AVX2, "avx2") & HAS(BMI1, "bmi") & HAS(POPCNT, "popcnt");
    return has_sse2 + (has_sse2 & has_avx2);
}

static size_t ends_of(int way, const char *data, size_t blocks, char needle, uint32_t *ends)
{
    return way == 2 ? ends_avx2(data, blocks, needle, ends)
        : way == 1  ? ends_sse2(data, blocks, needle, ends)
                    : ends_portable(data, blocks, needle, ends);
}

#elif defined(HAVE_NEON)

static uint64_t bits_of_four(uint8x16_t a, uint8x16_t b, uint8x16_t c, uint8x16_t d, uint8x16_t needles)
{
    static const uint8_t places[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t place = vld1q_u8(places);
    uint8x16_t low = vpaddq_u8(vandq_u8(vceqq_u8(a, needles), place), vandq_u8(vceqq_u8(b, needles), place));
    uint8x16_t high = vpaddq_u8(vandq_u8(vceqq_u8(c, needles), place), vandq_u8(vceqq_u8(d, needles), place));
    low = vpaddq_u8(low, high);
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(low, low)), 0);
}

static size_t ends_neon(const char *data, size_t blocks, char needle, uint32_t *ends)
{
    uint8x16_t needles = vdupq_n_u8((uint8_t)needle);
    size_t n = 0;
    for (size_t i = 0; i < blocks; i++) {
        const uint8_t *block = (const uint8_t *)data + i * SB_BLOCK;
        ask_ahead(data + i * SB_BLOCK);
        uint64_t bits = bits_of_four(vld1q_u8(block), vld1q_u8(block + 16), vld1q_u8(block + 32), vld1q_u8(block + 48), needles);
        n = put_ends(bits, i * SB_BLOCK, ends, n);
    }
    return n;
}

int sb__widest(void)
{
    return 1;
}

static size_t ends_of(int way, const char *data, size_t blocks, char needle, uint32_t *ends)
{
    return way == 1 ? ends_neon(data, blocks, needle, ends) : ends_portable(data, blocks, needle, ends);
}

#else

int sb__widest(void)
{
    return 0;
}

static size_t ends_of(int way, const char *data, size_t blocks, char needle, uint32_t *ends)
{
    (void)way;
    return ends_portable(data, blocks, needle, ends);
}

#endif

/* The last block, behind which there may be no memory. */
static size_t ends_of_rest(int way, const char *data, size_t size, size_t rest, char needle, uint32_t *ends, size_t n)
{
    char block[SB_BLOCK];
    memset(block, ~needle, sizeof block);
    memcpy(block, data + size - rest, rest);
    size_t count = ends_of(way, block, 1, needle, ends + n);
    for (size_t i = n; i < n + count; i++)
        ends[i] += (uint32_t)(size - rest);
    return n + count;
}

size_t sb__ends_by(int way, const char *data, size_t size, char needle, uint32_t *ends, size_t *looked)
{
    size_t rest = size % SB_BLOCK;
    if (size >= SB_STRIDE) {
        *looked = SB_STRIDE;
        return ends_of(way, data, SB_STRIDE / SB_BLOCK, needle, ends);
    }
    *looked = size;
    size_t n = size >= SB_BLOCK ? ends_of(way, data, size / SB_BLOCK, needle, ends) : 0;
    return rest > 0 ? ends_of_rest(way, data, size, rest, needle, ends, n) : n;
}

size_t sb__ends(const char *data, size_t size, char needle, uint32_t *ends, size_t *looked)
{
    return sb__ends_by(sb__widest(), data, size, needle, ends, looked);
}
