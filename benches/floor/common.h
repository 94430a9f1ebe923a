/* What the floor server and the floor client share: the frame's measures, flags, clocks and pinning. */
#ifndef FLOOR_COMMON_H
#define FLOOR_COMMON_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A frame is a body behind its length: 4 bytes, little-endian, not counting themselves. */
enum { PREFIX_BYTES = 4 };
#define MAX_BODY_BYTES ((size_t)16 << 20)

/* How a program waits for the kernel: parked in epoll_wait, or asking every socket again and again. */
enum wait_mode { WAIT_EPOLL, WAIT_SPIN };

/* Ends the program with exit code 1 and one sentence; `die_errno` adds why the system call failed. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the program with exit code 2, which means that a flag was wrong. */
_Noreturn void usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Flag values; each ends the program through `usage` when the text is not what the flag allows. */
uint64_t parse_count(const char *flag, const char *text, uint64_t least, uint64_t most);
double parse_seconds(const char *flag, const char *text);
enum wait_mode parse_wait(const char *text);
struct sockaddr_in parse_address(const char *text);

/* Pins the whole process (it has one thread) to one core. */
void pin_to_cpu(unsigned cpu);

/* Lifts the soft limit of open files to the hard one, for many connections. */
void raise_file_limit(void);

/* Memory that is there, or the end of the program. */
void *must_alloc(void *old, size_t bytes);

/* Turns Nagle's algorithm off: both sides decide themselves what one write holds. */
void set_nodelay(int fd);

uint32_t load_le32(const uint8_t *from);
void store_le32(uint8_t *to, uint32_t value);

/* A process' peak resident memory in MiB (VmHWM), or a negative number when it cannot be read. */
double peak_mb(pid_t pid);

/* Nanoseconds of the monotonic clock. */
uint64_t now_ns(void);

#endif
