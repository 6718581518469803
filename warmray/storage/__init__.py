"""The home folder, content digests, and the keyed Parquet store."""
