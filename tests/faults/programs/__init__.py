"""Programs that use this package as users do, to be killed or starved by tests."""
