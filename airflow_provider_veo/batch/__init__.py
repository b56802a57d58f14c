"""A batch of videos in one task. The whole input is read and validated before the first video is billed."""
