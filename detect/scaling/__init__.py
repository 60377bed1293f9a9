"""More photos than one machine can take: the same detector on a Ray cluster, results as Parquet files."""
