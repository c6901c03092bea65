"""Tools that test Lockmaster and programs that use it."""
