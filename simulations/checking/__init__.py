"""What must hold, while a run goes on and once it has settled.

`settling` waits for agreement, as long as `patience` allows; `checkers` says what it is,
and `merging` merges. `watching` looks at `bounds` and `bans` all along.
"""
