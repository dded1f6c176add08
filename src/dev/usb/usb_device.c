/*
 * What every USB device does: the standard requests of USB 2.0, 9.4. See usb.h for the threads.
 */
#include "dev/usb/usb.h"

#include <string.h>

#define CONFIGURATION 1
#define FEATURE_ENDPOINT_HALT 0
#define ENGLISH_US 0x0409

void usb_device_init(struct usb_device *usb, const struct usb_device_ops *ops,
                     const struct usb_descriptors *descriptors, enum usb_speed speed)
{
    usb->ops = ops;
    usb->descriptors = descriptors;
    usb->speed = speed;
    pthread_mutex_init(&usb->lock, NULL);
}

void usb_device_done(struct usb_device *usb)
{
    pthread_mutex_destroy(&usb->lock);
}

static void configure(struct usb_device *usb, uint8_t configuration)
{
    usb->configuration = configuration;
    usb->halted = 0;
    usb->ops->reset(usb);
}

void usb_device_reset(struct usb_device *usb)
{
    pthread_mutex_lock(&usb->lock);
    configure(usb, 0);
    pthread_mutex_unlock(&usb->lock);
}

static enum usb_result answer(uint8_t *data, unsigned *length, const void *bytes, unsigned count)
{
    *length = count < USB_CONTROL_MAX ? count : USB_CONTROL_MAX;
    memcpy(data, bytes, *length);
    return USB_OK;
}

/* 9.6.7: UTF-16, and which languages there are at index 0. */
static enum usb_result get_string(const struct usb_descriptors *descriptors, unsigned index,
                                  uint8_t *data, unsigned *length)
{
    if (index > descriptors->string_count)
        return USB_STALL;
    *length = 2;
    if (!index) {
        data[(*length)++] = ENGLISH_US & 0xff;
        data[(*length)++] = ENGLISH_US >> 8;
    } else {
        const char *text = descriptors->strings[index - 1];
        for (; *text && *length + 2 <= USB_CONTROL_MAX - 2; text++) {
            data[(*length)++] = (uint8_t)*text;
            data[(*length)++] = 0;
        }
    }
    data[0] = (uint8_t)*length;
    data[1] = USB_DESCRIPTOR_STRING;
    return USB_OK;
}

static enum usb_result get_descriptor(const struct usb_descriptors *descriptors, uint16_t value,
                                      uint8_t *data, unsigned *length)
{
    unsigned index = value & 0xff;

    switch (value >> 8) {
    case USB_DESCRIPTOR_DEVICE:
        return answer(data, length, descriptors->device, USB_DEVICE_DESCRIPTOR_LENGTH);
    case USB_DESCRIPTOR_CONFIGURATION:
        if (index)
            return USB_STALL;
        return answer(data, length, descriptors->configuration, descriptors->configuration_length);
    case USB_DESCRIPTOR_STRING:
        return get_string(descriptors, index, data, length);
    }
    return USB_STALL;
}

static enum usb_result device_request(struct usb_device *usb, const struct usb_setup *setup,
                                      uint8_t *data, unsigned *length)
{
    static const uint8_t bus_powered[2];

    switch (setup->request) {
    case USB_GET_STATUS:
        return answer(data, length, bus_powered, sizeof(bus_powered));
    case USB_GET_DESCRIPTOR:
        return get_descriptor(usb->descriptors, setup->value, data, length);
    case USB_GET_CONFIGURATION:
        return answer(data, length, &usb->configuration, 1);
    case USB_SET_CONFIGURATION:
        if (setup->value > CONFIGURATION)
            return USB_STALL;
        configure(usb, (uint8_t)setup->value);
        return USB_OK;
    }
    return USB_STALL;
}

/* There is one interface, with one setting. */
static enum usb_result interface_request(struct usb_device *usb, const struct usb_setup *setup,
                                         uint8_t *data, unsigned *length)
{
    static const uint8_t none[2];

    if (!usb->configuration || setup->index)
        return USB_STALL;
    switch (setup->request) {
    case USB_GET_STATUS:
        return answer(data, length, none, sizeof(none));
    case USB_GET_INTERFACE:
        return answer(data, length, none, 1);
    case USB_SET_INTERFACE:
        return setup->value ? USB_STALL : USB_OK;
    }
    return usb->ops->request(usb, setup, data, length);
}

static enum usb_result endpoint_request(struct usb_device *usb, const struct usb_setup *setup,
                                        uint8_t *data, unsigned *length)
{
    unsigned number = setup->index & 0xf;
    uint16_t bit = setup->index & USB_TYPE_IN ? usb->descriptors->in_endpoints & 1u << number : 0;
    uint8_t status[2] = {(usb->halted & bit) != 0, 0};

    if ((!bit || !usb->configuration) && number)
        return USB_STALL;
    switch (setup->request) {
    case USB_GET_STATUS:
        return answer(data, length, status, sizeof(status));
    case USB_CLEAR_FEATURE:
        usb->halted &= (uint16_t)~bit;
        return setup->value == FEATURE_ENDPOINT_HALT ? USB_OK : USB_STALL;
    case USB_SET_FEATURE:
        if (setup->value != FEATURE_ENDPOINT_HALT)
            return USB_STALL;
        usb->halted |= bit;
        return USB_OK;
    }
    return USB_STALL;
}

static enum usb_result request(struct usb_device *usb, const struct usb_setup *setup, uint8_t *data,
                               unsigned *length)
{
    if ((setup->type & USB_TYPE_KIND) != USB_TYPE_STANDARD)
        return usb->configuration ? usb->ops->request(usb, setup, data, length) : USB_STALL;
    switch (setup->type & USB_TYPE_RECIPIENT) {
    case USB_TYPE_DEVICE:
        return device_request(usb, setup, data, length);
    case USB_TYPE_INTERFACE:
        return interface_request(usb, setup, data, length);
    case USB_TYPE_ENDPOINT:
        return endpoint_request(usb, setup, data, length);
    }
    return USB_STALL;
}

enum usb_result usb_device_control(struct usb_device *usb, const struct usb_setup *setup,
                                   uint8_t *data, unsigned *length)
{
    pthread_mutex_lock(&usb->lock);
    unsigned size = setup->type & USB_TYPE_IN ? 0 : *length;
    enum usb_result result = request(usb, setup, data, &size);
    pthread_mutex_unlock(&usb->lock);
    if (result == USB_OK)
        *length = size < setup->length ? size : setup->length;
    return result;
}

enum usb_result usb_device_in(struct usb_device *usb, unsigned endpoint, uint8_t *data,
                              unsigned size, unsigned *length)
{
    uint16_t bit = (uint16_t)(usb->descriptors->in_endpoints & 1u << endpoint);
    enum usb_result result = USB_STALL;

    pthread_mutex_lock(&usb->lock);
    if (usb->configuration && bit && !(usb->halted & bit))
        result = usb->ops->in(usb, endpoint, data, size, length);
    pthread_mutex_unlock(&usb->lock);
    return result;
}

const struct state_field usb_device_fields[] = {
    STATE_INT(struct usb_device, configuration),
    STATE_INT(struct usb_device, halted),
    STATE_END,
};

bool usb_device_is_valid(const struct usb_device *usb)
{
    return usb->configuration <= CONFIGURATION && !(usb->halted & ~usb->descriptors->in_endpoints);
}
