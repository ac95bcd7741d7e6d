"""Studies: many drives with one question. Each is resumable, and every drive can be repeated by one command."""
