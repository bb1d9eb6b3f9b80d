"""What `engine-ops doctor` looks at, one part a file."""
