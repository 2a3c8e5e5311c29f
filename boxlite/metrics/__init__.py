"""What runtimes and boxes have done, as numbers."""
