#include <errno.h>
#include "provider.h"
static int p(char*e,size_t n){(void)e;(void)n;return -ENODEV;}
const struct rdma_provider rdma_verbs={.name="verbs",.probe=p};
