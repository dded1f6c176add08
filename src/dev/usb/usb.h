/*
 * What lies between a host controller and the devices plugged into it. Universal Serial Bus
 * specification 2.0, chapters 8 and 9.
 *
 * Nobody polls. An IN transfer that finds nothing is answered with USB_NAK and forgotten; when the
 * device has something it calls its port's wake(), and the controller asks again.
 *
 * A device embeds `struct usb_device` as its first member. It is a device of the board by itself,
 * with a lifecycle and a state of its own (dev/device.h), and is taken down before its controller.
 *
 * Threads: transfers come on vCPU threads, and on whichever thread wakes the port; input from
 * outside comes on any. Locks, outermost first: the input hub's, the controller's, the device's.
 */
#ifndef SILL_DEV_USB_USB_H
#define SILL_DEV_USB_USB_H

#include <pthread.h>

#include "dev/device.h"

/* Of a control transfer, either way; what is longer is refused. */
#define USB_CONTROL_MAX 256

enum usb_result {
    USB_OK,
    USB_NAK, /* nothing to send now */
    USB_STALL,
};

/* As xHCI numbers them in PORTSC, 5.4.8. */
enum usb_speed { USB_FULL_SPEED = 1, USB_LOW_SPEED = 2, USB_HIGH_SPEED = 3 };

/* 9.3, table 9-2 */
struct usb_setup {
    uint8_t type; /* bmRequestType */
    uint8_t request;
    uint16_t value;
    uint16_t index;
    uint16_t length;
};

/* bmRequestType */
#define USB_TYPE_IN 0x80u
#define USB_TYPE_KIND 0x60u
#define USB_TYPE_STANDARD 0x00u
#define USB_TYPE_CLASS 0x20u
#define USB_TYPE_RECIPIENT 0x1fu
#define USB_TYPE_DEVICE 0x00u
#define USB_TYPE_INTERFACE 0x01u
#define USB_TYPE_ENDPOINT 0x02u

/* bRequest, table 9-4 */
enum usb_request {
    USB_GET_STATUS = 0,
    USB_CLEAR_FEATURE = 1,
    USB_SET_FEATURE = 3,
    USB_GET_DESCRIPTOR = 6,
    USB_GET_CONFIGURATION = 8,
    USB_SET_CONFIGURATION = 9,
    USB_GET_INTERFACE = 10,
    USB_SET_INTERFACE = 11,
};

#define USB_DEVICE_DESCRIPTOR_LENGTH 18 /* table 9-8 */

/* Table 9-5 */
enum usb_descriptor {
    USB_DESCRIPTOR_DEVICE = 1,
    USB_DESCRIPTOR_CONFIGURATION = 2,
    USB_DESCRIPTOR_STRING = 3,
    USB_DESCRIPTOR_INTERFACE = 4,
    USB_DESCRIPTOR_ENDPOINT = 5,
};

/* Where a device is plugged in; the controller's. */
struct usb_port {
    const struct usb_port_ops *ops;
};

struct usb_port_ops {
    /* IN endpoint `endpoint` has something to send. Any thread, the device's lock not held. */
    void (*wake)(struct usb_port *port, unsigned endpoint);
    /* Is the guest waiting for that endpoint? Threads as above. */
    bool (*listens)(struct usb_port *port, unsigned endpoint);
};

struct usb_device;

/* All with the device's lock held. */
struct usb_device_ops {
    /* Back to what it is after a reset of the bus, or when another configuration is chosen. */
    void (*reset)(struct usb_device *usb);
    /* A request of chapter 9 that only the device can answer, or one of its class. `data` has
     * USB_CONTROL_MAX bytes: *length that came, or the answer, of *length then. */
    enum usb_result (*request)(struct usb_device *usb, const struct usb_setup *setup, uint8_t *data,
                               unsigned *length);
    /* One IN transfer of up to `size` bytes. */
    enum usb_result (*in)(struct usb_device *usb, unsigned endpoint, uint8_t *data, unsigned size,
                          unsigned *length);
};

/* What a device says of itself; constant. The one configuration has the value 1. */
struct usb_descriptors {
    const uint8_t *device;
    const uint8_t *configuration; /* with all that belongs to it */
    unsigned configuration_length;
    const char *const *strings; /* from index 1 on, ASCII */
    unsigned string_count;
    uint16_t in_endpoints; /* bit per number */
};

struct usb_device {
    struct device dev; /* its ops and name are the model's to fill */
    const struct usb_device_ops *ops;
    const struct usb_descriptors *descriptors;
    enum usb_speed speed;
    struct usb_port *port; /* fixed once it is plugged in */

    pthread_mutex_t lock; /* all below, and what the model has */
    uint8_t configuration;
    uint16_t halted; /* bit per IN endpoint */
};

/* STATE_STRUCT(struct my, usb, usb_device_fields) */
extern const struct state_field usb_device_fields[];
/* May those be loaded? */
bool usb_device_is_valid(const struct usb_device *usb);

/* ---- for the model, usb_device.c ---- */

void usb_device_init(struct usb_device *usb, const struct usb_device_ops *ops,
                     const struct usb_descriptors *descriptors, enum usb_speed speed);
void usb_device_done(struct usb_device *usb);

/* ---- for the controller: these take the lock ---- */

/* A reset of the bus. */
void usb_device_reset(struct usb_device *usb);
/* A whole control transfer; `data` and *length as usb_device_ops.request(). */
enum usb_result usb_device_control(struct usb_device *usb, const struct usb_setup *setup,
                                   uint8_t *data, unsigned *length);
enum usb_result usb_device_in(struct usb_device *usb, unsigned endpoint, uint8_t *data,
                              unsigned size, unsigned *length);

#endif
