"""Tests that run real processes, sockets and disks."""
