"""What `planner.supervise` is made of: state, doors, kept tails and last resorts."""
