/*
 * newline - where two bytes are, 64 at a time
 *
 * DESCRIPTION
 *   Each way of looking makes the same marks, a bit for a byte, so that what
 *   walks them is written once.  The widest way that the processor has is asked
 *   for on each call: others know it already, and this library keeps nothing.
 *
 *   A last block that is not full is copied aside: no byte behind the data is
 *   read, mapped or not.
 */
#include "frame.h"

#include <string.h>

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#define HAVE_X86 1
#include <immintrin.h>
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
#include <sys/platform/x86.h>
#define HAS(feature, name) CPU_FEATURE_ACTIVE(feature) /* kept by the dynamic linker */
#else
#define HAS(feature, name) __builtin_cpu_supports(name) /* kept by the compiler's run-time support */
#endif
#elif defined(__GNUC__) && defined(__aarch64__)
#define HAVE_NEON 1
#include <arm_neon.h>
#endif

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

static void marks_portable(const char *data, size_t blocks, char lf, char cr, struct sb_mark *marks)
{
    uint64_t lfs = (unsigned char)lf * (uint64_t)0x0101010101010101;
    uint64_t crs = (unsigned char)cr * (uint64_t)0x0101010101010101;
    for (size_t i = 0; i < blocks; i++) {
        struct sb_mark mark = {0, 0};
        for (unsigned j = 0; j < SB_BLOCK; j += 8) {
            uint64_t word = load(data + i * SB_BLOCK + j);
            mark.lf |= bits_of(word, lfs) << j;
            mark.cr |= bits_of(word, crs) << j;
        }
        marks[i] = mark;
    }
}

#ifdef HAVE_X86

__attribute__((target("sse2")))
static void marks_sse2(const char *data, size_t blocks, char lf, char cr, struct sb_mark *marks)
{
    __m128i lfs = _mm_set1_epi8(lf), crs = _mm_set1_epi8(cr);
    for (size_t i = 0; i < blocks; i++) {
        struct sb_mark mark = {0, 0};
        for (unsigned j = 0; j < SB_BLOCK; j += 16) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(data + i * SB_BLOCK + j));
            mark.lf |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, lfs)) << j;
            mark.cr |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, crs)) << j;
        }
        marks[i] = mark;
    }
}

__attribute__((target("avx2")))
static void marks_avx2(const char *data, size_t blocks, char lf, char cr, struct sb_mark *marks)
{
    __m256i lfs = _mm256_set1_epi8(lf), crs = _mm256_set1_epi8(cr);
    for (size_t i = 0; i < blocks; i++) {
        const char *block = data + i * SB_BLOCK;
        __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)block);
        __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(block + 32));
        marks[i].lf = (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, lfs))
            | (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, lfs)) << 32;
        marks[i].cr = (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, crs))
            | (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, crs)) << 32;
    }
}

int sb__widest(void)
{
    return HAS(AVX2, "avx2") ? 2 : HAS(SSE2, "sse2") ? 1 : 0;
}

static void marks_of(int way, const char *data, size_t blocks, char lf, char cr, struct sb_mark *marks)
{
    if (way == 2)
        marks_avx2(data, blocks, lf, cr, marks);
    else if (way == 1)
        marks_sse2(data, blocks, lf, cr, marks);
    else
        marks_portable(data, blocks, lf, cr, marks);
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

static void marks_neon(const char *data, size_t blocks, char lf, char cr, struct sb_mark *marks)
{
    uint8x16_t lfs = vdupq_n_u8((uint8_t)lf), crs = vdupq_n_u8((uint8_t)cr);
    for (size_t i = 0; i < blocks; i++) {
        const uint8_t *block = (const uint8_t *)data + i * SB_BLOCK;
        uint8x16_t a = vld1q_u8(block), b = vld1q_u8(block + 16);
        uint8x16_t c = vld1q_u8(block + 32), d = vld1q_u8(block + 48);
        marks[i] = (struct sb_mark){.lf = bits_of_four(a, b, c, d, lfs), .cr = bits_of_four(a, b, c, d, crs)};
    }
}

int sb__widest(void)
{
    return 1;
}

static void marks_of(int way, const char *data, size_t blocks, char lf, char cr, struct sb_mark *marks)
{
    if (way == 1)
        marks_neon(data, blocks, lf, cr, marks);
    else
        marks_portable(data, blocks, lf, cr, marks);
}

#else

int sb__widest(void)
{
    return 0;
}

static void marks_of(int way, const char *data, size_t blocks, char lf, char cr, struct sb_mark *marks)
{
    (void)way;
    marks_portable(data, blocks, lf, cr, marks);
}

#endif

/* The last block, behind which there may be no memory. */
static void mark_rest(int way, const char *data, size_t size, char lf, char cr, struct sb_mark *mark)
{
    char block[SB_BLOCK] = {0};
    uint64_t inside = ((uint64_t)1 << size) - 1;
    memcpy(block, data, size);
    marks_of(way, block, 1, lf, cr, mark);
    mark->lf &= inside; /* a needle may be NUL */
    mark->cr &= inside;
}

size_t sb__marks_by(int way, const char *data, size_t size, char lf, char cr, struct sb_mark *marks)
{
    size_t blocks = size / SB_BLOCK, rest = size % SB_BLOCK;
    if (blocks >= SB_STRIDE) {
        marks_of(way, data, SB_STRIDE, lf, cr, marks);
        return SB_STRIDE * SB_BLOCK;
    }
    if (blocks > 0)
        marks_of(way, data, blocks, lf, cr, marks);
    if (rest > 0)
        mark_rest(way, data + size - rest, rest, lf, cr, marks + blocks);
    return size;
}

size_t sb__marks(const char *data, size_t size, char lf, char cr, struct sb_mark *marks)
{
    return sb__marks_by(sb__widest(), data, size, lf, cr, marks);
}
