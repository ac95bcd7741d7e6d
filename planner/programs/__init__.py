"""From a candidate to its convex programs, and from their solutions to a motion."""
