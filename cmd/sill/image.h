/* What an image that stands alone on the command line of `sill run` is for. */
#ifndef SILL_CMD_IMAGE_H
#define SILL_CMD_IMAGE_H

enum image_drive {
    IMAGE_DISK, /* also what cannot be recognized */
    IMAGE_CDROM,
    IMAGE_FLOPPY,
    IMAGE_KERNEL, /* no drive's, but --kernel's */
};

/* One of these, or the negative errno with which it cannot be opened. */
int image_drive(const char *path);

#endif
