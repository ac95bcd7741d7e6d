"""The commands of `dualdrive`, one file each."""
