/* The floor: what an echo server costs on this machine when there is no RPC in it.
 *
 * One thread, many connections, frames of a 4-byte length and a body. All whole frames that one read brought are
 * answered by one write, straight from the buffer they were read into. It waits parked in an edge-triggered epoll_wait
 * without a timeout, or spins over non-blocking receives.
 *
 *   floor_server --addr 127.0.0.1:0 --cpu 0 --wait epoll|spin
 *
 * Prints `listening 127.0.0.1:PORT` and ends with exit code 0 on SIGTERM or SIGINT. */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096, EVENTS_PER_WAIT = 256, SWEEPS_PER_ACCEPT = 256 };

/* A connection's first buffer. The kernel backs only the pages that were written, so an idle connection costs none. */
#define FIRST_CAPACITY ((size_t)64 << 10)

/* The buffer holds, in order: bytes already echoed, whole frames still to write, and the start of a frame.
 *     0 <= sent <= whole <= end <= capacity */
struct connection {
    int fd;
    size_t index; /* its place in `server.connections` */
    uint8_t *buffer;
    size_t capacity;
    size_t sent;
    size_t whole;
    size_t end;
};

static struct {
    int listener;
    struct connection **connections;
    size_t count;
    size_t room;
} server;

static volatile sig_atomic_t stopping;
static int stop_fd = -1;

/* An eventfd in the epoll set closes the gap between looking at `stopping` and falling asleep. */
static void on_signal(int signal_number)
{
    (void)signal_number;
    int saved = errno;
    uint64_t one = 1;
    stopping = 1;
    ssize_t ignored = write(stop_fd, &one, sizeof one);
    (void)ignored;
    errno = saved;
}

static void watch_signals(void)
{
    stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (stop_fd < 0)
        die_errno("cannot make an eventfd");
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

static void listen_on(struct sockaddr_in address)
{
    int on = 1;
    socklen_t length = sizeof address;
    char text[INET_ADDRSTRLEN];
    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server.listener < 0)
        die_errno("cannot make a socket");
    setsockopt(server.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(server.listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(server.listener, BACKLOG) != 0 ||
        getsockname(server.listener, (struct sockaddr *)&address, &length) != 0)
        die_errno("cannot listen on the address");
    inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
    printf("listening %s:%u\n", text, (unsigned)ntohs(address.sin_port));
    fflush(stdout);
}

/* Takes one waiting connection, or NULL when there is none. */
static struct connection *accept_one(void)
{
    int fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE)
            die("no file descriptor for connection %zu: raise `ulimit -n`", server.count + 1);
        return NULL; /* EAGAIN, or a peer that is gone again: neither concerns the others */
    }
    set_nodelay(fd);
    if (server.count == server.room) {
        server.room = server.room == 0 ? 64 : server.room * 2;
        server.connections = must_alloc(server.connections, server.room * sizeof *server.connections);
    }
    struct connection *c = must_alloc(NULL, sizeof *c);
    *c = (struct connection){.fd = fd, .index = server.count};
    server.connections[server.count++] = c;
    return c;
}

static void close_connection(struct connection *c)
{
    struct connection *last = server.connections[--server.count];
    last->index = c->index;
    server.connections[c->index] = last;
    close(c->fd);
    free(c->buffer);
    free(c);
}

/* Makes room behind `end` for the rest of the frame that has begun. Called with no frame waiting to be written. */
static void make_room(struct connection *c)
{
    size_t begun = c->end - c->whole;
    size_t frame = begun >= PREFIX_BYTES ? PREFIX_BYTES + (size_t)load_le32(c->buffer + c->whole) : 0;
    /* Room for a few frames, so that a read can bring the rest of one together with the next. */
    size_t wanted = 4 * frame > FIRST_CAPACITY ? 4 * frame : FIRST_CAPACITY;
    if (begun == 0) {
        c->sent = c->whole = c->end = 0;
    } else if (c->whole > 0 && (c->capacity - c->whole < frame || c->capacity - c->end < c->capacity / 2)) {
        memmove(c->buffer, c->buffer + c->whole, begun);
        c->sent = c->whole = 0;
        c->end = begun;
    }
    if (c->capacity < wanted) {
        c->buffer = must_alloc(c->buffer, wanted);
        c->capacity = wanted;
    }
}

/* Moves `whole` over every frame that has arrived in full; false for a frame above the limit. */
static bool find_whole_frames(struct connection *c)
{
    while (c->end - c->whole >= PREFIX_BYTES) {
        size_t body = load_le32(c->buffer + c->whole);
        if (body > MAX_BODY_BYTES)
            return false;
        if (c->end - c->whole < PREFIX_BYTES + body)
            break;
        c->whole += PREFIX_BYTES + body;
    }
    return true;
}

enum flush_result { FLUSHED, BLOCKED, BROKEN };

static enum flush_result flush(struct connection *c)
{
    while (c->sent < c->whole) {
        ssize_t n = send(c->fd, c->buffer + c->sent, c->whole - c->sent, MSG_NOSIGNAL);
        if (n >= 0)
            c->sent += (size_t)n;
        else if (errno == EAGAIN)
            return BLOCKED;
        else if (errno != EINTR)
            return BROKEN;
    }
    return FLUSHED;
}

/* Answers what has arrived; false when the connection is over. A connection whose replies do not fit into its socket
 * is not read any further until they do. A read that leaves room has emptied the socket: what comes later raises a new
 * edge. Only after a hang-up (`until_end`) must the reads go on to the end itself, for no edge follows it. */
static bool serve(struct connection *c, bool until_end)
{
    for (;;) {
        enum flush_result result = flush(c);
        if (result != FLUSHED)
            return result == BLOCKED;
        make_room(c);
        size_t room = c->capacity - c->end;
        ssize_t n = recv(c->fd, c->buffer + c->end, room, 0);
        if (n == 0)
            return false;
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return errno == EAGAIN;
        }
        c->end += (size_t)n;
        if (!find_whole_frames(c))
            return false;
        if ((size_t)n < room && !until_end)
            return flush(c) != BROKEN;
    }
}

static void watch(int epoll, int fd, uint32_t events, void *data)
{
    struct epoll_event event = {.events = events, .data.ptr = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        die_errno("cannot watch a socket");
}

static void run_epoll(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        die_errno("cannot make an epoll set");
    struct epoll_event events[EVENTS_PER_WAIT];
    watch(epoll, server.listener, EPOLLIN, &server.listener);
    watch(epoll, stop_fd, EPOLLIN, &stop_fd);
    while (!stopping) {
        int ready = epoll_wait(epoll, events, EVENTS_PER_WAIT, -1);
        if (ready < 0 && errno != EINTR)
            die_errno("epoll_wait failed");
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == &server.listener) {
                struct connection *c;
                while ((c = accept_one()) != NULL)
                    watch(epoll, c->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
            } else if (events[i].data.ptr != &stop_fd) {
                struct connection *c = events[i].data.ptr;
                bool hung_up = (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
                if (!serve(c, hung_up))
                    close_connection(c);
            }
        }
    }
    close(epoll);
}

static void run_spin(void)
{
    for (unsigned sweep = 0; !stopping; sweep++) {
        if (sweep % SWEEPS_PER_ACCEPT == 0)
            while (accept_one() != NULL)
                continue;
        /* Backwards, because closing puts the last connection, which was served already, into the gap. */
        for (size_t i = server.count; i-- > 0;)
            if (!serve(server.connections[i], false))
                close_connection(server.connections[i]);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"addr", required_argument, NULL, 'a'},
        {"cpu", required_argument, NULL, 'c'},
        {"wait", required_argument, NULL, 'w'},
        {0},
    };
    struct sockaddr_in address = parse_address("127.0.0.1:0");
    enum wait_mode wait = WAIT_EPOLL;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'a')
            address = parse_address(optarg);
        else if (option == 'c')
            pin_to_cpu((unsigned)parse_count("--cpu", optarg, 0, 1023));
        else if (option == 'w')
            wait = parse_wait(optarg);
        else
            usage("use floor_server --addr 127.0.0.1:PORT --cpu N --wait epoll|spin");
    }
    if (optind != argc)
        usage("floor_server takes flags only, not \"%s\"", argv[optind]);

    raise_file_limit();
    watch_signals();
    listen_on(address);
    if (wait == WAIT_EPOLL)
        run_epoll();
    else
        run_spin();

    while (server.count > 0)
        close_connection(server.connections[server.count - 1]);
    free(server.connections);
    close(server.listener);
    close(stop_fd);
    return 0;
}
