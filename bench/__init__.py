"""Side-by-side measurements against what a user would pick instead. They report, and never fail on a time."""
