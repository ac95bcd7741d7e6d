"""Which candidates there are, what each has to respect, and what it is worth."""
