"""The reference path, what of the road beside it may be used, and how fast it may be driven."""
