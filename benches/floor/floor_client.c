/* Load for the floor server, or for any server that echoes frames of a 4-byte length and a body.
 *
 * One thread. Every connection keeps K calls in flight: each reply is answered by a new call at once, all replies of
 * one read by one write. Half a second of warm-up is not counted. Every byte of every reply is compared with what was
 * sent.
 *
 *   floor_client ADDR --payload 64 --conns 1 --inflight 1 --secs 2 --cpu 1 --wait epoll|spin --server-pid PID --json
 *
 * With --rate R the loop is open: R calls per second over all connections, sent when they are due (--arrivals
 * constant|poisson, --seed N), whatever earlier calls do, and timed from when they were due. --inflight is then the most
 * calls in flight on a connection; a call that finds its connection full goes to the next one with room, one that finds
 * no room at all waits, and one that waited to the end is missed.
 *
 * With --method ID it speaks Corewire's protocol instead, to a server whose method ID echoes raw bytes: the same loop,
 * the same checks, frames of 16 bytes and a body. It tells what the server costs when the client costs next to nothing.
 *
 * With --json it prints one line. The exit code is 1 when any call failed and 2 for a wrong flag. */
#include "common.h"
#include "histogram.h"
#include "pace.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_PER_WAIT = 256, SEQUENCE_BYTES = 8 };
/* Corewire's header and hello, as docs/PROTOCOL.md has them: kinds of frame, priority, role. */
enum { HEADER_BYTES = 16, PREAMBLE_BYTES = 8, REQUEST = 1, REPLY = 2, USUAL_PRIORITY = 3, VERSION = 1, CLIENT = 0 };
/* A server takes at least so many calls in flight from anybody (REQ-9 has what it says beyond that). */
enum { MAX_COREWIRE_INFLIGHT = 4096 };
#define WARM_UP_NS UINT64_C(500000000)
#define DRAIN_NS UINT64_C(10000000000)
#define SCRATCH_BYTES ((size_t)1 << 20)
#define MAX_IN_FLIGHT_BYTES ((uint64_t)4 << 30)

static struct {
    struct sockaddr_in address;
    size_t payload;
    size_t conns;
    size_t inflight;
    double secs;
    enum wait_mode wait;
    pid_t server_pid; /* 0: not given */
    bool json;
    double rate; /* 0: a closed loop */
    bool poisson;
    uint64_t seed;
    bool corewire;
    uint32_t method;
} options = {.payload = 64, .conns = 1, .inflight = 1, .secs = 2.0, .wait = WAIT_EPOLL, .seed = 1};

/* The frames in flight lie in a ring of K slots. What comes back must be, byte for byte, what the ring holds: a slot
 * is stamped anew only after its reply has arrived in full. All offsets are bytes within the ring. */
struct connection {
    int fd;
    bool open;
    uint8_t *ring;
    uint8_t *expected; /* the replies to the ring, which are the ring itself unless they have another header */
    uint64_t *sent_at; /* one time per slot */
    size_t next_slot;  /* the slot of the oldest call in flight, and so of the next reply */
    size_t write_at;
    size_t unwritten;
    size_t read_at;
    size_t unread; /* written or waiting to be, and not yet back */
    size_t partial; /* bytes of the next reply that have arrived */
    uint64_t sequence;
    uint64_t calls; /* answered in the measured seconds */
    size_t in_flight; /* kept in an open loop only; a closed one always has K */
    bool touched;     /* has calls that are stamped and not yet handed to the socket */
};

static struct {
    struct connection *connections;
    size_t open;
    size_t prefix;
    size_t frame;
    size_t ring;
    uint8_t *scratch;
    bool measuring;
    struct histogram latency;
    uint64_t calls;
    uint64_t errors;
} client;

/* The open loop. Times are on the monotonic clock. */
static struct {
    struct schedule schedule;
    uint64_t begin, end; /* calls due in between are measured */
    size_t turn;
    size_t in_flight;
    uint64_t offered, missed;
    struct histogram late;
} load;

/* One look at all clocks, taken when the measured seconds begin and when they end. */
struct snapshot {
    uint64_t wall_ns;
    double client_cpu;
    double server_cpu;
};

static double cpu_seconds(clockid_t clock, const char *whose)
{
    struct timespec time;
    if (clock_gettime(clock, &time) != 0)
        die_errno("cannot read the CPU clock of %s", whose);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static struct snapshot take_snapshot(void)
{
    struct snapshot s = {.wall_ns = now_ns(), .client_cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID, "this process")};
    if (options.server_pid != 0) {
        clockid_t clock;
        if (clock_getcpuclockid(options.server_pid, &clock) != 0)
            die("there is no process %d to read the CPU clock of", (int)options.server_pid);
        s.server_cpu = cpu_seconds(clock, "the server");
    }
    return s;
}

/* Every call that was in flight on the connection counts as failed. */
static void fail(struct connection *c, const char *why)
{
    if (client.errors == 0)
        fprintf(stderr, "error: %s\n", why);
    client.errors += options.rate > 0 ? c->in_flight : options.inflight;
    load.in_flight -= c->in_flight;
    client.open--;
    c->open = false;
    close(c->fd);
}

/* Writes what the socket takes; false when the connection broke. */
static bool flush(struct connection *c)
{
    while (c->unwritten > 0) {
        size_t first = client.ring - c->write_at;
        if (first > c->unwritten)
            first = c->unwritten;
        struct iovec parts[2] = {{c->ring + c->write_at, first}, {c->ring, c->unwritten - first}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        ssize_t n = c->unwritten == first ? send(c->fd, parts[0].iov_base, first, MSG_NOSIGNAL)
                                          : sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN)
                return true;
            if (errno == EINTR)
                continue;
            fail(c, "a connection broke while a call was written");
            return false;
        }
        c->unwritten -= (size_t)n;
        c->write_at += (size_t)n;
        if (c->write_at >= client.ring)
            c->write_at -= client.ring;
    }
    return true;
}

/* Stamps the slots of `count` calls with new sequence numbers and hands them to `flush`. */
static void start_calls(struct connection *c, size_t slot, size_t count, uint64_t now)
{
    size_t stamp = options.payload < SEQUENCE_BYTES ? options.payload : SEQUENCE_BYTES;
    for (size_t i = 0; i < count; i++) {
        memcpy(c->ring + slot * client.frame + client.prefix, &c->sequence, stamp);
        if (c->expected != c->ring)
            memcpy(c->expected + slot * client.frame + client.prefix, &c->sequence, stamp);
        c->sequence++;
        c->sent_at[slot] = now;
        if (++slot == options.inflight)
            slot = 0;
    }
    c->unwritten += count * client.frame;
    c->unread += count * client.frame;
}

/* Compares `n` bytes of replies with the ring; false when the server said something else. */
static bool check_replies(struct connection *c, size_t n)
{
    if (n > c->unread - c->unwritten) {
        fail(c, "the server sent more than it was asked for");
        return false;
    }
    c->unread -= n;
    for (const uint8_t *from = client.scratch; n > 0;) {
        size_t run = client.ring - c->read_at < n ? client.ring - c->read_at : n;
        if (memcmp(from, c->expected + c->read_at, run) != 0) {
            fail(c, "a reply is not what was sent");
            return false;
        }
        from += run;
        n -= run;
        c->read_at = c->read_at + run == client.ring ? 0 : c->read_at + run;
    }
    return true;
}

/* Takes the replies of one read in an open loop: a call is timed from when it was due, and belongs to the measured
 * seconds by that; the rate counts what comes back in them. */
static bool take_open_replies(struct connection *c, size_t n, uint64_t now)
{
    for (c->partial += n; c->partial >= client.frame; c->partial -= client.frame) {
        uint64_t due = c->sent_at[c->next_slot];
        if (due >= load.begin && due < load.end)
            histogram_add(&client.latency, now - due);
        if (now >= load.begin && now < load.end)
            client.calls++;
        if (++c->next_slot == options.inflight)
            c->next_slot = 0;
        c->in_flight--;
        load.in_flight--;
    }
    return true;
}

/* Takes the replies of one read and sends as many calls again. */
static bool take_replies(struct connection *c, size_t n)
{
    if (!check_replies(c, n))
        return false;
    uint64_t now = now_ns();
    if (options.rate > 0)
        return take_open_replies(c, n, now);
    size_t first = c->next_slot, done = 0;
    for (c->partial += n; c->partial >= client.frame; c->partial -= client.frame) {
        if (client.measuring) {
            histogram_add(&client.latency, now - c->sent_at[c->next_slot]);
            c->calls++;
            client.calls++;
        }
        if (++c->next_slot == options.inflight)
            c->next_slot = 0;
        done++;
    }
    start_calls(c, first, done, now);
    return flush(c);
}

/* Reads one connection until it is empty, as the server does; a read that leaves room has emptied it. */
static void serve(struct connection *c, bool until_end)
{
    if (!flush(c))
        return;
    for (;;) {
        ssize_t n = recv(c->fd, client.scratch, SCRATCH_BYTES, 0);
        if (n == 0) {
            fail(c, "the server closed a connection");
            return;
        }
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN)
                fail(c, "a connection broke while a reply was read");
            return;
        }
        if (!take_replies(c, (size_t)n) || ((size_t)n < SCRATCH_BYTES && !until_end))
            return;
    }
}

/* Reads exactly `n` bytes from a blocking socket. */
static void read_exactly(int fd, uint8_t *into, size_t n)
{
    for (size_t got = 0; got < n;) {
        ssize_t more = recv(fd, into + got, n - got, 0);
        if (more <= 0)
            die("the server closed a connection instead of greeting");
        got += (size_t)more;
    }
}

/* Says hello without a record, which grants the least of everything, and forgets the server's. */
static void greet(int fd)
{
    static const uint8_t magic[4] = {0xc7, 'W', 'R', 'E'};
    uint8_t hello[PREAMBLE_BYTES] = {0};
    memcpy(hello, magic, sizeof magic);
    hello[4] = VERSION;
    hello[5] = CLIENT;
    if (send(fd, hello, sizeof hello, MSG_NOSIGNAL) != (ssize_t)sizeof hello)
        die_errno("cannot greet");
    read_exactly(fd, hello, sizeof hello);
    if (memcmp(hello, magic, sizeof magic) != 0)
        die("the server does not speak Corewire's protocol");
    uint8_t records[UINT16_MAX];
    read_exactly(fd, records, (size_t)hello[6] | (size_t)hello[7] << 8);
}

/* Writes the header of one slot's request or reply; the slot is the call's id. */
static void put_header(uint8_t *frame, uint8_t kind, size_t slot)
{
    store_le32(frame, (uint32_t)options.payload);
    frame[4] = kind;
    frame[5] = 0; /* no flag */
    frame[6] = 0; /* a raw body, not compressed */
    frame[7] = kind == REQUEST ? USUAL_PRIORITY : 0;
    store_le32(frame + 8, (uint32_t)slot);
    store_le32(frame + 12, kind == REQUEST ? options.method : 0);
}

static void connect_one(struct connection *c)
{
    *c = (struct connection){.open = true, .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (c->fd < 0)
        die_errno("cannot make a socket");
    if (connect(c->fd, (struct sockaddr *)&options.address, sizeof options.address) != 0)
        die_errno("cannot connect");
    set_nodelay(c->fd);
    if (options.corewire)
        greet(c->fd);
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0)
        die_errno("cannot make a socket non-blocking");
    c->ring = must_alloc(NULL, client.ring);
    c->expected = options.corewire ? must_alloc(NULL, client.ring) : c->ring;
    c->sent_at = must_alloc(NULL, options.inflight * sizeof *c->sent_at);
    uint64_t noise = (uint64_t)(c - client.connections) + 1;
    for (size_t slot = 0; slot < options.inflight; slot++) {
        uint8_t *frame = c->ring + slot * client.frame;
        store_le32(frame, (uint32_t)options.payload);
        for (size_t i = 0; i < options.payload; i++) {
            noise = noise * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            frame[client.prefix + i] = (uint8_t)(noise >> 56);
        }
        if (options.corewire) {
            uint8_t *reply = c->expected + slot * client.frame;
            memcpy(reply, frame, client.frame);
            put_header(frame, REQUEST, slot);
            put_header(reply, REPLY, slot);
        }
    }
}

static void connect_all(void)
{
    client.prefix = options.corewire ? HEADER_BYTES : PREFIX_BYTES;
    client.frame = client.prefix + options.payload;
    client.ring = client.frame * options.inflight;
    if ((uint64_t)client.ring * options.conns > MAX_IN_FLIGHT_BYTES)
        usage("--payload, --inflight and --conns together keep more than 4 GiB in flight");
    client.connections = must_alloc(NULL, options.conns * sizeof *client.connections);
    client.scratch = must_alloc(NULL, SCRATCH_BYTES);
    for (size_t i = 0; i < options.conns; i++)
        connect_one(&client.connections[i]);
    client.open = options.conns;
}

/* Called after every round of work: opens and closes the measured seconds. False once they are over. */
static bool advance(struct snapshot *begin, struct snapshot *end, uint64_t warm_until, uint64_t *measure_until)
{
    uint64_t now = now_ns();
    if (!client.measuring && now >= warm_until) {
        *begin = take_snapshot();
        *measure_until = begin->wall_ns + (uint64_t)(options.secs * 1e9);
        client.measuring = true;
    } else if (client.measuring && now >= *measure_until) {
        *end = take_snapshot();
        return false;
    }
    return client.open > 0;
}

/* Parked: the end of warm-up and the end of the run come as a timer's event, so that epoll_wait needs no timeout. */
static void wake_at(int timer, uint64_t at_ns)
{
    struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(at_ns / 1000000000u),
                                           .tv_nsec = (long)(at_ns % 1000000000u)}};
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL) != 0)
        die_errno("cannot set a timer");
}

static void watch(int epoll, int fd, uint32_t events, void *data)
{
    struct epoll_event event = {.events = events, .data.ptr = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        die_errno("cannot watch a socket");
}

static void run_epoll(struct snapshot *begin, struct snapshot *end, uint64_t warm_until)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    uint64_t measure_until = 0, armed_for = warm_until;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (epoll < 0 || timer < 0)
        die_errno("cannot make an epoll set and a timer");
    watch(epoll, timer, EPOLLIN | EPOLLET, NULL);
    wake_at(timer, warm_until);
    for (size_t i = 0; i < options.conns; i++)
        if (client.connections[i].open)
            watch(epoll, client.connections[i].fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                  &client.connections[i]);
    while (advance(begin, end, warm_until, &measure_until)) {
        if (measure_until != 0 && armed_for != measure_until)
            wake_at(timer, armed_for = measure_until);
        int ready = epoll_wait(epoll, events, EVENTS_PER_WAIT, -1);
        if (ready < 0 && errno != EINTR)
            die_errno("epoll_wait failed");
        for (int i = 0; i < ready; i++)
            if (events[i].data.ptr != NULL)
                serve(events[i].data.ptr, (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
    }
    close(timer);
    close(epoll);
}

static void run_spin(struct snapshot *begin, struct snapshot *end, uint64_t warm_until)
{
    uint64_t measure_until = 0;
    while (advance(begin, end, warm_until, &measure_until))
        for (size_t i = 0; i < options.conns; i++)
            if (client.connections[i].open)
                serve(&client.connections[i], false);
}

/* The next connection in turn that has room, or NULL. */
static struct connection *next_with_room(void)
{
    for (size_t i = 0; i < options.conns; i++) {
        struct connection *c = &client.connections[(load.turn + i) % options.conns];
        if (c->open && c->in_flight < options.inflight) {
            load.turn = (load.turn + i + 1) % options.conns;
            return c;
        }
    }
    return NULL;
}

/* Sends every call that is due and has room, those of one connection by one write. False when one found no room. */
static bool send_due(uint64_t now)
{
    static struct connection **touched;
    size_t count = 0;
    bool room = true;
    if (touched == NULL)
        touched = must_alloc(NULL, options.conns * sizeof *touched);
    for (uint64_t due; now < load.end && (due = load.begin - WARM_UP_NS + schedule_next(&load.schedule)) <= now;) {
        struct connection *c = due < load.end ? next_with_room() : NULL;
        if (c == NULL) {
            room = due >= load.end;
            break;
        }
        start_calls(c, (c->next_slot + c->in_flight) % options.inflight, 1, due);
        c->in_flight++;
        load.in_flight++;
        if (due >= load.begin) {
            load.offered++;
            histogram_add(&load.late, now - due);
        }
        if (!c->touched)
            touched[count++] = c;
        c->touched = true;
        schedule_take(&load.schedule);
    }
    for (size_t i = 0; i < count; i++) {
        touched[i]->touched = false;
        if (touched[i]->open)
            flush(touched[i]);
    }
    return room;
}

/* What was due and never sent is missed, what was sent and never answered has failed. */
static void close_load(void)
{
    for (uint64_t due; (due = load.begin - WARM_UP_NS + schedule_next(&load.schedule)) < load.end;) {
        if (due >= load.begin) {
            load.offered++;
            load.missed++;
        }
        schedule_take(&load.schedule);
    }
    if (load.in_flight > 0) {
        fprintf(stderr, "error: %zu calls were never answered\n", load.in_flight);
        client.errors += load.in_flight;
    }
}

/* Open loop. Parked, a timer wakes it for the next call that is due; spinning, it asks again and again, and the whole set
 * at once: asking every socket in turn would make the sender late by a sweep. */
static void run_open(struct snapshot *begin, struct snapshot *end, uint64_t start)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (epoll < 0 || timer < 0)
        die_errno("cannot make an epoll set and a timer");
    watch(epoll, timer, EPOLLIN | EPOLLET, NULL);
    for (size_t i = 0; i < options.conns; i++)
        watch(epoll, client.connections[i].fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &client.connections[i]);
    load.begin = start + WARM_UP_NS;
    load.end = load.begin + (uint64_t)(options.secs * 1e9);
    schedule_init(&load.schedule, options.rate, options.poisson, options.seed);
    while (client.open > 0) {
        uint64_t now = now_ns();
        if (!client.measuring && now >= load.begin) {
            *begin = take_snapshot();
            client.measuring = true;
        }
        if (end->wall_ns == 0 && now >= load.end)
            *end = take_snapshot();
        if (now >= load.end && (load.in_flight == 0 || now >= load.end + DRAIN_NS))
            break;
        bool room = send_due(now);
        if (options.wait == WAIT_EPOLL) {
            uint64_t due = start + schedule_next(&load.schedule);
            uint64_t bound = !client.measuring ? load.begin : now < load.end ? load.end : load.end + DRAIN_NS;
            wake_at(timer, room && due < bound && now < load.end ? due : bound);
        }
        int ready = epoll_wait(epoll, events, EVENTS_PER_WAIT, options.wait == WAIT_EPOLL ? -1 : 0);
        if (ready < 0 && errno != EINTR)
            die_errno("epoll_wait failed");
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c != NULL && c->open)
                serve(c, (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
        }
    }
    close_load();
    close(timer);
    close(epoll);
}

/* A connection on which nothing came back in all the measured seconds is a failure, not a slow call. */
static void count_stalled(void)
{
    for (size_t i = 0; i < options.conns; i++)
        if (client.connections[i].open && client.connections[i].calls == 0)
            fail(&client.connections[i], "a connection answered no call in the measured seconds");
}

/* The part of the report that only an open loop has. */
static void report_open(void)
{
    double late[2] = {(double)histogram_quantile(&load.late, 0.5) / 1e3, (double)histogram_quantile(&load.late, 0.99) / 1e3};
    const char *format = options.json
        ? ",\"open\":{\"rate\":%.3f,\"arrivals\":\"%s\",\"offered\":%llu,\"offered_rps\":%.1f,\"missed\":%llu,"
          "\"late_p50_us\":%.3f,\"late_p99_us\":%.3f,\"late_max_us\":%.3f,\"errors_by_status\":{"
        : "asked for %.0f calls/s, %s: %llu offered, %.0f calls/s, %llu missed\n"
          "send lateness in us: p50 %.2f, p99 %.2f, max %.2f\n";
    printf(format, options.rate, options.poisson ? "poisson" : "constant", (unsigned long long)load.offered,
           (double)load.offered / options.secs, (unsigned long long)load.missed, late[0], late[1],
           (double)load.late.max / 1e3);
    /* The floor has no statuses: a call is answered or it is not. */
    if (options.json && client.errors > 0)
        printf("\"Failed\":%llu", (unsigned long long)client.errors);
    if (options.json)
        printf("}}");
}

static void report(const struct snapshot *begin, const struct snapshot *end)
{
    double secs = (double)(end->wall_ns - begin->wall_ns) / 1e9;
    double rps = secs > 0 ? (double)client.calls / secs : 0;
    static const double parts[] = {0.5, 0.9, 0.99, 0.999};
    double us[4], max_us = (double)client.latency.max / 1e3;
    for (size_t i = 0; i < 4; i++)
        us[i] = (double)histogram_quantile(&client.latency, parts[i]) / 1e3;
    char server_cpu[32] = "null", server_rss[32] = "null";
    if (options.server_pid != 0) {
        double peak = peak_mb(options.server_pid);
        snprintf(server_cpu, sizeof server_cpu, "%.6f", end->server_cpu - begin->server_cpu);
        if (peak >= 0)
            snprintf(server_rss, sizeof server_rss, "%.3f", peak);
    }
    const char *format = options.json
        ? "{\"payload\":%zu,\"conns\":%zu,\"inflight\":%zu,\"secs\":%.6f,\"calls\":%llu,\"errors\":%llu,"
          "\"rps\":%.1f,\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f,\"max_us\":%.3f,"
          "\"client_cpu_s\":%.6f,\"server_cpu_s\":%s,\"server_rss_mb\":%s"
        : "payload %zu B, %zu connections, %zu in flight, %.2f s: %llu calls, %llu errors, %.0f calls/s\n"
          "latency in us: p50 %.2f, p90 %.2f, p99 %.2f, p99.9 %.2f, max %.2f\n"
          "CPU seconds: client %.3f, server %s; server memory at its peak: %s MiB\n";
    printf(format, options.payload, options.conns, options.inflight, secs, (unsigned long long)client.calls,
           (unsigned long long)client.errors, rps, us[0], us[1], us[2], us[3], max_us,
           end->client_cpu - begin->client_cpu, server_cpu, server_rss);
    if (options.rate > 0)
        report_open();
    if (options.json)
        printf("}\n");
}

static void parse_options(int argc, char **argv)
{
    static const struct option flags[] = {
        {"payload", required_argument, NULL, 'p'}, {"conns", required_argument, NULL, 'n'},
        {"inflight", required_argument, NULL, 'k'}, {"secs", required_argument, NULL, 's'},
        {"cpu", required_argument, NULL, 'c'}, {"wait", required_argument, NULL, 'w'},
        {"server-pid", required_argument, NULL, 'i'}, {"json", no_argument, NULL, 'j'},
        {"rate", required_argument, NULL, 'r'}, {"arrivals", required_argument, NULL, 'a'},
        {"seed", required_argument, NULL, 'e'}, {"method", required_argument, NULL, 'm'}, {0},
    };
    for (int flag; (flag = getopt_long(argc, argv, "", flags, NULL)) != -1;) {
        switch (flag) {
        case 'p': options.payload = parse_count("--payload", optarg, 0, MAX_BODY_BYTES); break;
        case 'n': options.conns = parse_count("--conns", optarg, 1, 1000000); break;
        case 'k': options.inflight = parse_count("--inflight", optarg, 1, 1000000); break;
        case 's': options.secs = parse_seconds("--secs", optarg); break;
        case 'c': pin_to_cpu((unsigned)parse_count("--cpu", optarg, 0, 1023)); break;
        case 'w': options.wait = parse_wait(optarg); break;
        case 'i': options.server_pid = (pid_t)parse_count("--server-pid", optarg, 1, 1 << 22); break;
        case 'j': options.json = true; break;
        case 'r': options.rate = parse_rate("--rate", optarg); break;
        case 'a': options.poisson = parse_arrivals(optarg); break;
        case 'm':
            options.corewire = true;
            options.method = (uint32_t)parse_count("--method", optarg, 0, UINT32_MAX);
            break;
        case 'e': options.seed = parse_count("--seed", optarg, 0, UINT64_MAX); break;
        default: usage("use floor_client ADDR with the flags named at the top of floor_client.c");
        }
    }
    if (optind + 1 != argc)
        usage("floor_client wants one address, as 127.0.0.1:PORT");
    options.address = parse_address(argv[optind]);
    if (options.corewire && options.inflight > MAX_COREWIRE_INFLIGHT)
        usage("--inflight is at most 4096 with --method");
}

int main(int argc, char **argv)
{
    struct snapshot begin = {0}, end = {0};
    parse_options(argc, argv);
    raise_file_limit();
    connect_all();
    uint64_t start = now_ns();
    for (size_t i = 0; i < options.conns && options.rate == 0; i++) {
        start_calls(&client.connections[i], 0, options.inflight, start);
        flush(&client.connections[i]);
    }
    if (options.rate > 0)
        run_open(&begin, &end, start);
    else if (options.wait == WAIT_EPOLL)
        run_epoll(&begin, &end, start + WARM_UP_NS);
    else
        run_spin(&begin, &end, start + WARM_UP_NS);
    if (options.rate == 0)
        count_stalled();
    if (end.wall_ns == 0)
        end = begin; /* every connection was lost before the end, so nothing was measured */
    report(&begin, &end);
    for (size_t i = 0; i < options.conns; i++) {
        struct connection *c = &client.connections[i];
        if (c->open)
            close(c->fd);
        if (c->expected != c->ring)
            free(c->expected);
        free(c->ring);
        free(c->sent_at);
    }
    free(client.connections);
    free(client.scratch);
    return client.errors > 0 ? 1 : 0;
}
