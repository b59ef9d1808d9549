/* The webhooks' other end: a small HTTP/1.1 server that costs as little as possible beside what is measured.
 *
 * One thread, level-triggered epoll, keep-alive, bodies by Content-Length. It opens two ports of the system's choice on
 * loopback and prints them as one line, "<fast> <hang>":
 *
 *   fast   answers 204 once the body is there
 *   hang   accepts, reads everything, never answers
 *
 * It ends when its standard input does, so that it cannot outlive whoever started it. Built by sink.py: cc -O2 -o sink sink.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_BYTES = 16384, EVENTS = 256, BACKLOG = 4096 };
enum kind { STDIN, LISTENER, CONNECTION };

struct peer {
    int fd;
    enum kind kind;
    bool hangs;
    size_t have;      /* bytes of a head that has not ended yet */
    size_t body_left; /* bytes of the body still to come */
    char head[HEAD_BYTES];
};

static const char ANSWER[] = "HTTP/1.1 204 No Content\r\n\r\n";

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int epoll, int fd, enum kind kind, bool hangs) {
    struct peer *peer = malloc(sizeof *peer);
    if (!peer) fail("malloc");
    peer->fd = fd, peer->kind = kind, peer->hangs = hangs, peer->have = 0, peer->body_left = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

static int listen_anywhere(int epoll, bool hangs) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) || listen(fd, BACKLOG)) fail("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &length)) fail("getsockname");
    watch(epoll, fd, LISTENER, hangs);
    return ntohs(address.sin_port);
}

static void take_all(int epoll, const struct peer *listener) {
    int fd, on = 1;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(epoll, fd, CONNECTION, listener->hangs);
    }
}

static size_t body_length(char *head, const char *end) {
    char *field = strcasestr(head, "\r\ncontent-length:");
    return field && field < end ? strtoul(field + 17, NULL, 10) : 0;
}

/* Takes in `got` more bytes; answers how many requests became whole, or -1 for a head that is too long. */
static int take_in(struct peer *peer, size_t got) {
    int whole = 0;
    size_t at = 0, have = peer->have + got;
    for (;;) {
        if (peer->body_left) {
            size_t part = have - at < peer->body_left ? have - at : peer->body_left;
            at += part, peer->body_left -= part;
            if (peer->body_left) break;
            whole++;
        }
        peer->head[have] = 0;
        char *end = memmem(peer->head + at, have - at, "\r\n\r\n", 4);
        if (!end) break;
        peer->body_left = body_length(peer->head + at, end);
        at = end + 4 - peer->head;
        if (!peer->body_left) whole++;
    }
    peer->have = have - at;
    memmove(peer->head, peer->head + at, peer->have);
    return peer->have >= HEAD_BYTES - 1 ? -1 : whole;
}

/* False: the peer has gone, or is none we can talk to. */
static bool serve(struct peer *peer) {
    ssize_t got = read(peer->fd, peer->head + peer->have, HEAD_BYTES - 1 - peer->have);
    if (got <= 0) return false;
    int whole = take_in(peer, (size_t)got);
    if (whole < 0) return false;
    while (whole-- && !peer->hangs)
        if (write(peer->fd, ANSWER, sizeof ANSWER - 1) < 0) return false;
    return true;
}

int main(void) {
    int epoll = epoll_create1(0);
    struct epoll_event events[EVENTS];
    watch(epoll, 0, STDIN, false);
    int fast = listen_anywhere(epoll, false), hang = listen_anywhere(epoll, true);
    printf("%d %d\n", fast, hang);
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer->kind == STDIN) return 0;
            if (peer->kind == LISTENER) {
                take_all(epoll, peer);
            } else if (!serve(peer)) {
                close(peer->fd);
                free(peer);
            }
        }
    }
}
