// SPDX-License-Identifier: BSD-2-Clause
/* CM datagrams: layout, refusals, round trips; the header of rdma_cm in a REQ's private data. */
#include "fields.h"
#include "tap.h"

#define ROUND_TRIPS 100000

static struct random seed;

static int decode_copy(const u8 *bytes, u32 len, struct roce_cm *cm)
{
	u8 *copy = copy_of(bytes, len);
	int err;

	memset(cm, 0xa5, sizeof(*cm));
	err = roce_cm_decode(cm, copy, len);
	if (!err) {
		/* Both must lie in the copy; the caller's bytes outlive it. */
		cm->priv = bytes + (cm->priv - copy);
		if (cm->type == ROCE_CM_REJ)
			cm->u.rej.ari = bytes + (cm->u.rej.ari - copy);
	}
	free_copy(copy);
	return err;
}

static u16 some_type(void)
{
	return (u16)(ROCE_CM_REQ + below(&seed, 7));
}

static void encode__fills_all_256_bytes(void)
{
	u8 priv[ROCE_MAD_LEN], a[ROCE_MAD_LEN], b[ROCE_MAD_LEN];

	for (u16 type = ROCE_CM_REQ; type <= ROCE_CM_DREP; type++) {
		struct roce_cm cm;

		some_message(&seed, type, &cm, priv);
		memset(a, 0x00, sizeof(a));
		memset(b, 0xff, sizeof(b));
		TAP_CHECK(roce_cm_encode(a, &cm) == 0 && roce_cm_encode(b, &cm) == 0);
		TAP_CHECK(!memcmp(a, b, sizeof(a)));
		TAP_CHECK(!memcmp(a, "\x01\x07\x02\x03", 4));
		TAP_CHECK(roce_get16(a + 6) == 0 && roce_get16(a + 18) == 0 && roce_get32(a + 20) == 0);
	}
}

/* Where private data begins and ends, after the tables of IBTA 12.6. */
static void encode__puts_private_data_behind_the_fields(void)
{
	static const struct {
		u16 type;
		const char *name;
		u32 at, room;
	} wanted[] = {
		{ 0x10, "REQ", 140, 92 },  { 0x11, "MRA", 10, 222 },  { 0x12, "REJ", 84, 148 }, { 0x13, "REP", 36, 196 },
		{ 0x14, "RTU", 8, 224 },  { 0x15, "DREQ", 12, 220 }, { 0x16, "DREP", 8, 224 },
	};

	for (u32 i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		u8 priv[ROCE_MAD_LEN], mad[ROCE_MAD_LEN];
		u32 at = ROCE_MAD_HDR_LEN + wanted[i].at;
		struct roce_cm cm;

		TAP_CHECK(!strcmp(roce_cm_name(wanted[i].type), wanted[i].name));
		TAP_CHECK(roce_cm_priv_max(wanted[i].type) == wanted[i].room);
		TAP_CHECK(at + wanted[i].room == ROCE_MAD_LEN);
		some_message(&seed, wanted[i].type, &cm, priv);
		for (u32 len = 0; len <= wanted[i].room; len++) {
			cm.priv_len = len;
			cm.priv = len ? priv : NULL;
			TAP_CHECK(roce_cm_encode(mad, &cm) == 0);
			TAP_CHECK(!memcmp(mad + at, priv, len));
			for (u32 rest = at + len; rest < ROCE_MAD_LEN; rest++)
				TAP_CHECK(mad[rest] == 0);
		}
		cm.priv_len = wanted[i].room + 1;
		TAP_CHECK(roce_cm_encode(mad, &cm) == -EINVAL);
	}
}

static void encode__refuses_what_it_does_not_know(void)
{
	u8 priv[ROCE_MAD_LEN], mad[ROCE_MAD_LEN];
	struct roce_cm cm;

	some_message(&seed, ROCE_CM_REJ, &cm, priv);
	cm.u.rej.ari_len = ROCE_CM_REJ_ARI + 1;
	TAP_CHECK(roce_cm_encode(mad, &cm) == -EINVAL);
	for (u32 type = 0; type < 0x10000; type++) {
		if (type >= ROCE_CM_REQ && type <= ROCE_CM_DREP)
			continue;
		cm = (struct roce_cm){ .type = (u16)type };
		TAP_CHECK(roce_cm_encode(mad, &cm) == -EINVAL);
		TAP_CHECK(roce_cm_priv_max((u16)type) == 0 && !strcmp(roce_cm_name((u16)type), "?"));
	}
}

static void decode__gives_back_what_was_encoded(void)
{
	u8 priv[ROCE_MAD_LEN], mad[ROCE_MAD_LEN];

	for (u32 round = 0; round < ROUND_TRIPS; round++) {
		struct roce_cm cm, again;
		const char *differs;

		some_message(&seed, some_type(), &cm, priv);
		TAP_CHECK(roce_cm_encode(mad, &cm) == 0);
		TAP_CHECK(decode_copy(mad, sizeof(mad), &again) == 0);
		differs = message_difference(&cm, &again);
		if (differs)
			printf("# %s: %s\n", roce_cm_name(cm.type), differs);
		TAP_CHECK(!differs);
	}
}

static void encode__drops_bits_that_do_not_fit(void)
{
	for (u16 type = ROCE_CM_REQ; type <= ROCE_CM_DREP; type++) {
		struct fields fields = cm_fields(type);
		u8 a[ROCE_MAD_LEN], b[ROCE_MAD_LEN];
		struct roce_cm wide, narrow;

		memset(&wide, 0, sizeof(wide));
		wide.type = type;
		for (const struct field *f = fields.list; f < fields.list + fields.count; f++)
			if (f->size <= 8 && f->width > 1)
				field_set(f, &wide.u, ~(u64)0);
		if (type == ROCE_CM_REJ) /* refused, not cut */
			wide.u.rej.ari_len = 0;
		narrow = wide;
		for (const struct field *f = fields.list; f < fields.list + fields.count; f++)
			if (f->size <= 8)
				field_set(f, &narrow.u, field_get(f, &wide.u) & ~(u64)0 >> (64 - f->width));
		TAP_CHECK(roce_cm_encode(a, &wide) == 0 && roce_cm_encode(b, &narrow) == 0);
		TAP_CHECK(!memcmp(a, b, sizeof(a)));
	}
}

static void decode__refuses_other_datagrams(void)
{
	u8 priv[ROCE_MAD_LEN], good[ROCE_MAD_LEN], mad[ROCE_MAD_LEN + 8] = { 0 };
	struct roce_cm cm;

	some_message(&seed, some_type(), &cm, priv);
	TAP_CHECK(roce_cm_encode(good, &cm) == 0);
	memcpy(mad, good, sizeof(good));
	for (u32 len = 0; len <= sizeof(mad); len++)
		TAP_CHECK(decode_copy(mad, len, &cm) == (len == ROCE_MAD_LEN ? 0 : -EMSGSIZE));
	for (u32 at = 0; at < 4; at++)
		for (u32 value = 0; value < 256; value++) {
			memcpy(mad, good, sizeof(good));
			mad[at] = (u8)value;
			TAP_CHECK(decode_copy(mad, ROCE_MAD_LEN, &cm) == (value == good[at] ? 0 : -EPROTONOSUPPORT));
		}
	memset(mad + 24, 0, ROCE_MAD_LEN - 24);
	for (u32 type = 0; type < 0x10000; type++) {
		bool known = type >= ROCE_CM_REQ && type <= ROCE_CM_DREP;

		memcpy(mad, good, 24);
		roce_put16(mad + 16, (u16)type);
		TAP_CHECK(decode_copy(mad, ROCE_MAD_LEN, &cm) == (known ? 0 : -EPROTONOSUPPORT));
	}
}

static void decode__refuses_more_rejection_information_than_fits(void)
{
	u8 mad[ROCE_MAD_LEN];
	struct roce_cm cm = { .type = ROCE_CM_REJ };

	TAP_CHECK(roce_cm_encode(mad, &cm) == 0);
	for (u32 len = 0; len < 128; len++) {
		mad[ROCE_MAD_HDR_LEN + 9] = (u8)(len << 1 | (len & 1));
		TAP_CHECK(decode_copy(mad, sizeof(mad), &cm) == (len <= ROCE_CM_REJ_ARI ? 0 : -EBADMSG));
		TAP_CHECK(len > ROCE_CM_REJ_ARI || cm.u.rej.ari_len == len);
	}
}

static void reasons__have_words(void)
{
	for (u32 reason = 0; reason < 0x10000; reason++)
		TAP_CHECK(strlen(roce_cm_reason_name((u16)reason)) > 4);
	TAP_CHECK(strcmp(roce_cm_reason_name(28), roce_cm_reason_name(8)));
}

static void service_id__carries_the_port(void)
{
	TAP_CHECK(roce_service_id(ROCE_PS_TCP, 0x1234) == 0x0000000001061234);
	TAP_CHECK(roce_service_port(0x0000000001061234) == 0x1234);
	TAP_CHECK(roce_service_port(0x0000000001060000) == 0);
	TAP_CHECK(roce_service_port(0x000000000106ffff) == 0xffff);
	TAP_CHECK(roce_service_port(0x0000000001111234) == -EPROTONOSUPPORT); /* RDMA_PS_UDP */
	TAP_CHECK(roce_service_port(0x0100000001061234) == -EPROTONOSUPPORT);
	TAP_CHECK(roce_service_port(0x1234) == -EPROTONOSUPPORT);
}

static void cma__lays_out_both_families(void)
{
	static const u8 v4[ROCE_CMA_LEN] = {
		0x00, 0x40, 0xd9, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 9, 0, 3,
		0,    0,    0,	  0,	0, 0, 0, 0, 0, 0, 0, 0, 10, 9, 0, 2,
	};
	static const u8 v6[ROCE_CMA_LEN] = {
		0x00, 0x60, 0x00, 0x07, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
		0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,	  0,	0, 0, 0, 0, 0, 0, 0, 2,
	};
	struct roce_cma cma = { .ip_version = 4, .port = 0xd9bf,
				.src = { [10] = 0xff, 0xff, 10, 9, 0, 3 }, .dst = { [10] = 0xff, 0xff, 10, 9, 0, 2 } };
	struct roce_cma again;
	u8 bytes[ROCE_CMA_LEN];

	roce_cma_encode(bytes, &cma);
	TAP_CHECK(!memcmp(bytes, v4, sizeof(v4)));
	memset(&again, 0xa5, sizeof(again));
	TAP_CHECK(roce_cma_decode(&again, v4, sizeof(v4)) == 0);
	TAP_CHECK(again.ip_version == 4 && !fields_difference(cma_fields(), &cma, &again));

	cma = (struct roce_cma){ .ip_version = 6, .port = 7, .src = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1 },
				 .dst = { 0x20, 0x01, 0x0d, 0xb8, [15] = 2 } };
	roce_cma_encode(bytes, &cma);
	TAP_CHECK(!memcmp(bytes, v6, sizeof(v6)));
	TAP_CHECK(roce_cma_decode(&again, v6, sizeof(v6)) == 0);
	TAP_CHECK(again.ip_version == 6 && !fields_difference(cma_fields(), &cma, &again));
}

static void cma__refuses_other_versions(void)
{
	u8 bytes[ROCE_CMA_LEN] = { 0x00, 0x40 };
	struct roce_cma cma;

	for (u32 len = 0; len <= sizeof(bytes); len++) {
		u8 *copy = copy_of(bytes, len);

		TAP_CHECK(roce_cma_decode(&cma, copy, len) == (len < ROCE_CMA_LEN ? -EMSGSIZE : 0));
		free_copy(copy);
	}
	for (u32 version = 0; version < 16; version++) {
		bytes[1] = (u8)(version << 4);
		TAP_CHECK(roce_cma_decode(&cma, bytes, sizeof(bytes)) == (version == 4 || version == 6 ? 0 : -EBADMSG));
	}
	bytes[1] = 0x40;
	bytes[0] = 0x0f; /* a minor version adds, a major one changes */
	TAP_CHECK(roce_cma_decode(&cma, bytes, sizeof(bytes)) == 0 && cma.minor == 15);
	bytes[0] = 0x10;
	TAP_CHECK(roce_cma_decode(&cma, bytes, sizeof(bytes)) == -EPROTONOSUPPORT);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TAP_TEST(encode__fills_all_256_bytes),
		TAP_TEST(encode__puts_private_data_behind_the_fields),
		TAP_TEST(encode__refuses_what_it_does_not_know),
		TAP_TEST(encode__drops_bits_that_do_not_fit),
		TAP_TEST(decode__gives_back_what_was_encoded),
		TAP_TEST(decode__refuses_other_datagrams),
		TAP_TEST(decode__refuses_more_rejection_information_than_fits),
		TAP_TEST(reasons__have_words),
		TAP_TEST(service_id__carries_the_port),
		TAP_TEST(cma__lays_out_both_families),
		TAP_TEST(cma__refuses_other_versions),
	};

	seed.state = seed_of_run();
	return TAP_RUN(tests, argc, argv);
}
