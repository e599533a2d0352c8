/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ping_data.h: the contents of a ping as rping and krping make them:
 * "rdma-ping-N: ", then the characters 65..122 in a circle that begins one
 * further with each ping, and a zero as the last byte. Where it is too short
 * for the beginning, that is cut off.
 */
#ifndef RACKWIRE_KRPING_PING_DATA_H
#define RACKWIRE_KRPING_PING_DATA_H

#include <stdbool.h>
#include <stdint.h>

void ping_data_fill(uint8_t *out, uint32_t length, uint64_t number);

/* Bytes before the first zero, plus that zero; @length where there is none. Never looks beyond. */
uint32_t ping_data_string(const uint8_t *data, uint32_t length);

/* Bytes in which two buffers differ. */
uint64_t ping_data_differ(const uint8_t *a, const uint8_t *b, uint32_t length);

#endif
