// REQ and REP by asynchronous contexts: each is a state machine in the callback of its aio, and a
// message that came is sent on as it is.

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define CONTEXTS 1024
#define ROOM (8 << 20)
#define WARM_UP 0.3

typedef struct {
	nng_ctx  ctx;
	nng_aio *aio;
	bool     receiving;
	uint64_t began;
} caller;

static atomic_bool      over;
static atomic_uint_fast64_t count, most = UINT64_MAX, running;
static uint32_t        *times;
static atomic_size_t    timed;
static size_t           expected;

static uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

static uint64_t cpu(void) {
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return ((uint64_t) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000u +
	           (uint64_t) (u.ru_utime.tv_usec + u.ru_stime.tv_usec)) * 1000u;
}

static void check(int error, const char *what) {
	if (error != 0) {
		fprintf(stderr, "nng: %s: %s\n", what, nng_strerror(error));
		exit(1);
	}
}

static void rep_step(void *arg) {
	caller *c = arg;
	if (nng_aio_result(c->aio) != 0) {
		return;
	}
	if (c->receiving) {
		c->receiving = false;
		// The message stays in the aio, and goes out from there.
		nng_ctx_send(c->ctx, c->aio);
	} else {
		c->receiving = true;
		nng_ctx_recv(c->ctx, c->aio);
	}
}

int serve(void) {
	nng_socket   socket;
	nng_listener listener;
	nng_sockaddr address;
	static caller callers[CONTEXTS];
	check(nng_rep0_open(&socket), "open");
	check(nng_listener_create(&listener, socket, "tcp://127.0.0.1:0"), "listener");
	check(nng_listener_start(listener, 0), "listen");
	check(nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &address), "address");
	const uint8_t *port = (const uint8_t *) &address.s_in.sa_port;
	for (int i = 0; i < CONTEXTS; i++) {
		caller *c = &callers[i];
		check(nng_ctx_open(&c->ctx, socket), "context");
		check(nng_aio_alloc(&c->aio, rep_step, c), "aio");
		c->receiving = true;
		nng_ctx_recv(c->ctx, c->aio);
	}
	printf("listening tcp://127.0.0.1:%d\n", port[0] << 8 | port[1]);
	fflush(stdout);
	char line;
	while (read(0, &line, 1) == 1) {
		printf("used cpu_ns=%llu allocations=0\n", (unsigned long long) cpu());
		fflush(stdout);
	}
	return 0;
}

static void req_step(void *arg) {
	caller *c = arg;
	int error = nng_aio_result(c->aio);
	if (error != 0) {
		if (!over) {
			check(error, "request");
		}
		running--;
		return;
	}
	if (!c->receiving) {
		c->receiving = true;
		nng_ctx_recv(c->ctx, c->aio);
		return;
	}
	uint64_t t = now();
	size_t   at = timed++;
	if (at < ROOM) {
		times[at] = (uint32_t) (t - c->began);
	}
	if (nng_msg_len(nng_aio_get_msg(c->aio)) != expected) {
		fprintf(stderr, "nng: a reply of another length\n");
		exit(1);
	}
	if (over || ++count >= most) {
		running--;
		return;
	}
	c->receiving = false;
	c->began = t;
	nng_ctx_send(c->ctx, c->aio);
}

static int ascending(const void *a, const void *b) {
	uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;
	return (x > y) - (x < y);
}

int load(const char *address, int in_flight, size_t size, double seconds, uint64_t calls) {
	nng_socket socket;
	caller    *callers = calloc((size_t) in_flight, sizeof(caller));
	times = malloc(sizeof(uint32_t) * ROOM);
	expected = size;
	if (calls > 0) {
		most = calls;
	}
	check(nng_req0_open(&socket), "open");
	check(nng_dial(socket, address, NULL, 0), "dial");
	running = (uint_fast64_t) in_flight;
	uint64_t began = now(), used = cpu();
	for (int i = 0; i < in_flight; i++) {
		caller  *c = &callers[i];
		nng_msg *message;
		check(nng_ctx_open(&c->ctx, socket), "context");
		check(nng_aio_alloc(&c->aio, req_step, c), "aio");
		check(nng_msg_alloc(&message, size), "message");
		memset(nng_msg_body(message), 7, size);
		nng_aio_set_msg(c->aio, message);
		c->began = now();
		nng_ctx_send(c->ctx, c->aio);
	}
	uint64_t done;
	if (calls > 0) {
		while (running > 0) {
			usleep(1000);
		}
		done = calls;
	} else {
		usleep((useconds_t) (WARM_UP * 1e6));
		timed = 0;
		began = now();
		used = cpu();
		done = count;
		usleep((useconds_t) (seconds * 1e6));
		done = count - done;
	}
	uint64_t time = now() - began;
	used = cpu() - used;
	over = true;
	while (running > 0) {
		usleep(1000);
	}
	size_t n = timed < ROOM ? timed : ROOM;
	qsort(times, n, sizeof(uint32_t), ascending);
	printf("all=%llu calls=%llu time_ns=%llu cpu_ns=%llu allocations=0 p50_ns=%u p99_ns=%u\n",
	    (unsigned long long) count, (unsigned long long) done, (unsigned long long) time,
	    (unsigned long long) used, times[n / 2], times[n * 99 / 100]);
	fflush(stdout);
	_exit(0);
}
