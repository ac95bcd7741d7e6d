"""The checker's rules, one topic a module; each returns what it found as `Finding`."""
