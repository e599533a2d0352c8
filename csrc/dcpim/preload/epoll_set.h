/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll_set.h: epoll on mixed sets. The kernel's epoll instance holds the
 * ordinary descriptors as the program gave them. dcPIM sockets are items of a
 * struct epoll_set beside it.
 *
 * Small sets are waited for in the engine, which looks at the sockets itself and
 * wakes one thread for an answer instead of two. Where that is not enough the
 * set is "armed": too many sockets, one that is in other sets as well, the set
 * itself in a poll(), a signal mask, or an edge that only an event can tell. Then
 * the kernel's instance also holds the engine's descriptor of each socket, which
 * says "ask rackwire_dcpim_poll()". Its data there is the address of the item,
 * in memory of which no program can hold a pointer, so that the kernel's answers
 * can be told apart.
 *
 * As in the kernel, items that may be ready are on a list of their set, and one
 * that is reported level-triggered stays on it until it is found not ready.
 */
#ifndef RACKWIRE_DCPIM_PRELOAD_EPOLL_SET_H
#define RACKWIRE_DCPIM_PRELOAD_EPOLL_SET_H

#include "dcpim/preload/preload.h"

#define MAX_DRIVEN 64 /* sockets the engine looks at itself; more go by their descriptors */
#define READ_BITS (EPOLLIN | EPOLLRDNORM | EPOLLRDBAND)
#define WRITE_BITS (EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)
#define POLL_BITS (READ_BITS | WRITE_BITS | EPOLLPRI | EPOLLRDHUP)
#define ALWAYS_BITS (EPOLLERR | EPOLLHUP)

struct epoll_item {
	struct epoll_set *set;
	struct dsock *dsock; /* NULL: the set's own descriptor */
	struct epoll_item *next, **link;	    /* in the set */
	struct epoll_item *next_same, **link_same;  /* of the socket */
	struct epoll_item *next_ready, *prev_ready; /* circular, NULL: not on the list */
	uint64_t data;
	uint32_t events;
	uint32_t told;	/* edge-triggered: what was reported and has not changed since */
	uint32_t send_refused, recv_refused; /* of the socket, when it was last looked at */
	int fd;		/* as the program knows it */
	int wake_fd;	/* in the kernel's instance; -1: none */
	bool own_wake_fd, edge, off;
};

struct epoll_set {
	struct handle handle;
	struct epoll_item *items;
	struct epoll_item *ready; /* the first of the circle; atomic */
	struct epoll_item *kick;
	uint32_t count;
	uint32_t waiters;
	int epfd;    /* ours, of the kernel's instance */
	int kick_fd; /* in that instance, readable to have waiters look at the ready list */
	bool kicked, watched, armed;
	bool sockets_first; /* whose turn it is when there is not room for all */
};

_Static_assert(sizeof(struct epoll_set) <= HANDLE_SIZE, "a handle must hold a set");

/* Of all sets and items; taken before the engine's locks. All functions here are called with it held. */
extern pthread_mutex_t epoll_lock;

/* The item that an answer of the kernel means, or NULL: the data is the program's. */
struct epoll_item *epoll_item_of(uint64_t data);
void epoll_ready_add(struct epoll_item *it);
/* What needs no telling again. What was used up since is news when it comes back. */
uint32_t epoll_still_told(const struct epoll_item *it);
/* What is ready of a socket now, without touching its descriptor. */
uint32_t epoll_ready_now(const struct dsock *d, uint32_t events);
/* Look at the list of what may be ready. Return: how many events were put into @events. */
int epoll_collect(struct epoll_set *set, struct epoll_event *events, int most);
/* From now on the descriptors count. */
void epoll_set_arm(struct epoll_set *set);

#endif
