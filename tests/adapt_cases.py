"""What makes an adaptation a matter of seconds."""

SHORT = (
    *("NPLP.ITERATIONS", "2", "NPLP.EPOCHS_PER_ITERATION", "1", "NPLP.STEPS_PER_EPOCH", "2"),
    *("INPUT.SIZE_TRAIN", "[32,16]", "INPUT.SIZE_TEST", "[32,16]", "SOLVER.IMS_PER_BATCH", "16"),
    *("MODEL.DEVICE", "cpu", "INPUT.PADDING.SIZE", "2"),
)
