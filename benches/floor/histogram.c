#include "histogram.h"

#include <string.h>

/* Values under 128 have a bucket each. Above, the highest set bit picks the power of two and the seven bits behind
 * it the step within it. */
static unsigned bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_STEPS)
        return (unsigned)value;
    unsigned power = 63u - (unsigned)__builtin_clzll(value);
    unsigned shift = power - HISTOGRAM_STEP_BITS;
    return (shift + 1) * HISTOGRAM_STEPS + (unsigned)((value >> shift) - HISTOGRAM_STEPS);
}

/* The middle of a bucket, which halves the largest error. */
static uint64_t middle_of(unsigned bucket)
{
    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t low = ((uint64_t)HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS) << shift;
    return low + (((uint64_t)1 << shift) >> 1);
}

void histogram_reset(struct histogram *h)
{
    memset(h, 0, sizeof *h);
}

void histogram_add(struct histogram *h, uint64_t value)
{
    h->buckets[bucket_of(value)]++;
    h->count++;
    if (value > h->max)
        h->max = value;
}

uint64_t histogram_quantile(const struct histogram *h, double part)
{
    if (h->count == 0)
        return 0;
    uint64_t rank = (uint64_t)(part * (double)h->count);
    if (rank >= h->count)
        return h->max;
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += h->buckets[bucket];
        if (seen > rank) {
            uint64_t middle = middle_of(bucket);
            return middle < h->max ? middle : h->max;
        }
    }
    return h->max;
}
