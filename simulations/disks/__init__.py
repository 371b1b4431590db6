"""Disks of simulated machines, and what is left of them.

`disk` is the port that the real store writes to, `sqlite_files` SQLite's way there,
`disk_faults` what strikes an operation, `power_loss` what a loss of power leaves, `storage`
what a machine keeps, and `mending` what its person does with damage. Owns no machine.
"""
