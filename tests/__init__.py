"""The tests of crdtmerge; a package so that shared parts import by one name."""
