"""Detection and proposals on a Ray cluster, with results in Parquet files."""
