/* The histogram's promise: a quantile read back is within 0.4 % of the value that stands at that rank. */
#include "common.h"
#include "histogram.h"

#include <math.h>

static struct histogram h;

static void expect(uint64_t wanted, double part)
{
    uint64_t got = histogram_quantile(&h, part);
    double error = fabs((double)got - (double)wanted);
    if (error > (double)wanted * 0.004)
        die("quantile %g is %llu instead of %llu", part, (unsigned long long)got, (unsigned long long)wanted);
}

int main(void)
{
    expect(0, 0.5); /* of nothing */

    /* One value at a time, over all powers of two and past their edges. */
    for (uint64_t base = 1; base != 0; base <<= 1) {
        for (uint64_t part = 0; part < 16; part++) {
            uint64_t value = base + base / 16 * part;
            histogram_reset(&h);
            histogram_add(&h, value);
            expect(value, 0.0);
            expect(value, 0.999);
        }
    }

    /* 1 to 100,000 once each: every quantile is known. */
    histogram_reset(&h);
    for (uint64_t value = 1; value <= 100000; value++)
        histogram_add(&h, value);
    expect(50000, 0.5);
    expect(90000, 0.9);
    expect(99000, 0.99);
    expect(99900, 0.999);
    expect(100000, 1.0);
    if (h.count != 100000 || h.max != 100000)
        die("the histogram lost a value");
    return 0;
}
