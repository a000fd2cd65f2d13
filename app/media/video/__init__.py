"""Videos: location of ffmpeg, its command lines, ffprobe's output, the decision whether to transcode. Runs no process."""
