#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static void complain(const char *format, va_list args, const char *reason)
{
    fprintf(stderr, "error: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, reason != NULL ? ": %s\n" : "\n", reason);
}

_Noreturn void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(format, args, NULL);
    va_end(args);
    exit(1);
}

_Noreturn void die_errno(const char *format, ...)
{
    const char *reason = strerror(errno);
    va_list args;
    va_start(args, format);
    complain(format, args, reason);
    va_end(args);
    exit(1);
}

_Noreturn void usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(format, args, NULL);
    va_end(args);
    exit(2);
}

uint64_t parse_count(const char *flag, const char *text, uint64_t least, uint64_t most)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    /* strtoull takes a sign and wraps it; no flag of ours means anything below zero. */
    bool number = *text >= '0' && *text <= '9' && *end == '\0' && errno == 0;
    if (!number || value < least || value > most)
        usage("%s wants a whole number from %llu to %llu, not \"%s\"", flag, (unsigned long long)least,
              (unsigned long long)most, text);
    return value;
}

double parse_seconds(const char *flag, const char *text)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0.05 && value <= 3600.0))
        usage("%s wants seconds from 0.05 to 3600, not \"%s\"", flag, text);
    return value;
}

enum wait_mode parse_wait(const char *text)
{
    if (strcmp(text, "epoll") == 0)
        return WAIT_EPOLL;
    if (strcmp(text, "spin") == 0)
        return WAIT_SPIN;
    usage("--wait wants epoll or spin, not \"%s\"", text);
}

struct sockaddr_in parse_address(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    size_t length = colon != NULL ? (size_t)(colon - text) : sizeof host;
    if (length >= sizeof host)
        usage("an address is written as 127.0.0.1:PORT, not \"%s\"", text);
    memcpy(host, text, length);
    host[length] = '\0';
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        usage("an address is written as 127.0.0.1:PORT, not \"%s\"", text);
    address.sin_port = htons((uint16_t)parse_count("the port of the address", colon + 1, 0, 65535));
    return address;
}

void pin_to_cpu(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        die_errno("cannot run on core %u, choose another by --cpu", cpu);
}

void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        /* Refusal is harmless here: a lack of descriptors is reported where one is needed. */
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void *must_alloc(void *old, size_t bytes)
{
    void *memory = realloc(old, bytes);
    if (memory == NULL)
        die("no memory for %zu bytes", bytes);
    return memory;
}

void set_nodelay(int fd)
{
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        die_errno("cannot set TCP_NODELAY");
}

uint32_t load_le32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

void store_le32(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
    to[2] = (uint8_t)(value >> 16);
    to[3] = (uint8_t)(value >> 24);
}

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

double peak_mb(pid_t pid)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *status = fopen(path, "r");
    double kib = -1024.0;
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (sscanf(line, "VmHWM: %lf", &kib) == 1)
            break;
    if (status != NULL)
        fclose(status);
    return kib / 1024.0;
}
