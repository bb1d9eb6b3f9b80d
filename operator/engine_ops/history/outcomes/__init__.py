"""What became of the workloads that answers were for."""
