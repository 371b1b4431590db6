"""How often `inspect` finds what was done to a fine-tune, and cries over nothing."""
