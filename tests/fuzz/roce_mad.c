// SPDX-License-Identifier: BSD-2-Clause
/*
 * Any bytes into roce_cm_decode() and roce_cma_decode(): they read only what they
 * were given, and encoding what they let through and decoding that again gives
 * the same, in one spelling.
 */
#include <stdlib.h>

#include "roce/core/roce_mad.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static bool inside(const u8 *part, u32 part_len, const u8 *mad)
{
	return part >= mad && part + part_len <= mad + ROCE_MAD_LEN;
}

static void try_cma(const u8 *priv, u32 len)
{
	struct roce_cma cma;
	u8 once[ROCE_CMA_LEN], twice[ROCE_CMA_LEN];
	int err = roce_cma_decode(&cma, priv, len);

	expect(err == 0 || err == -EMSGSIZE || err == -EPROTONOSUPPORT || err == -EBADMSG);
	if (err)
		return;
	expect(cma.ip_version == 4 || cma.ip_version == 6);
	roce_cma_encode(once, &cma);
	expect(!memcmp(once + 2, priv + 2, 2) && !memcmp(once + 16, priv + 16, 4) && !memcmp(once + 32, priv + 32, 4));
	expect(roce_cma_decode(&cma, once, sizeof(once)) == 0);
	roce_cma_encode(twice, &cma);
	expect(!memcmp(once, twice, sizeof(once)));
}

static void try_mad(const u8 *mad, u32 len)
{
	u8 once[ROCE_MAD_LEN], twice[ROCE_MAD_LEN];
	struct roce_cm cm, again;
	int err;

	memset(&cm, 0xa5, sizeof(cm));
	err = roce_cm_decode(&cm, mad, len);
	expect(err == 0 || err == -EMSGSIZE || err == -EPROTONOSUPPORT || err == -EBADMSG);
	if (err)
		return;
	expect(len == ROCE_MAD_LEN && cm.type == roce_get16(mad + 16) && roce_cm_name(cm.type)[0] != '?');
	expect(cm.priv_len == roce_cm_priv_max(cm.type) && inside(cm.priv, cm.priv_len, mad));
	if (cm.type == ROCE_CM_REJ)
		expect(cm.u.rej.ari_len <= ROCE_CM_REJ_ARI && inside(cm.u.rej.ari, cm.u.rej.ari_len, mad));
	if (cm.type == ROCE_CM_REQ)
		try_cma(cm.priv, cm.priv_len);

	expect(roce_cm_encode(once, &cm) == 0);
	expect(roce_cm_decode(&again, once, sizeof(once)) == 0);
	expect(again.type == cm.type && again.status == cm.status && again.tid == cm.tid);
	expect(again.priv_len == cm.priv_len && !memcmp(again.priv, cm.priv, cm.priv_len));
	/* Pointers apart, the same in every byte: both began as zeros. */
	if (cm.type == ROCE_CM_REJ) {
		expect(!memcmp(again.u.rej.ari, cm.u.rej.ari, cm.u.rej.ari_len));
		again.u.rej.ari = cm.u.rej.ari;
	}
	expect(!memcmp(&again.u, &cm.u, sizeof(cm.u)));
	expect(roce_cm_encode(twice, &cm) == 0 && !memcmp(once, twice, sizeof(once)));
}

static void try_copy(const u8 *data, size_t size)
{
	/* An exact copy, so that one read too far is seen. */
	u8 *copy = malloc(size + 1);

	expect(copy != NULL);
	if (size)
		memcpy(copy + 1, data, size);
	try_mad(copy + 1, (u32)size);
	try_cma(copy + 1, (u32)size);
	free(copy);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	u8 fixed[ROCE_MAD_LEN] = { 0 };

	if (size > 2 * ROCE_MAD_LEN)
		return -1;
	try_copy(data, size);
	if (!size)
		return 0;

	/* The same as a whole datagram of the right class, or little would ever get past the header. */
	memcpy(fixed, data, size < sizeof(fixed) ? size : sizeof(fixed));
	memcpy(fixed, "\x01\x07\x02\x03", 4);
	roce_put16(fixed + 16, (u16)(ROCE_CM_REQ + data[0] % 7));
	try_copy(fixed, sizeof(fixed));
	return 0;
}
