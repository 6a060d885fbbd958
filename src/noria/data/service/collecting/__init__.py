"""What comes in from sources: files, folders, buckets, queries, addresses."""
