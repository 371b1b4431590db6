"""The backend for GPUs: torch operations that are each one IEEE or integer operation.

Owns forms of the kernels whose readable form is `numerics.reference`. Does not own their
meaning: each is used only after its bits were found equal (`backends`).

What keeps the bits. All arithmetic on weights is in float64, eagerly: each operation is a
kernel of its own, so no compiler sees two of them and none is fused. Used are `+ - *`,
tensor by tensor division, square roots (`device.square_root`), comparisons, choices,
integer operations, views of bits, and casts that are exact or (float64 to float32) one
rounding to nearest. Not used: anything with `alpha`, `lerp`, `addcmul`, `addcdiv`; sums,
norms and products of matrices but of exact integers; division by a number that torch
takes as an argument, which CUDA makes a product with the reciprocal
(`device.divided`); casts to 16 bits, which round twice (`formats`).

The same code runs on torch's CPU device, where tests run it (`device.on_device`).
"""
