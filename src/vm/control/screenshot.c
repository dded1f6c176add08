/* PNG files of the screen; see screenshot.h. */
#include "vm/control/screenshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct picture {
    unsigned width, height;
    uint8_t *rgb; /* three bytes a pixel, rows without gaps */
};

/* The display is locked only while it is copied. */
static int take_picture(struct picture *picture, struct display *display)
{
    struct display_viewer viewer;
    struct display_frame frame;

    display_add_viewer(display, &viewer);
    display_refresh(&viewer, &frame);
    *picture = (struct picture){frame.width, frame.height, NULL};
    picture->rgb = malloc((size_t)frame.width * frame.height * 3);
    uint8_t *to = picture->rgb;
    for (unsigned y = 0; to && y < frame.height; y++) {
        const uint32_t *row = frame.pixels + (size_t)y * frame.stride;
        for (unsigned x = 0; x < frame.width; x++) {
            *to++ = (uint8_t)(row[x] >> 16);
            *to++ = (uint8_t)(row[x] >> 8);
            *to++ = (uint8_t)row[x];
        }
    }
    display_release(&viewer);
    display_remove_viewer(&viewer);
    return picture->rgb ? 0 : -ENOMEM;
}

static int write_png(FILE *file, const struct picture *picture)
{
    png_image image = {
        .version = PNG_IMAGE_VERSION,
        .width = picture->width,
        .height = picture->height,
        .format = PNG_FORMAT_RGB,
        .flags = PNG_IMAGE_FLAG_FAST,
    };

    errno = 0;
    int written = png_image_write_to_stdio(&image, file, 0, picture->rgb, 0, NULL);
    png_image_free(&image);
    return written ? 0 : errno ? -errno : -EIO;
}

int screenshot_write(struct display *display, const char *path, struct error *err)
{
    char name[PATH_MAX];
    struct picture picture;
    FILE *file = NULL;

    if (snprintf(name, sizeof(name), "%s.XXXXXX", path) >= (int)sizeof(name))
        return error_set(err, -ENAMETOOLONG, "'%s' is too long a path", path);
    int result = take_picture(&picture, display);
    if (result)
        return error_set(err, result, "no memory for a picture of the screen");
    int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0 || fchmod(fd, 0644) || !(file = fdopen(fd, "wb"))) {
        result = -errno;
        if (fd >= 0)
            close(fd);
    } else {
        result = write_png(file, &picture);
        if (fclose(file) && !result)
            result = -errno;
        if (!result && rename(name, path))
            result = -errno;
    }
    free(picture.rgb);
    if (result && fd >= 0)
        unlink(name);
    return result ? error_set(err, result, "cannot write '%s': %s", path, strerror(-result)) : 0;
}
