"""The fast backend for CPUs: loops over items, compiled by numba when first used.

Owns compiled forms of the kernels whose readable form is `numerics.reference`. Does not
own their meaning: each is used only after its bits were found equal (`backends`).

Numba brings its own code generator, so no compiler is needed where it runs. `fastmath` is
off: nothing is fused, reordered or approximated. Nothing here is imported before a large
tensor asks for it.
"""
