"""Coverage-guided fuzzing of every decoder of outside bytes: docs/fuzzing.md, ADR 42."""
