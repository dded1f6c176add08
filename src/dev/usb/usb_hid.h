/*
 * What USB input devices have in common: one interface of the HID class with one interrupt
 * endpoint, and reports that wait for it. Device Class Definition for Human Interface Devices 1.11.
 * Used by usb_tablet.c and usb_keyboard.c alone; the locks are those of usb.h.
 */
#ifndef SILL_DEV_USB_USB_HID_H
#define SILL_DEV_USB_USB_HID_H

#include "dev/input/input.h"
#include "dev/usb/usb.h"

#define HID_ENDPOINT 1
#define HID_REPORT_MAX 8
#define HID_QUEUE 16
#define HID_IDLE_UNIT_NS 4000000u
#define HID_CONFIGURATION_LENGTH 34 /* configuration, interface, HID, endpoint */

/* 4.3: interfaces that firmware understands without their report descriptors */
enum hid_protocol { HID_PROTOCOL_NONE = 0, HID_PROTOCOL_KEYBOARD = 1 };

struct hid_model {
    uint16_t product;
    const char *name;
    enum hid_protocol protocol;
    const uint8_t *report_descriptor;
    unsigned report_descriptor_length;
    unsigned report_length;
    unsigned interval; /* ms between two questions of a controller that polls */
    const struct device_ops *device_ops;
    const struct input_sink_ops *sink_ops;
    /* The device is as after a reset. Lock held. */
    void (*reset)(struct usb_device *usb);
};

struct hid {
    struct usb_device usb;
    const struct hid_model *model;
    struct input *input;
    struct input_sink sink;
    uint8_t device_descriptor[USB_DEVICE_DESCRIPTOR_LENGTH];
    uint8_t configuration_descriptor[HID_CONFIGURATION_LENGTH];
    const char *strings[2];
    struct usb_descriptors descriptors;

    /* usb.lock */
    uint8_t report[HID_QUEUE][HID_REPORT_MAX]; /* those that wait, the oldest at `head` */
    uint8_t head, count;
    uint8_t now[HID_REPORT_MAX]; /* the latest */
    uint8_t idle; /* 7.2.4, in units of HID_IDLE_UNIT_NS; 0: changes alone are told */
    uint8_t report_protocol;
    uint8_t output; /* the latest output report: a keyboard's lights */
};

/* STATE_STRUCT(struct my, hid, hid_fields) */
extern const struct state_field hid_fields[];
/* For post_load: refuses what cannot be. */
SILL_CHECKED int hid_check(const struct hid *hid, struct error *err);

/* Adds the sink. */
void hid_init(struct hid *hid, const char *name, const struct hid_model *model, struct input *input,
              void *state_object);
void hid_done(struct hid *hid);

/* Lock held: the report that was queued last and that nobody has taken; NULL: all were. */
uint8_t *hid_last(struct hid *hid);
/* Lock held: another report; in a full queue it takes the place of the last, so that what it says
 * holds in the end. */
void hid_push(struct hid *hid, const uint8_t *report);
/* Lock not held: has the host take what was queued. */
void hid_wake(struct hid *hid);

/* For sinks: is the guest waiting for reports? Has it taken all? */
bool hid_in_use(void *hid);
bool hid_is_empty(void *hid);

#endif
