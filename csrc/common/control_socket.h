/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control_socket.h: a private unix socket that answers "stat" with a JSON
 * document. It has a thread of its own, so that a slow or hostile client delays
 * nothing but other clients, and those only for a second.
 */
#ifndef RACKWIRE_COMMON_CONTROL_SOCKET_H
#define RACKWIRE_COMMON_CONTROL_SOCKET_H

#include <stddef.h>
#include <sys/types.h>

struct rackwire_control;

/* Writes the document into memory from malloc. On the socket's thread. Return: its length or -errno. */
typedef ssize_t (*rackwire_control_answer)(void *context, char **out);

/*
 * rackwire_control_open() - DIRECTORY/PREFIX-PID.sock, with a number behind the PID where that is taken.
 * @prefix:    what the files of this service start with: "krping"
 * @directory: made if missing, must be the user's own; NULL or empty: RACKWIRE_RUNTIME_DIR, /run/rackwire,
 *             XDG_RUNTIME_DIR/rackwire or /tmp/rackwire-UID
 * @answer:    called with @context until rackwire_control_close()
 * Sockets that killed processes left there are removed.
 * Return: 0; -EPERM (others can look into or write to the directory); -ENAMETOOLONG; -EADDRINUSE; -ENOMEM; ...
 */
int rackwire_control_open(const char *prefix, const char *directory, rackwire_control_answer answer, void *context,
			  struct rackwire_control **out);
const char *rackwire_control_path(const struct rackwire_control *control);
void rackwire_control_close(struct rackwire_control *control); /* NULL is harmless */

#endif
