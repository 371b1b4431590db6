"""Golden bytes: written once, compared for ever."""
