"""Many real nodes on this machine: homes, processes, mutual TLS on loopback."""
