/* Certificates for one run, by GnuTLS; see certificate.h. RFC 5280. */
#include "vm/vnc/certificate.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEY_BITS 2048
#define PEM_MAX 8192
#define VALID_SECONDS (365 * 24 * 3600)
#define SERIAL_BYTES 16

static int write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wxe");

    if (!file)
        return -errno;
    size_t written = fwrite(data, 1, size, file);
    if (fclose(file) || written != size)
        return -EIO;
    return 0;
}

static int fill(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
    static const char name[] = "Sill";
    uint8_t serial[SERIAL_BYTES];
    int result = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));

    serial[0] &= 0x7f; /* a positive number */
    if (!result)
        result = gnutls_x509_privkey_generate(key, GNUTLS_PK_RSA, KEY_BITS, 0);
    if (!result)
        result = gnutls_x509_crt_set_version(crt, 3);
    if (!result)
        result = gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
    if (!result)
        result = gnutls_x509_crt_set_activation_time(crt, time(NULL) - 3600);
    if (!result)
        result = gnutls_x509_crt_set_expiration_time(crt, time(NULL) + VALID_SECONDS);
    if (!result)
        result = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                               sizeof(name) - 1);
    if (!result)
        result = gnutls_x509_crt_set_key(crt, key);
    if (!result)
        result = gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    return result;
}

static int export(const struct certificate *certificate, gnutls_x509_crt_t crt,
                  gnutls_x509_privkey_t key)
{
    char pem[PEM_MAX];
    size_t size = sizeof(pem);

    if (gnutls_x509_privkey_export(key, GNUTLS_X509_FMT_PEM, pem, &size))
        return -EIO;
    int result = write_file(certificate->key, pem, size);
    gnutls_memset(pem, 0, sizeof(pem));
    size = sizeof(pem);
    if (!result && gnutls_x509_crt_export(crt, GNUTLS_X509_FMT_PEM, pem, &size))
        result = -EIO;
    return result ? result : write_file(certificate->certificate, pem, size);
}

int certificate_make(struct certificate *certificate, struct error *err)
{
    const char *folder = getenv("TMPDIR");
    gnutls_x509_crt_t crt = NULL;
    gnutls_x509_privkey_t key = NULL;
    int result = -ENOMEM;

    if (!folder || strlen(folder) > CERTIFICATE_PATH_MAX / 2)
        folder = "/tmp";
    snprintf(certificate->folder, sizeof(certificate->folder), "%s/sill-vnc.XXXXXX", folder);
    if (!mkdtemp(certificate->folder))
        return error_set(err, -errno, "no folder for a certificate in '%s': %s", folder,
                         strerror(errno));
    snprintf(certificate->key, sizeof(certificate->key), "%s/key", certificate->folder);
    snprintf(certificate->certificate, sizeof(certificate->certificate), "%s/crt",
             certificate->folder);
    if (!gnutls_x509_crt_init(&crt) && !gnutls_x509_privkey_init(&key))
        result = fill(crt, key) ? -EIO : export(certificate, crt, key);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    if (result) {
        certificate_remove(certificate);
        error_set(err, result, "no certificate for encrypted connections: %s", strerror(-result));
    }
    return result;
}

void certificate_remove(const struct certificate *certificate)
{
    unlink(certificate->key);
    unlink(certificate->certificate);
    rmdir(certificate->folder);
}
