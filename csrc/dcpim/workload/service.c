// SPDX-License-Identifier: BSD-2-Clause
#include "service.h"

#define VERSION 1

/* "RWSH", "RWSW", "RWSR", "RWSD": each kind of header has its own first word. */
#define MAGIC_HELLO 0x52575348u
#define MAGIC_WELCOME 0x52575357u
#define MAGIC_REPORT 0x52575352u
#define MAGIC_DATAGRAM 0x52575344u

/* The eight bytes that all have in common. */
static void put_head(u8 *out, size_t len, u32 magic, u8 what, u16 flags)
{
	memset(out, 0, len);
	dcpim_put32(out, magic);
	out[4] = VERSION;
	out[5] = what;
	dcpim_put16(out + 6, flags);
}

static int get_head(const u8 *in, size_t len, size_t want, u32 magic, u16 flags)
{
	if (len < want || dcpim_get32(in) != magic || in[4] != VERSION || dcpim_get16(in + 6) & ~flags)
		return -EPROTO;
	return 0;
}

static bool all_zero(const u8 *in, size_t len)
{
	while (len)
		if (in[--len])
			return false;
	return true;
}

void service_hello_put(u8 *out, const struct service_hello *h)
{
	put_head(out, SERVICE_HELLO_LEN, MAGIC_HELLO, h->service, h->flags);
	dcpim_put64(out + 8, h->seed);
	dcpim_put32(out + 16, h->length);
}

int service_hello_get(const u8 *in, size_t len, struct service_hello *h)
{
	if (get_head(in, len, SERVICE_HELLO_LEN, MAGIC_HELLO, SERVICE_PATTERN | SERVICE_CHECK))
		return -EPROTO;
	h->service = in[5];
	h->flags = dcpim_get16(in + 6);
	h->seed = dcpim_get64(in + 8);
	h->length = dcpim_get32(in + 16);
	if (h->service < RACKWIRE_DCPIM_WORK_SERVICE_ECHO || h->service > RACKWIRE_DCPIM_WORK_SERVICE_SOURCE ||
	    !h->length || h->length > RACKWIRE_DCPIM_WORK_MAX_LENGTH || !all_zero(in + 20, 12))
		return -EPROTO;
	if ((h->flags & SERVICE_CHECK) && !(h->flags & SERVICE_PATTERN))
		return -EPROTO;
	return 0;
}

void service_welcome_put(u8 *out, const struct service_welcome *w)
{
	put_head(out, SERVICE_WELCOME_LEN, MAGIC_WELCOME, w->status, w->flags);
}

int service_welcome_get(const u8 *in, size_t len, struct service_welcome *w)
{
	if (get_head(in, len, SERVICE_WELCOME_LEN, MAGIC_WELCOME, SERVICE_CHECK) || !all_zero(in + 8, 24))
		return -EPROTO;
	w->status = in[5];
	w->flags = dcpim_get16(in + 6);
	return w->status <= SERVICE_FULL ? 0 : -EPROTO;
}

void service_report_put(u8 *out, const struct service_report *r)
{
	put_head(out, SERVICE_REPORT_LEN, MAGIC_REPORT, 0, 0);
	dcpim_put64(out + 8, r->bytes);
	dcpim_put64(out + 16, r->requests);
	dcpim_put64(out + 24, r->verified);
	dcpim_put64(out + 32, r->corrupt);
	dcpim_put64(out + 40, r->corrupt_at);
	dcpim_put64(out + 48, r->thread);
	dcpim_put64(out + 56, r->cpu_from);
	dcpim_put64(out + 64, r->cpu_to);
}

int service_report_get(const u8 *in, size_t len, struct service_report *r)
{
	if (get_head(in, len, SERVICE_REPORT_LEN, MAGIC_REPORT, 0) || in[5])
		return -EPROTO;
	r->bytes = dcpim_get64(in + 8);
	r->requests = dcpim_get64(in + 16);
	r->verified = dcpim_get64(in + 24);
	r->corrupt = dcpim_get64(in + 32);
	r->corrupt_at = dcpim_get64(in + 40);
	r->thread = dcpim_get64(in + 48);
	r->cpu_from = dcpim_get64(in + 56);
	r->cpu_to = dcpim_get64(in + 64);
	return r->cpu_to >= r->cpu_from ? 0 : -EPROTO;
}

void service_datagram_put(u8 *out, const struct service_datagram *d)
{
	put_head(out, SERVICE_DATAGRAM_LEN, MAGIC_DATAGRAM, d->type, d->flags);
	dcpim_put64(out + 8, d->session);
	dcpim_put64(out + 16, d->number);
}

int service_datagram_get(const u8 *in, size_t len, struct service_datagram *d)
{
	if (get_head(in, len, SERVICE_DATAGRAM_LEN, MAGIC_DATAGRAM, SERVICE_CHECK))
		return -EPROTO;
	d->type = in[5];
	d->flags = dcpim_get16(in + 6);
	d->session = dcpim_get64(in + 8);
	d->number = dcpim_get64(in + 16);
	return d->type >= SERVICE_PING && d->type <= SERVICE_REPORT ? 0 : -EPROTO;
}
