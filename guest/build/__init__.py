"""Makes the guest's root file system and the builtin image out of the files of this host; downloads nothing."""
