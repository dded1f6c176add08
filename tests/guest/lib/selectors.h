/* Segment selectors of the test guests' GDT (boot.S), for C and assembler. */
#define SEL_CODE 0x08
#define SEL_DATA 0x10
#define SEL_CODE32 0x18
#define SEL_USER_CODE32 0x23 /* from here on in the order that SYSRET wants */
#define SEL_USER_DATA 0x2b
#define SEL_USER_CODE 0x33
#define SEL_TSS 0x40
#define SEL_SPARE 0x50 /* two entries for tests to fill */
