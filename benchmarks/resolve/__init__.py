"""Whole merges beside mergekit's: time, processors, memory. Owns nothing itself."""
