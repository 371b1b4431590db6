"""Whether kernels and strategies write the same bytes on other platforms.

A platform is a Python, its libraries, and switches that have them take other code paths.
`rows` names the platforms, `worker` computes on one in a process of its own, `canaries`
shows that a switch did something, `command` compares with the golden digests and tells.
"""
