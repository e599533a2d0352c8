/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tap.h: C tests that tests/run.ts understands. A test is a function that uses
 * TAP_CHECK and TAP_SKIP; the first check that fails ends it.
 *
 *	static void ring__wraps_around(void)
 *	{
 *		TAP_CHECK(ring_push(&ring, 1) == 0);
 *	}
 *
 *	int main(int argc, char **argv)
 *	{
 *		static const struct tap_test tests[] = {
 *			TAP_TEST(ring__wraps_around),
 *		};
 *		return TAP_RUN(tests, argc, argv);
 *	}
 *
 * Run with words as arguments, a program runs the tests whose names contain one.
 */
#ifndef RACKWIRE_TESTS_TAP_H
#define RACKWIRE_TESTS_TAP_H

#include <stdio.h>
#include <string.h>

struct tap_test {
	const char *name;
	void (*run)(void);
};

static const char *tap_failed;
static int tap_failed_line;
static const char *tap_skipped;

#define TAP_TEST(function) { #function, function }

#define TAP_CHECK(condition)					\
	do {							\
		if (!(condition)) {				\
			tap_failed = #condition;		\
			tap_failed_line = __LINE__;		\
			return;					\
		}						\
	} while (0)

#define TAP_SKIP(reason)					\
	do {							\
		tap_skipped = (reason);				\
		return;						\
	} while (0)

#define TAP_RUN(tests, argc, argv) \
	tap_run(tests, sizeof(tests) / sizeof((tests)[0]), argc, argv)

static inline int tap_wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (strstr(name, argv[i]))
			return 1;
	return argc < 2;
}

static inline int tap_run(const struct tap_test *tests, size_t count, int argc,
			  char **argv)
{
	int number = 0, failures = 0;
	size_t i;

	for (i = 0; i < count; i++) {
		if (!tap_wanted(tests[i].name, argc, argv))
			continue;
		tap_failed = NULL;
		tap_skipped = NULL;
		tests[i].run();
		number++;
		if (tap_failed) {
			failures++;
			printf("not ok %d - %s # line %d: %s\n", number,
			       tests[i].name, tap_failed_line, tap_failed);
		} else if (tap_skipped) {
			printf("ok %d - %s # SKIP %s\n", number, tests[i].name,
			       tap_skipped);
		} else {
			printf("ok %d - %s\n", number, tests[i].name);
		}
		fflush(stdout);
	}
	printf("1..%d\n", number);
	return failures != 0;
}

#endif
