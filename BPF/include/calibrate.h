/* What a calibration's BPF programs and the tracer share. */
#ifndef KVMTAX_CALIBRATE_H
#define KVMTAX_CALIBRATE_H

/* Room for the spans of one lap, a power of two: the tiny guest's most deeds a lap, and one for its end. */
#define KT_SPANS 1024
/* Most turns of the delay's loop: the verifier walks through each of them. */
#define KT_DELAY_STEPS 4096
#endif
