"""Looking for a seed that fails, and for the least that still does.

`attempts` performs one run and keeps what is known of a failure. `workers` performs many
side by side, in their order. `tally` counts. `shrinking` finds the least, and `hunt` is the
whole course. Owns no story.
"""
