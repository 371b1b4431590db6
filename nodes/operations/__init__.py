"""What a user can ask of a home: one module a verb, or a few that go together.

The table of all verbs is `verbs`. Nothing is imported here: a command that needs one verb
starts with that one alone.
"""
