/* sha256.h: the digest SHA-256 (FIPS 180-4); see sha256.c. */
#ifndef PYMLP_SHA256_H
#define PYMLP_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct pymlp_sha256 {
    uint32_t state[8];
    uint64_t bytes; /* taken in so far */
    uint8_t rest[64];
};

void pymlp_sha256_begin(struct pymlp_sha256 *digest);
void pymlp_sha256_add(struct pymlp_sha256 *digest, const void *bytes, size_t count);
/* Ends the digest and writes it as 64 lower-case hexadecimal digits, without an end of the text. */
void pymlp_sha256_end(struct pymlp_sha256 *digest, char digits[64]);

#endif
