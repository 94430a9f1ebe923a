/* A log-linear histogram of nanoseconds: every power of two is cut into 128 equal steps, so that a value read back
 * is off by less than 0.4 %, from 1 ns to centuries, in one fixed array and with no division on the way in. */
#ifndef FLOOR_HISTOGRAM_H
#define FLOOR_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_STEP_BITS = 7, HISTOGRAM_STEPS = 1 << HISTOGRAM_STEP_BITS };
enum { HISTOGRAM_BUCKETS = (64 - HISTOGRAM_STEP_BITS + 1) * HISTOGRAM_STEPS };

struct histogram {
    uint64_t count;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_reset(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t value);

/* The value below or at which the given part (0 to 1) of all values lies; 0 of an empty histogram. */
uint64_t histogram_quantile(const struct histogram *h, double part);

#endif
