#include "pace.h"
#include "common.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* SplitMix64. */
static uint64_t noise(uint64_t *state)
{
    uint64_t mixed = *state += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

static double exponential(struct schedule *s)
{
    double unit = (double)(noise(&s->noise) >> 11) / (double)(UINT64_C(1) << 53);
    return -log(1.0 - unit) * s->interval_ns;
}

void schedule_init(struct schedule *s, double rate, bool poisson, uint64_t seed)
{
    *s = (struct schedule){.interval_ns = 1e9 / rate, .poisson = poisson, .noise = seed};
    if (poisson)
        s->next = exponential(s);
}

uint64_t schedule_next(const struct schedule *s)
{
    return (uint64_t)s->next;
}

void schedule_take(struct schedule *s)
{
    s->taken++;
    s->next = s->poisson ? s->next + exponential(s) : (double)s->taken * s->interval_ns;
}

double parse_rate(const char *flag, const char *text)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0.1 && value <= 1e7))
        usage("%s wants calls per second from 0.1 to 10000000, not \"%s\"", flag, text);
    return value;
}

bool parse_arrivals(const char *text)
{
    if (strcmp(text, "constant") != 0 && strcmp(text, "poisson") != 0)
        usage("--arrivals wants constant or poisson, not \"%s\"", text);
    return strcmp(text, "poisson") == 0;
}
