/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clock.h: the one clock of the data planes, nanoseconds of CLOCK_MONOTONIC.
 * Protocol cores never call it; their drivers pass the time in.
 */
#ifndef RACKWIRE_COMMON_CLOCK_H
#define RACKWIRE_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

#define RACKWIRE_NS_PER_S 1000000000ULL

/* Nanoseconds since an arbitrary start; never goes back. Any thread. */
static inline uint64_t rackwire_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * RACKWIRE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Nanoseconds of CPU time the calling thread has used. */
static inline uint64_t rackwire_thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * RACKWIRE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

#endif
