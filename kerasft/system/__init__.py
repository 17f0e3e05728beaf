"""What every part rests on: console, files, the cache, folders that may come from anybody."""
