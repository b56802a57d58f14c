"""A night's videos in one task: what is asked for, read and checked as a whole before the first one is paid for."""
