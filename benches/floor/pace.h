/* When the calls of an open loop are due: the same arithmetic as in `services/cli/src/pace.rs`, which all other load
 * generators use, and the same times for the same seed. */
#ifndef FLOOR_PACE_H
#define FLOOR_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct schedule {
    double interval_ns;
    bool poisson;
    uint64_t noise;
    uint64_t taken;
    double next; /* nanoseconds since the start, with their fraction */
};

void schedule_init(struct schedule *s, double rate, bool poisson, uint64_t seed);

/* When the next call is due, in nanoseconds since the start. */
uint64_t schedule_next(const struct schedule *s);

/* Goes on to the call after it. */
void schedule_take(struct schedule *s);

/* Flag values; each ends the program through `usage` when the text is not what the flag allows. */
double parse_rate(const char *flag, const char *text);
bool parse_arrivals(const char *text);

#endif
