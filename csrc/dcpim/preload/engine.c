// SPDX-License-Identifier: BSD-2-Clause
/* The engine: opened with the first socket as the environment says, closed at exit. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "dcpim/preload/preload.h"
#include "dcpim/preload/settings.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rackwire_dcpim_engine *engine; /* atomic */
static struct settings settings;
static bool settings_read, told;
static int settings_error;
static bool exiting; /* atomic */
static pthread_t last_thread; /* the one that runs exit(), once exiting is set */

static void tell(const char *what)
{
	char line[SETTINGS_ERROR_LEN + 32];
	int n = snprintf(line, sizeof(line), "rackwire dcpim preload: %s\n", what);

	if (told)
		return;
	told = true;
	if (n > 0 && REAL(write)(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nobody to tell */
}

static int open_engine(void)
{
	char error[SETTINGS_ERROR_LEN] = "";
	int err;

	if (!settings_read) {
		settings_read = true;
		settings_error = settings_parse(&settings, error);
	}
	err = settings_error;
	if (!err)
		err = rackwire_dcpim_engine_open(&settings.config, &engine, error, sizeof(error));
	if (err)
		tell(error);
	return err;
}

int engine_get(struct rackwire_dcpim_engine **out)
{
	int err = 0;

	*out = __atomic_load_n(&engine, __ATOMIC_ACQUIRE);
	if (*out)
		return 0;
	pthread_mutex_lock(&lock);
	if (__atomic_load_n(&exiting, __ATOMIC_RELAXED))
		err = -ENETDOWN;
	else if (!engine)
		err = open_engine();
	*out = engine;
	pthread_mutex_unlock(&lock);
	return err;
}

void engine_check_exit(void)
{
	if (likely(!__atomic_load_n(&exiting, __ATOMIC_ACQUIRE)) || pthread_equal(pthread_self(), last_thread))
		return;
	for (;;)
		pause();
}

void engine_forget(void)
{
	pthread_mutex_init(&lock, NULL);
	engine = NULL;
}

/* Other threads are still inside: leave the engine alone, but give it time to deliver. */
static void let_drain(struct rackwire_dcpim_engine *last)
{
	struct rackwire_dcpim_stats stats = { .size = sizeof(stats) };
	struct timespec ms = { .tv_nsec = 1000000 };
	uint64_t deadline = deadline_after(settings.linger_ns);

	while (time_left(deadline) && !rackwire_dcpim_engine_stats(last, &stats) && stats.flows)
		nanosleep(&ms, NULL);
}

/* Handlers of atexit() run before destructors, so the program has sent all it will. */
__attribute__((destructor)) static void close_engine(void)
{
	struct rackwire_dcpim_engine *last;

	pthread_mutex_lock(&lock);
	last = engine;
	last_thread = pthread_self();
	__atomic_store_n(&exiting, true, __ATOMIC_SEQ_CST);
	__atomic_store_n(&engine, NULL, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&lock);
	if (!last)
		return;
	if (table_close_all())
		rackwire_dcpim_engine_close(last, settings.linger_ns);
	else if (settings.linger_ns)
		let_drain(last);
}
