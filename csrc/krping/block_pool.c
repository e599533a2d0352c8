// SPDX-License-Identifier: BSD-2-Clause
/* Threads that do what would keep the exporter's loop waiting. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "block_store.h"

struct block_pool {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct block_job *first, **last; /* to do, oldest first */
	struct block_job *finished;
	void (*done)(void *context);
	void *context;
	bool closing;
	uint32_t count;
	pthread_t threads[];
};

static void *pool_main(void *arg)
{
	struct block_pool *p = arg;
	struct block_job *job;
	bool tell;

	pthread_setname_np(pthread_self(), "block");
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->first && !p->closing)
			pthread_cond_wait(&p->work, &p->lock);
		if (p->closing)
			break;
		job = p->first;
		p->first = job->next;
		if (!p->first)
			p->last = &p->first;
		pthread_mutex_unlock(&p->lock);
		job->status = block_store_do(job->store, job->op, job->flags, job->offset, job->length, job->data);
		pthread_mutex_lock(&p->lock);
		tell = !p->finished;
		job->next = p->finished;
		p->finished = job;
		if (tell) {
			pthread_mutex_unlock(&p->lock);
			p->done(p->context);
			pthread_mutex_lock(&p->lock);
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int block_pool_open(uint32_t threads, void (*done)(void *context), void *context, struct block_pool **out)
{
	struct block_pool *p = calloc(1, sizeof(*p) + threads * sizeof(p->threads[0]));
	sigset_t all, old;
	int err = 0;

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	p->last = &p->first;
	p->done = done;
	p->context = context;
	/* Signals are the application's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (p->count < threads && !err) {
		err = -pthread_create(&p->threads[p->count], NULL, pool_main, p);
		p->count += !err;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		block_pool_close(p);
		return err;
	}
	*out = p;
	return 0;
}

void block_pool_close(struct block_pool *p)
{
	uint32_t i;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (i = 0; i < p->count; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void block_pool_submit(struct block_pool *p, struct block_job *job)
{
	job->next = NULL;
	pthread_mutex_lock(&p->lock);
	*p->last = job;
	p->last = &job->next;
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

struct block_job *block_pool_collect(struct block_pool *p)
{
	struct block_job *jobs;

	if (!__atomic_load_n(&p->finished, __ATOMIC_RELAXED))
		return NULL;
	pthread_mutex_lock(&p->lock);
	jobs = p->finished;
	p->finished = NULL;
	pthread_mutex_unlock(&p->lock);
	return jobs;
}
